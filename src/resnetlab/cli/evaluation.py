"""`resnetlab evaluate` and `resnetlab embed`."""

import time
from csv import writer as csv_writer
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.table import Table

from resnetlab.cli.common import Count, Place, app, at_least_one, complain, console, say, watched
from resnetlab.data import NAMED
from resnetlab.data.labels import imagenet, spoken
from resnetlab.data.reading import OnBad
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import TOP, Answers
from resnetlab.evaluation.evaluate import EvaluationSet, Part, images_for
from resnetlab.evaluation.evaluate import evaluate as test
from resnetlab.evaluation.protocol import Protocol, ProtocolName
from resnetlab.evaluation.protocol import protocol as chosen_protocol
from resnetlab.evaluation.scores import Precision as TestPrecision
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.execution import Device, choose_device
from resnetlab.files import replacing
from resnetlab.inference.engines import open_engine
from resnetlab.inference.predict import find_images, score
from resnetlab.models import Model
from resnetlab.models import load as load_model
from resnetlab.models.modelfile import model_file
from resnetlab.paper.curves import figure4
from resnetlab.paper.tables import printed
from resnetlab.training.distributed import World, joined
from resnetlab.training.run import read_execution

SHOWN = 20  # classes
SMALL_MAP = 3  # positions
WORST = 10


@app.command
def evaluate(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: Annotated[str | None, tyro.conf.arg(metavar="NAME-OR-PATH")] = None,
    protocol: ProtocolName = "center",
    scales: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (),
    split: Annotated[Part | None, tyro.conf.arg(metavar="{test,validation,train,all}")] = None,
    out: Place = None,
    on_bad: OnBad = "stop",
    precision: TestPrecision = "float32",
    device: Device = "auto",
    batch_size: Count = None,
    threads: Count = None,
    workers: Count = None,
    data_dir: Place = None,
) -> None:
    """Test a network on a data set's test images, prepared as its model file says, by one of the paper's protocols.

    Args:
        model: A run folder, or a model file: model.safetensors of one, or what `resnetlab import` made.
        data: The data set; left out, the one it was trained on.
        protocol: center is one view; ten-crop four corners, the centre and their mirror images; dense the whole image
            at several scales, fully convolutionally.
        scales: Shorter sides in pixels for dense; left out, 224 256 384 480 640, in proportion to the model's crop.
        split: Which images of it. Left out, those for testing; of data without a split, for a model that was trained
            elsewhere, all, and else the tenth of each class that training sets apart.
        out: Write numbers, predictions, scores, tables by class and pictures to this folder.
        on_bad: Stop at a file that cannot be read, or skip and count it.
        precision: float32, or bfloat16, which is faster where there are matrix units for it.
        device: auto takes the GPU where there is one.
        batch_size: Views of the model's own size at a time.
        threads: Processor threads of the network; left out, one a core.
        workers: Threads that read image files; left out, one a core.
        data_dir: Where cifar10 and cifar100 are, or are downloaded to; left out, where they were in training.
    """
    at_least_one(batch_size=batch_size, threads=threads, workers=workers)
    if threads:
        torch.set_num_threads(threads)
    trained = load_model(model)
    way = chosen_protocol(protocol, trained.preprocessing.fit, scales)
    source, where_data = _source(model, trained, data, data_dir)
    images = images_for(trained, source, where_data, split, on_bad, workers)
    if protocol == "dense" and min(trained.network.map_size(*trained.preprocessing.fit.crop)) < SMALL_MAP:
        complain(
            f"The last feature map of {max(trained.preprocessing.fit.crop)} pixels is one or two positions, mostly "
            "zero padding; elsewhere dense testing shows the network what it was never trained on"
        )
    if out:
        from resnetlab.report.evaluation import check_folder

        check_folder(out)
    where = choose_device(device)
    rows, columns = trained.preprocessing.fit.crop
    pixels = batch_size * rows * columns if batch_size else None
    with joined(World.here().device(where.type)):
        began = time.perf_counter()
        scored, remark = _tested(
            trained, images, way, World.here().device(where.type), pixels, precision, model, source
        )
        seconds = time.perf_counter() - began
    found = scored.answers()
    row = trained.network.architecture
    width = f" of 1/{row.narrow} width" if row.narrow > 1 else ""
    which = "" if images.split == "all" else f"{images.split} "
    top5 = f", top-5 error {found.top5_error:.2f} %" if len(found.classes) > TOP else ""
    say(
        f"{row.title}{width} on {images.data}: {which}error {found.error:.2f} % "
        f"({found.errors:,} errors of {len(found):,} {which}images){top5}, {scored.about['protocol']}; "
        f"{trained.origin}{remark}"
    )
    if printed := beside(trained, protocol):
        say(printed)
    say(f"{len(found):,} images in {seconds:.1f} s, {len(found) / seconds:.1f} images/s")
    if images.skipped:
        skipped = len(images.skipped)
        complain(f"{skipped:,} files could not be read and are not counted, {min(images.skipped)} among them")
    if images.note:
        say(f"{images.data}: {images.note}")
    if found.at_chance and found.errors:
        from resnetlab.evaluation.chance import likely_cause

        complain(f"That is what guessing gives. {likely_cause(found)}")
    _print_classes(found, out)
    if out and World.here().main:
        write(out, trained, images, scored)
        say(f"Numbers, scores, tables, confusion matrix and the most confident mistakes: {out}")


