"""What `evaluate`, `predict` and `train` do for detection, and `resnetlab detect`."""

import json as json_lines
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from resnetlab.choices import DeviceName
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, counted, main_process, print_table, say, watched
from resnetlab.cli.option_groups import DetectionSettings, Outputs
from resnetlab.errors import ResnetlabError

if TYPE_CHECKING:
    from resnetlab.cli.evaluation import TestData, TestSettings
    from resnetlab.detection.model import DetectionModel
    from resnetlab.runs.settings import Settings
    from resnetlab.tasks.detection import Found
    from resnetlab.tasks.detectors import DetectionSet, Detectors, Measured

PICTURES = 12
LIKELY = 0.5  # least score in pictures and on the terminal


@command
def detect(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES-or-FOLDER", help_behavior_hint="")
    ],
    /,
    *,
    to: Outputs = Outputs(),  # noqa: B008 -- frozen
    score: float = LIKELY,
    detector: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTION=VALUE ...", help_behavior_hint="")] = (),
    with_: Annotated[tuple[Path, ...], tyro.conf.arg(name="with", metavar="MODEL ...", help_behavior_hint="")] = (),
    scales: tuple[int, ...] = (),
    settings: DetectionSettings = DetectionSettings(),  # noqa: B008 -- frozen
) -> None:
    """Find objects in images with a trained detector. `predict` does it with fewer options.

    Example: resnetlab detect runs/cells images --out pictures

    Args:
        model: A run folder or a model file of detection.
        images: Image files, and folders that are searched at any depth.
        to: Where the boxes go: a .csv file has image, class, score, corners in pixels; a .json file COCO's format of
            results; a folder the pictures with boxes.
        score: Least score of an object, from 0 to 1.
        detector: Other options of testing, e.g. refine=yes nms=0.5.
        with_: More detectors of the same classes, as an ensemble.
        scales: Shorter sides in pixels for multi-scale testing.
        settings: How the network is run.
    """
    if not 0 <= score < 1:
        raise ResnetlabError(f"`score={score:g}`: it must be at least 0 and less than 1")
    if any(text.startswith("score=") for text in detector):
        raise ResnetlabError("give the score threshold as `score`, not as an option of the detector")
    options = (f"score={score}", *detector, *option_of(scales))
    find((model, *with_), images, to, options, settings)


def option_of(scales: tuple[int, ...]) -> tuple[str, ...]:
    """The scales of testing as an option of the detector, if any are given."""
    return (f"scales={','.join(map(str, sorted(set(scales))))}",) if scales else ()


def find(
    models: tuple[Path, ...],
    images: tuple[Path, ...],
    to: Outputs,
    options: tuple[str, ...],
    settings: DetectionSettings,
) -> None:
    """Find objects in images, and print or write them."""
    at_least_one(settings)
    from resnetlab.data.boxes import Detections
    from resnetlab.data.preprocessing import read_image
    from resnetlab.files import places_under, refuse_inside, replacing
    from resnetlab.inference.predict import find_images
    from resnetlab.report.detection_files import drawn, objects, write_coco, write_csv
    from resnetlab.tasks.detectors import find_in_files

    pictures, tables = to.folder, to.tables
    paths = find_images(images)
    if pictures:
        refuse_inside(pictures, paths, "out")
    detectors = read_detectors(models, options, settings.device, settings.threads)
    places = places_under(pictures, paths, ".jpg") if pictures else {}
    skipped = set[str]()
    found: dict[str, Detections] = {}
    began = time.perf_counter()
    tell = complain if to.json else say
    each = find_in_files(detectors, paths, settings.workers, None if settings.on_bad == "stop" else skipped)
    for path, detections in watched(each, "detecting", len(paths), aside=to.json):
        found[str(path)] = detections
        if to.json:
            print(json_lines.dumps({"image": str(path), "objects": objects(detections, detectors.classes)}))
        elif not tables:
            say(f"{path}: {_in_words(detections, detectors.classes)}")
        if pictures is not None:
            with replacing(places[path]) as temporary:
                drawn(read_image(path), detections, detectors.classes).save(temporary, format="jpeg", quality=90)
    seconds = time.perf_counter() - began
    for table in tables:
        if table.suffix == ".csv":
            write_csv(table, found, detectors.classes)
        else:
            write_coco(table, found, {}, ())
    written = ", ".join(map(str, (*tables, *([pictures] if pictures else []))))
    count, boxes = len(found), sum(map(len, found.values()))
    tell(
        f"{counted(boxes, 'object')} in {counted(count, 'image')} in {seconds:.1f} s, {count / seconds:.1f} images/s"
        + (f": {written}" if written else "")
    )
    if count and not boxes:
        least = detectors.models[0].options.score
        complain(
            f"Nothing has a score of at least {least:g}; `score={least / 5:.1g}` shows less certain objects. "
            f"{about(detectors.models[0])}"
        )
    for name in sorted(skipped):
        is_there = Path(name).exists()
        complain(f"{name} is not a readable image; repair or remove it" if is_there else f"{name} does not exist")
    if skipped and settings.on_bad is None:
        raise ResnetlabError(f"{len(skipped):,} of {len(paths):,} files could not be read; they are named above")


