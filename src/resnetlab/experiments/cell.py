"""One network trained on one data set by one recipe with one seed: from its start, or from where it was left."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetlab.data import Fit, Images, ImageSet, Preprocessing, Stream, load, per_pixel_mean
from resnetlab.evaluation.views import single_view
from resnetlab.experiments.execution import Execution
from resnetlab.files import read_json_lines
from resnetlab.models import Model, save
from resnetlab.networks.measure import set_exact_statistics
from resnetlab.networks.recompute import recomputed
from resnetlab.networks.resnet import Architecture, ResNet, check_image_size
from resnetlab.training.captured import CapturedStep
from resnetlab.training.interrupt import Interrupted, Wish, on_request
from resnetlab.training.loop import Report, Step, Stepped, WarmedUp, launched, objective, start, train
from resnetlab.training.provenance import environment
from resnetlab.training.recipe import Recipe
from resnetlab.training.run import RunFolder

PROTOCOL = "single view, last iteration"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is run. Classes and channels of the network become the data's."""

    source: str
    network: Architecture
    recipe: Recipe
    seed: int = 0
    data_dir: Path = Path("data")
    image_size: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is; errors in percent, None until first measured."""

    step: int
    iterations: int
    train_error: float | None = None
    test_error: float | None = None
    message: str = ""


def load_images(source: str, data_dir: Path, image_size: int | None) -> ImageSet:
    """The images of a cell's source.

    Raises:
        ResnetlabError: they cannot be read.
    """
    return load(source, data_dir, Fit.square(image_size) if image_size else None)


def run(
    cell: Cell, folder: Path, execution: Execution, images: ImageSet | None = None, wish: Wish | None = None
) -> Iterator[Progress]:
    """Train, test and record the cell in its run folder, yielding progress; at once if it is finished there.

    `images` are those of `cell.source`, where they have been loaded already; `wish` is the caller's, where it is the
    caller who listens to Ctrl-C.

    Raises:
        ResnetlabError: the data cannot be read, the network does not fit it, the folder holds another run.
        Interrupted: on Ctrl-C or SIGTERM, after the run was saved.
    """
    images = images or load_images(cell.source, cell.data_dir, cell.image_size)
    images = images.with_validation(cell.recipe.validation)
    channels, height, width = images.image_shape
    row = replace(cell.network, num_classes=len(images.classes), in_channels=channels)
    check_image_size(row, height, width)
    execution.settle(cell.recipe, row.depth, None)  # refuse what cannot be before a folder is made
    config = {
        "data": {
            "name": images.name,
            "fingerprint": images.fingerprint(),
            "split": images.note or "official split",
            "classes": list(images.classes),
        },
        "network": asdict(row),
        "recipe": asdict(cell.recipe),
        "seed": cell.seed,
    }
    with RunFolder.open(folder, config) as record, nullcontext(wish) if wish else on_request() as wish:
        if record.result is None:
            source = str(Path(cell.source).resolve()) if Path(cell.source).exists() else cell.source
            places = {"source": source, "data_dir": str(cell.data_dir.resolve())}
            record.set_execution(execution.settle(cell.recipe, row.depth, record.execution) | places)
            yield from _train(cell, row, images, record, wish)
        else:
            yield Progress(cell.recipe.iterations, cell.recipe.iterations, *last_errors(folder))


def curve(folder: Path) -> list[dict[str, Any]]:
    """The points of a run's curves so far, in order of steps."""
    return [line for line in read_json_lines(folder / "metrics.jsonl") if "event" not in line]


def last_errors(folder: Path) -> tuple[float | None, float | None]:
    """Training and test error at a run's last report, if there was one."""
    points = curve(folder)
    return (points[-1]["train_error"], points[-1]["test_error"]) if points else (None, None)


