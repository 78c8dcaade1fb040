"""`resnetlab evaluate` and `resnetlab embed`."""

from collections.abc import Callable, Iterator
from csv import writer as csv_writer
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.table import Table
from torch import Tensor

from resnetlab.cli.common import Count, Place, app, at_least_one, complain, console, say, watched
from resnetlab.data import NAMED, Images, load
from resnetlab.data.labels import spoken
from resnetlab.data.listing import Listing, Split, list_images
from resnetlab.data.photos import OnBad, fitted_batches
from resnetlab.data.preprocessing import open_image
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import TOP, Answers, answers
from resnetlab.evaluation.labels import by_name
from resnetlab.experiments.execution import Device, choose_device
from resnetlab.files import replacing
from resnetlab.inference.engines import open_engine
from resnetlab.inference.predict import find_images, score
from resnetlab.models import Model
from resnetlab.models import load as load_model
from resnetlab.models.modelfile import model_file
from resnetlab.training.run import read_execution

Part = Literal["test", "validation", "train", "all"]
Batch = tuple[Tensor, Tensor]
SHOWN = 20  # classes
WORST = 10
IMAGES_AT_A_TIME = {"cpu": 64, "cuda": 256}


@dataclass(frozen=True)
class Tested:
    """Images to test on: fitted pixels and labels in batches, names, one image's pixels, and what they are."""

    batches: Callable[[int], Iterator[Batch]]
    names: list[str]
    pixels: Callable[[int], np.ndarray]
    classes: tuple[str, ...]
    data: str
    note: str


@app.command
def evaluate(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: Annotated[str | None, tyro.conf.arg(metavar="NAME-OR-PATH")] = None,
    split: Part = "test",
    out: Place = None,
    on_bad: OnBad = "stop",
    device: Device = "auto",
    batch_size: Count = None,
    workers: Count = None,
    data_dir: Place = None,
) -> None:
    """Test a network on a data set's test images, prepared as its model file says.

    Args:
        model: A run folder, or a model file: model.safetensors of one, or what `resnetlab import` made.
        data: The data set; left out, the one it was trained on.
        split: Which images of it. A folder that is not split has a tenth of each class for testing; all takes all.
        out: Write numbers, predictions, tables by class and pictures to this folder.
        on_bad: Stop at a file that cannot be read, or skip and count it.
        device: auto takes the GPU where there is one.
        batch_size: Images at a time.
        workers: Threads that read image files; left out, one a core.
        data_dir: Where cifar10 and cifar100 are, or are downloaded to; left out, where they were in training.
    """
    at_least_one(batch_size=batch_size, workers=workers)
    trained = load_model(model)
    source, where_data = _source(model, trained, data, data_dir)
    skipped: set[str] = set()
    tested = _tested(source, where_data, trained, split, on_bad, workers, skipped)
    if out:
        from resnetlab.report.evaluation import check_folder

        check_folder(out)
    where = choose_device(device)
    found, remark = _answer(trained, tested, where, batch_size or IMAGES_AT_A_TIME[where.type], model, source)
    which = "" if split == "all" else f"{split} "
    top5 = f", top-5 error {found.top5_error:.2f} %" if len(found.classes) > TOP else ""
    say(
        f"{trained.network.architecture.label} on {tested.data}: {which}error {found.error:.2f} % "
        f"({found.errors:,} errors of {len(found):,} {which}images){top5}, single view; {trained.origin}{remark}"
    )
    if skipped:
        complain(f"{len(skipped):,} files could not be read and are not counted, {min(skipped)} among them")
    if tested.note:
        say(f"{tested.data}: {tested.note}")
    if found.at_chance and found.errors:
        complain(
            "That is what guessing gives. Likely causes: names of classes that are not in the order of the outputs, "
            "labels in another order than the images, or weights that were never trained"
        )
    _print_classes(found, out)
    if out:
        write(out, trained, model, tested, found, split)
        say(f"Numbers, tables, confusion matrix and the most confident mistakes: {out}")


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
    tested = _tested(source, where_data, trained, "test", "skip", workers, set())
    where = choose_device("auto")
    found, _ = _answer(trained, tested, where, IMAGES_AT_A_TIME[where.type], folder, source)
    write(folder / "evaluation", trained, folder, tested, found, "test")