@app.command
def embed(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES-or-FOLDER")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")],
    device: Device = "auto",
    batch_size: Count = None,
    threads: Count = None,
) -> None:
    """Write the features of images, what the last layer is given: an array (images, features) and the paths.

    Args:
        model: A run folder or a model file.
        images: Image files, and folders of them at any depth.
        out: An .npz file with `features` (float32) and `paths`, or a .csv file.
        device: auto takes the GPU where there is one.
        batch_size: Images at a time.
        threads: Processor threads; left out, one a core.
    """
    at_least_one(batch_size=batch_size, threads=threads)
    if out.suffix not in (".npz", ".csv"):
        raise ResnetlabError(f"--out {out}: expected the name of a file that ends in .npz or .csv")
    paths = find_images(images)
    where = choose_device(device)
    engine = open_engine(model, "torch", device=where, precision="float32", threads=threads, features=True)
    features, read, unreadable = [], [], 0
    found = score(engine, paths, batch_size or (8 if where.type == "cpu" else 128))
    for path, row in watched(found, "embedding", len(paths)):
        if isinstance(row, str):
            unreadable += 1
            complain(row)
        else:
            features.append(row)
            read.append(str(path))
    if features:
        _write_features(out, read, np.stack(features))
        say(f"{out}: {len(features[0]):,} features of {len(features):,} images ({engine.about})")
    if unreadable:
        raise ResnetlabError(f"{unreadable:,} of {len(paths):,} files could not be read; they are named above")


def confusion_of_run(folder: Path, workers: int | None = None) -> None:
    """`evaluation/` in a finished run's folder, on its own test images."""
    trained = load_model(folder)
    source, where_data = _source(folder, trained, None, None)
    images = images_for(trained, source, where_data, "test", "skip", workers)
    way = chosen_protocol("center", trained.preprocessing.fit)
    scored, _ = _tested(trained, images, way, choose_device("auto"), None, "float32", folder, source)
    write(folder / "evaluation", trained, images, scored)


def write(folder: Path, trained: Model, images: EvaluationSet, scored: Scored) -> None:
    """All files of an evaluation."""
    from resnetlab.report.evaluation import write_evaluation  # matplotlib takes a second to come

    title = f"{trained.network.architecture.label} on {images.data}, {images.split}, {scored.about['protocol']}"
    about = {"title": title, **scored.about, "preprocessing": trained.preprocessing.fit.describe()}
    number = {name: k for k, name in enumerate(images.names)}
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation(folder, scored.answers(), scored.names, lambda k: images.pixels(number[scored.names[k]]), about)
    scored.save(folder / "scores.safetensors")


def beside(trained: Model, protocol: ProtocolName) -> str:
    """What the paper, or the authors' release, has for a network by a protocol; nothing where there is nothing."""
    row = trained.network.architecture
    if trained.classes != tuple(imagenet()) or row.narrow > 1:
        return ""
    if (found := printed(row.name, row.shortcut, protocol)) is not None:
        where = f"Table {found.table}" if found.table else "the authors' release"
        top5 = "" if found.top5_error is None else f", top-5 error {found.top5_error:.2f} %"
        return f"The paper's {found.method}: error {found.top1_error:.2f} %{top5} ({where}: {found.protocol})"
    if protocol == "center" and (curve := figure4(row.name, row.shortcut, "val")):
        return (
            f"The paper's {row.label}: error {curve[-1][1]:.1f} % at the end of Figure 4, ImageNet val, 1 centre crop"
        )
    return ""


def _source(model: Path, trained: Model, data: str | None, data_dir: Path | None) -> tuple[str, Path]:
    source, where_data = data, data_dir
    if model.is_dir():
        execution = read_execution(model)
        source, where_data = data or execution["source"], data_dir or Path(execution["data_dir"])
    if source is None:
        source = trained.provenance.get("data", {}).get("name")
        if source not in NAMED:
            known = f"was trained on {source}" if source else "does not say what it was trained on"
            raise ResnetlabError(f"{model} {known}; give the data set to test on with --data")
    return source, where_data or Path("data")


def _tested(
    trained: Model,
    images: EvaluationSet,
    way: Protocol,
    device: torch.device,
    pixels: int | None,
    precision: TestPrecision,
    model: Path,
    source: str,
) -> tuple[Scored, str]:
    total = -(-len(images) // World.here().size)
    watch = lambda items: watched(items, "evaluating", total)
    about = {"model": str(model_file(model))}
    try:
        return test(trained, images, way, device, precision=precision, pixels=pixels, watch=watch, about=about)
    except ResnetlabError as error:
        raise ResnetlabError(str(error) if source in str(error) else f"{source} and {model}: {error}") from None


def _print_classes(found: Answers, out: Path | None) -> None:
    from resnetlab.report.evaluation import worst_first

    rows = found.by_class()
    few = len(rows) <= SHOWN
    title = None if few else f"the {WORST} worst of {len(rows):,} classes" + ("" if out else "; --out FOLDER has all")
    grid = Table("class", "images", "precision", "recall", "F1", title=title)
    for column in grid.columns[1:]:
        column.justify = "right"
    for row in rows if few else worst_first(rows)[:WORST]:
        shares = ("-" if share is None else f"{100 * share:.1f} %" for share in (row.precision, row.recall, row.f1))
        grid.add_row(spoken(row.name), f"{row.images:,}", *shares)
    console.print(grid)


def _write_features(path: Path, names: list[str], features: np.ndarray) -> None:
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, features=features, paths=np.array(names))
            return
        with temporary.open("w", newline="") as text:
            writer = csv_writer(text)
            writer.writerow(["image", *(f"feature_{k}" for k in range(features.shape[1]))])
            writer.writerows([name, *map(str, row.tolist())] for name, row in zip(names, features, strict=True))