def _train(cell: Cell, row: Architecture, images: ImageSet, record: RunFolder, wish: Wish) -> Iterator[Progress]:
    recipe, settings = cell.recipe, record.execution
    device = torch.device(settings["device"])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(cell.seed)
    preprocessing = Preprocessing.of_mean_image(per_pixel_mean(images.train.pixels)).to(device)
    network = recomputed(ResNet(row)) if settings["recomputed"] else ResNet(row)
    state = start(network, recipe, device)
    record.resume(state)
    record.log("start", step=state.step, **environment(device))
    progress = Progress(state.step, recipe.iterations, *last_errors(record.path))
    yield replace(progress, message=f"goes on from step {state.step:,}" if state.step else "")

    stream = Stream(
        images.train.to(device), preprocessing.mean, recipe.batch_size, cell.seed, recipe.padding, recipe.flip
    )
    splits = {"test": images.test.to(device)}
    if images.validation is not None:
        splits["validation"] = images.validation.to(device)
    forward = objective(state.network, recipe, device, settings["compiled"], settings["recomputed"])
    take: Step = launched(stream, forward)
    if settings["captured"]:
        take = CapturedStep(stream, forward, device, settings["compiled"])
    for event in train(state, take, recipe):
        match event:
            case WarmedUp():
                record.add_metrics({"event": "warmed_up", **asdict(event)})
            case Report():
                with _uncompiled(settings["compiled"]):
                    line = asdict(event) | _test(state.network, splits, preprocessing)
                record.add_metrics(line)
                record.log("report", step=state.step)
                progress = replace(progress, train_error=line["train_error"], test_error=line["test_error"])
            case Stepped(step):
                progress = replace(progress, step=step)
                record.save_if_due(state)
                if wish.to_stop and step < recipe.iterations:
                    record.save(state)
                    record.log("interrupted", step=step)
                    raise Interrupted(f"stopped at step {step:,} and saved; the same command goes on from there")
                yield progress
    record.save(state)
    errors = {key: value for key, value in curve(record.path)[-1].items() if key.endswith(("_error", "_loss"))}
    if recipe.exact_statistics:
        with _uncompiled(settings["compiled"]):
            pixels = torch.split(stream.images.pixels, recipe.batch_size)
            set_exact_statistics(network, (preprocessing(part) for part in pixels if len(part) == recipe.batch_size))
            errors |= _test(network, splits, preprocessing)
    _finish(record, network, preprocessing, {"errors": errors, "images": len(images.test)}, state.warmed_up_at)


def _uncompiled(compiled: bool) -> AbstractContextManager[Any]:
    """Where compiled blocks run as they are, for a test's batches have other shapes, and it is soon over."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _finish(
    record: RunFolder, network: ResNet, preprocessing: Preprocessing, found: dict[str, Any], warmed_up_at: int | None
) -> None:
    """Write the model file and the result, which marks the run as finished."""
    finished = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(next(network.parameters()).device),
    }
    provenance = {key: record.config[key] for key in ("data", "recipe", "seed")} | finished
    classes = tuple(record.config["data"]["classes"])
    save(Model(network, preprocessing, classes, provenance), record.path / "model.safetensors")
    exact = ", exact batch-norm statistics" if record.config["recipe"]["exact_statistics"] else ""
    validated = [point for point in curve(record.path) if "validation_error" in point]
    best = min(validated, key=lambda point: point["validation_error"], default={})
    chosen = {key: best[key] for key in ("step", "validation_error", "test_error") if best}
    record.finish(
        {
            "protocol": PROTOCOL + exact,
            **found["errors"],
            **({"best_on_validation": chosen} if chosen else {}),
            "test_images": found["images"],
            "warmed_up_at": warmed_up_at,
            **finished,
        }
    )
    record.log("finished")


def _test(network: torch.nn.Module, splits: dict[str, Images], preprocessing: Preprocessing) -> dict[str, float]:
    """Error and loss of each split."""
    found: dict[str, float] = {}
    for name, images in splits.items():
        counts = single_view(network, images, preprocessing, 500 if images.pixels.device.type == "cpu" else 2500)
        found |= {f"{name}_error": counts.error, f"{name}_loss": counts.loss}
    return found