def write(folder: Path, trained: Model, model: Path, tested: Tested, found: Answers, split: str) -> None:
    """All files of an evaluation."""
    from resnetlab.report.evaluation import write_evaluation  # matplotlib takes a second to come

    label = trained.network.architecture.label
    about: dict[str, Any] = {
        "title": f"{label} on {tested.data}, {split}",
        "protocol": "single view",
        "model": str(model_file(model)),
        "network": trained.network.architecture.name,
        "data": tested.data,
        "split": split,
        "note": tested.note,
        "preprocessing": trained.preprocessing.fit.describe(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation(folder, found, tested.names, tested.pixels, about)


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
    source: str,
    data_dir: Path,
    trained: Model,
    split: Part,
    on_bad: OnBad,
    workers: int | None,
    skipped: set[str],
) -> Tested:
    if Path(source).is_dir() or source.endswith(".csv"):
        return _of_files(list_images(Path(source)), trained, split, on_bad, workers, skipped)
    return _resident(source, data_dir, trained, split)


def _of_files(
    listing: Listing, trained: Model, split: Part, on_bad: OnBad, workers: int | None, skipped: set[str]
) -> Tested:
    parts = {"test": listing.test, "train": listing.train, "validation": listing.validation}
    if split == "all":
        held = [part for part in parts.values() if part is not None]
        files = tuple(file for part in held for file in part.files)
        chosen = Split(files, np.concatenate([part.labels for part in held]))
    elif (found := parts[split]) is None:
        raise ResnetlabError(f"{listing.name} has no validation images; take --split test, train or all")
    else:
        chosen = found
    fit = trained.preprocessing.fit
    names = [file.name for file in chosen.files]

    def batches(size: int) -> Iterator[Batch]:
        yield from fitted_batches(chosen, fit, size, workers, on_bad, skipped)
        if skipped:
            names[:] = [file.name for file in chosen.files if file.path not in skipped]

    kept = {file.name: file for file in chosen.files}
    note = "" if split == "all" else listing.note
    return Tested(
        batches,
        names,
        lambda k: fit(open_image(kept[names[k]].read(), kept[names[k]].path)),
        listing.classes,
        listing.name,
        note,
    )


def _resident(source: str, data_dir: Path, trained: Model, split: Part) -> Tested:
    images = load(source, data_dir, trained.preprocessing.fit)
    if images.image_shape != trained.preprocessing.image_shape:
        raise ResnetlabError(
            f"{source} has images of shape {images.image_shape}, the model takes {trained.preprocessing.image_shape} "
            "(channels, height, width); both must agree, for arrays are not resized"
        )
    parts = {"test": images.test, "train": images.train}
    if split == "all":
        pairs = [torch.cat(both) for both in zip(*((p.pixels, p.labels) for p in parts.values()), strict=True)]
        chosen = Images(*pairs)
    elif split not in parts:
        raise ResnetlabError(f"{source} has no validation images; take --split test, train or all")
    else:
        chosen = parts[split]

    def batches(size: int) -> Iterator[Batch]:
        for k in range(0, len(chosen), size):
            part = chosen[k : k + size]
            yield part.pixels, part.labels

    names = [f"{split} {k}" for k in range(len(chosen))]
    return Tested(batches, names, lambda k: chosen.pixels[k].numpy(), images.classes, images.name, "")


def _answer(
    trained: Model, tested: Tested, device: torch.device, size: int, model: Path, source: str
) -> tuple[Answers, str]:
    """Labels are matched by the classes' names."""
    count = len(tested.classes)
    try:
        table, remark = by_name(torch.arange(count), tested.classes, trained.classes)
    except ResnetlabError as error:
        raise ResnetlabError(f"{source} and {model}: {error}") from None
    preprocessing, network = trained.preprocessing.to(device), trained.network.to(device)
    total = -(-len(tested.names) // size)

    def prepared() -> Iterator[Batch]:
        for pixels, labels in watched(tested.batches(size), "evaluating", total):
            yield preprocessing(pixels.to(device)), table[labels]

    try:
        return answers(network, prepared(), trained.classes), remark
    except ValueError as error:
        if isinstance(error, ResnetlabError):
            raise
        raise ResnetlabError(f"{source}: none of the images can be read") from None


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