def read_detectors(
    paths: tuple[Path, ...],
    options: tuple[str, ...],
    device: DeviceName,
    threads: int | None,
) -> "Detectors":
    """The detectors with other options of testing.

    Raises:
        ResnetlabError: see `Detectors.read`; or `resnetlab[detection]` is not installed.
    """
    import torch

    from resnetlab.detection.options import DetectorOptions, parse_test_options
    from resnetlab.models.modelfile import CLASSIFICATION, task_of
    from resnetlab.models.published import published
    from resnetlab.runs.settings import choose_device
    from resnetlab.tasks.named import detection_task
    from resnetlab.training.distributed import World

    detection_task(DetectorOptions())  # raises if a package is missing
    if threads:
        torch.set_num_threads(threads)
    for path in paths:
        if task_of(path) == CLASSIFICATION if path.exists() else published(str(path)):
            raise ResnetlabError(f"{path} is no detector; `resnetlab predict` takes models for classification")
    given = parse_test_options(options)
    from resnetlab.tasks.detectors import Detectors

    return Detectors.read(paths, given, World.here().device(choose_device(device).type))


def evaluate_detector(
    paths: tuple[Path, ...],
    on: "TestData",
    settings: "TestSettings",
    options: tuple[str, ...],
    out: Path | None,
) -> None:
    """Measure a detector, or several together, on a split of images with boxes."""
    if settings.precision != "float32":
        raise ResnetlabError("`precision` takes no effect in detection, which is in float32")
    if settings.batch_size is not None:
        raise ResnetlabError("`batch_size` takes no effect in detection: images have sizes of their own")
    from resnetlab.cli.evaluation import source_of
    from resnetlab.files import refuse_others
    from resnetlab.report.detection_files import FILES
    from resnetlab.tasks.detectors import find_all, images_with_boxes, measure
    from resnetlab.training.distributed import joined

    if out:
        refuse_others(out, FILES)
    detectors = read_detectors(paths, options, settings.device, settings.threads)
    model = detectors.models[0]
    images = images_with_boxes(model, *source_of(paths[0], model.provenance, on), on.split)
    with joined(detectors.device):
        began = time.perf_counter()
        watch = lambda items, total: watched(items, "detecting", total)
        found = find_all(detectors, images, settings.workers, on.on_bad, watch)
        seconds = time.perf_counter() - began
    measured = measure(found, len(detectors.classes))
    tell(detectors, images, found, measured)
    say(f"{counted(len(found.numbers), 'image')} in {seconds:.1f} s, {len(found.numbers) / seconds:.1f} images/s")
    if images.skipped:
        complain(
            f"{counted(len(images.skipped), 'file')} could not be read, {min(images.skipped)} among them: neither "
            "images nor boxes are counted"
        )
    if out and main_process:
        write(out, detectors, images, found, measured)
        say(f"Numbers, detections (CSV and COCO's JSON) and pictures (annotated boxes in yellow): {out}")


def evaluation_of_run(folder: Path, settings: "Settings") -> None:
    """Evaluate a finished run's detector on its test images into its folder, unless this was done."""
    from resnetlab.cli.evaluation import TestData, TestSettings
    from resnetlab.runs.stored import evaluation_folder

    if evaluation_folder(folder).exists():
        return
    how = TestSettings(device=settings.device, threads=settings.threads, workers=settings.workers)
    evaluate_detector((folder,), TestData(on_bad="skip"), how, (), evaluation_folder(folder))


def tell(detectors: "Detectors", images: "DetectionSet", found: "Found", measured: "Measured") -> None:
    """Print the average precision by each rule, each named, over all classes and by class."""
    from resnetlab.report.record import Table

    model, coco = detectors.models[0], measured.coco
    several = f"{len(detectors.models)} detectors together" if len(detectors.models) > 1 else title(model)
    counts = f"{counted(len(found.numbers), 'image')}, {counted(_boxes(found), 'box', 'boxes')}"
    say(f"{several} on {images.dataset.name}, {images.split}: {counts}")
    say(
        f"COCO, 101 points: AP50 {_share(coco.ap50)} %, AP75 {_share(coco.ap75)} %, "
        f"AP (IoU 0.5 to 0.95) {_share(coco.ap)} %"
    )
    say(
        f"Pascal VOC, IoU 0.5: mAP {_share(measured.voc07_mean)} % by 11 points (VOC 2007), "
        f"{_share(measured.voc10_mean)} % by area (VOC 2010 and later)"
    )
    rows = []
    for k, name in enumerate(detectors.classes):
        boxes = int(measured.matches[k].positives.sum())
        values = (coco.class_ap50[k], coco.class_ap[k], measured.voc07[k], measured.voc10[k])
        if boxes:
            rows.append((name, f"{boxes:,}", *map(_share, values)))
    header = ("class", "boxes", "AP50 %", "AP %", "11 points %", "area %")
    print_table(Table(header, tuple(rows), about(model)))


def title(model: "DetectionModel") -> str:
    """The network, with its width."""
    row = model.network.architecture
    return f"Faster R-CNN, {row.title}" + (f" of 1/{row.narrow} width" if row.narrow > 1 else "")


def about(model: "DetectionModel") -> str:
    """How images are scaled and what is done with what is found."""
    options, fit = model.options, model.preprocessing.fit
    sides = options.scales or (min(fit.resize),)
    parts = [f"Shorter side {', '.join(map(str, sides))} pixels", f"{options.test_proposals} proposals"]
    parts += [f"NMS at IoU {options.nms:g}"]
    parts += [f"box refinement, voting at IoU {options.voting:g}"] * options.refine
    parts += ["global context"] * options.context
    fixed = model.provenance.get("recipe", {}).get("batch_norm") == "fixed"
    parts += ["batch norm fixed to the starting weights'" if fixed else "batch norm trained"]
    return "; ".join(parts) + "."


def write(folder: Path, detectors: "Detectors", images: "DetectionSet", found: "Found", measured: "Measured") -> None:
    """Write all files of an evaluation."""
    from resnetlab.files import places_under, replacing, write_json
    from resnetlab.report.detection_files import drawn, table, write_coco, write_csv

    folder.mkdir(parents=True, exist_ok=True)
    names, model = images.images.names, detectors.models[0]
    by_name = {names[number]: each for number, each in zip(found.numbers, found.detections, strict=True)}
    write_csv(folder / "detections.csv", by_name, detectors.classes)
    known = images.dataset
    same = known.classes == detectors.classes
    write_coco(folder / "detections.json", by_name, known.image_ids, known.category_ids if same else ())
    values = {key: value for key, value in asdict(measured.coco).items() if not key.startswith("class_")}
    said: dict[str, Any] = {"model": title(model)} if len(detectors.models) == 1 else {}
    said |= {"ensemble": [title(each) for each in detectors.models]} if len(detectors.models) > 1 else {}
    said |= {"data": known.name, "split": images.split, "about": about(model)}
    said |= {"images": len(found.numbers), "boxes": _boxes(found), "coco_101_points": values}
    said |= {"voc_2007_11_points": measured.voc07_mean, "voc_2010_area": measured.voc10_mean}
    write_json(folder / "metrics.json", said | {"options": asdict(model.options)})
    with table(folder / "per_class.csv", ("class", "boxes", "ap50", "ap", "voc_11_points", "voc_area")) as writer:
        for k, name in enumerate(detectors.classes):
            values_of = (measured.coco.class_ap50[k], measured.coco.class_ap[k], measured.voc07[k], measured.voc10[k])
            shown = ["" if value is None else f"{value:.6f}" for value in values_of]
            writer.writerow([name, int(measured.matches[k].positives.sum()), *shown])
    pictures = folder / "pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    drawn_numbers = found.numbers[:PICTURES]
    places = places_under(pictures, [Path(names[number]) for number in drawn_numbers], ".jpg")
    for place, number in enumerate(drawn_numbers):
        likely = found.detections[place].above(LIKELY)
        picture = drawn(images.images.open(number), likely, detectors.classes, found.truth[place])
        with replacing(places[Path(names[number])]) as temporary:
            picture.save(temporary, format="jpeg", quality=90)


def _in_words(detections: Any, classes: tuple[str, ...]) -> str:
    """How many objects of each class there are in an image, and their scores."""
    scores: dict[int, list[float]] = {}
    for number, score in zip(detections.classes.tolist(), detections.scores.tolist(), strict=True):
        scores.setdefault(number, []).append(score)
    parts = []
    for number, each in sorted(scores.items(), key=lambda item: -len(item[1])):
        several, least = (f" x{len(each)}", f" to {min(each):.0%}") if len(each) > 1 else ("", "")
        parts.append(f"{classes[number]}{several} ({max(each):.0%}{least})")
    return ", ".join(parts) or "nothing found"


def _boxes(found: "Found") -> int:
    return int((~found.truth.ignored).sum())


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
