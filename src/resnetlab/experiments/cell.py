"""One network trained on one data set by one recipe with one seed: from its start, or from where it was left."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetlab.data import Stream
from resnetlab.data.photos import PhotoStream
from resnetlab.data.reading import OnBad
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.beginning import fingerprint, take_over
from resnetlab.experiments.execution import Execution
from resnetlab.experiments.material import Data, Material, image_shape, load_data, material, save_mean
from resnetlab.experiments.outcome import Line, best, ended_early, finish, save_model, test_all
from resnetlab.experiments.progress import Meter, Progress
from resnetlab.files import read_json_lines, replacing
from resnetlab.models.importing import read_model
from resnetlab.networks.recompute import recomputed
from resnetlab.networks.resnet import Architecture, ResNet, check_image_size
from resnetlab.training.captured import CapturedStep
from resnetlab.training.distributed import (
    World,
    any_of,
    is_of_another,
    joined,
    led,
    parallel,
    synchronise,
    wait_for_all,
)
from resnetlab.training.interrupt import Interrupted, Wish, on_request
from resnetlab.training.loop import Report, State, Step, Stepped, WarmedUp, launched, objective, start, train
from resnetlab.training.provenance import environment
from resnetlab.training.recipe import Recipe
from resnetlab.training.run import RunFolder, read_execution

ASKED_EVERY = {"cpu": 1, "cuda": 20}  # steps, in several processes, whether any of them is to stop


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is run. Classes and channels of the network become the data's.

    `start` is a file of weights, or a run, to train on from; its head is kept where its classes are the data's.
    """

    source: str
    network: Architecture
    recipe: Recipe
    seed: int = 0
    data_dir: Path = Path("data")
    image_size: int | None = None
    start: Path | None = None
    on_bad: OnBad = "stop"


def load_images(cell: Cell) -> Data:
    """The images of a cell's source.

    Raises:
        ResnetlabError: they cannot be read.
    """
    return load_data(cell.source, cell.data_dir, cell.image_size, cell.recipe.crop)


def run(
    cell: Cell, folder: Path, execution: Execution, images: Data | None = None, wish: Wish | None = None
) -> Iterator[Progress]:
    """Train, test and record the cell in its run folder, yielding progress; at once if it is finished there.

    `images` are those of `cell.source`, where they have been loaded already; `wish` is the caller's, where it is the
    caller who listens to Ctrl-C. Under torchrun all processes run the same cell together.

    Raises:
        ResnetlabError: the data cannot be read, the network does not fit it, the folder holds another run.
        Interrupted: on Ctrl-C or SIGTERM, after the run was saved.
    """
    images = load_images(cell) if images is None else images
    images = images.with_validation(cell.recipe.validation)
    if (cell.recipe.patience or cell.recipe.keep == "best") and images.validation is None:
        raise ResnetlabError(
            f"{images.name} has no validation images to go by; set some apart, e.g. "
            f"--set validation={max(1, len(images.train) // 10)}"
        )
    channels, height, width = image_shape(images, cell.recipe)
    row = replace(cell.network, num_classes=len(images.classes), in_channels=channels)
    check_image_size(row, height, width)
    execution.settle(cell.recipe, row.depth, None)  # refuse what cannot be before a folder is made
    config: Line = {
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
    if cell.start is not None:
        config["start"] = fingerprint(cell.start)
    with ExitStack() as stack:
        record = stack.enter_context(_opened(cell, row, folder, config, execution))
        wish = wish or stack.enter_context(on_request())
        if record.result is None:
            yield from _train(cell, row, images, record, wish)
        else:
            yield Progress(cell.recipe.iterations, cell.recipe.iterations, *last_errors(folder))


def curve(folder: Path) -> list[Line]:
    """The points of a run's curves so far, in order of steps."""
    return [line for line in read_json_lines(folder / "metrics.jsonl") if "event" not in line]


def last_errors(folder: Path) -> tuple[float | None, float | None]:
    """Training and test error at a run's last report, if there was one."""
    points = curve(folder)
    return (points[-1]["train_error"], points[-1]["test_error"]) if points else (None, None)


@contextmanager
def _opened(cell: Cell, row: Architecture, folder: Path, config: Line, execution: Execution) -> Iterator[RunFolder]:
    """The run folder, which the first process opens and settles while the others wait; all of them are joined."""
    device = execution.settle(cell.recipe, row.depth, None)["device"]
    with ExitStack() as stack:
        here = stack.enter_context(joined(World.here().device(device)))

        def open_and_settle() -> RunFolder:
            record = stack.enter_context(RunFolder.open(folder, config))
            if record.result is None:
                source = str(Path(cell.source).resolve()) if Path(cell.source).exists() else cell.source
                places = {"source": source, "data_dir": str(cell.data_dir.resolve())}
                record.set_execution(execution.settle(cell.recipe, row.depth, record.execution) | places)
            return record

        yield led(here, open_and_settle) or RunFolder.follow(folder, config)


def _train(cell: Cell, row: Architecture, images: Data, record: RunFolder, wish: Wish) -> Iterator[Progress]:
    recipe, settings = cell.recipe, read_execution(record.path)
    here = World.here()
    device = here.device(settings["device"])
    torch.set_num_threads(settings["threads"])
    state, given, said = _begin(cell, row, images, device, settings)
    record.resume(state)
    wait_for_all()
    points = curve(record.path)
    record.log("start", step=state.step, command=shlex.join(sys.argv), **environment(device))
    progress = Progress(state.step, recipe.iterations, *last_errors(record.path))
    yield replace(progress, message=f"goes on from step {state.step:,}" if state.step else said)

    mean_file = record.path / "mean.safetensors"
    led(here, lambda: save_mean(images, recipe, mean_file, settings["workers"]))
    found = material(
        images,
        recipe,
        cell.seed,
        device,
        given=given,
        mean_file=mean_file,
        on_bad=cell.on_bad,
        workers=settings["workers"],
        here=here,
    )
    if record.writes and not (record.path / "sample.png").exists():
        with replacing(record.path / "sample.png") as temporary:
            found.sample().save(temporary, format="png")
    meter = Meter(recipe, found.waiting)
    ended = ended_early(points, recipe)
    with _explained(recipe), ExitStack() as stack:
        if isinstance(found.batches, PhotoStream):
            stack.callback(found.batches.close)
        events = train(state, _step(state, found, recipe, device, settings, row.num_classes), recipe)
        for event in () if ended else events:
            match event:
                case WarmedUp():
                    record.add_metrics({"event": "warmed_up", **asdict(event)})
                case Report():
                    began = time.perf_counter()
                    with _uncompiled(settings["compiled"]):
                        points.append(asdict(event) | test_all(state.tested, found))
                    record.add_metrics(points[-1])
                    record.log("report", step=state.step, speed=meter.text)
                    meter.tested(time.perf_counter() - began)
                    if recipe.keep == "best" and best(points) is points[-1]:
                        save_model(record, state, found, "best.safetensors", points[-1])
                    train_error, test_error = points[-1]["train_error"], points[-1]["test_error"]
                    progress = replace(progress, train_error=train_error, test_error=test_error)
                    ended = ended_early(points, recipe)
                case Stepped(step):
                    progress = replace(progress, step=step, speed=meter.step(), left=meter.left(step))
                    record.save_if_due(state)
                    if step < recipe.iterations and _asked_to_stop(wish, step, device):
                        record.save(state)
                        record.log("interrupted", step=step)
                        raise Interrupted(f"stopped at step {step:,} and saved; the same command goes on from there")
                    yield progress
                    if ended:
                        break
        record.save(state)
        finish(record, state, found, points, len(images.test))
    if recipe.exact_statistics and record.result is not None:
        error = record.result["test_error"]
        progress = replace(progress, step=recipe.iterations, test_error=error)
        yield replace(progress, message=f"with exact batch-norm statistics the test error is {error:.2f} %")
    if ended:
        reason = f"{recipe.patience} reports without a better validation error"
        yield replace(progress, step=recipe.iterations, message=f"ended early at step {state.step:,}: {reason}")


def _begin(
    cell: Cell, row: Architecture, images: Data, device: torch.device, settings: Line
) -> tuple[State, Any, str]:
    """The state before the first step, the preprocessing that the start's weights expect, and what to say of it."""
    torch.manual_seed(cell.seed)
    network, given, said = ResNet(row), None, ""
    if cell.start is not None:
        model = read_model(cell.start)
        take_over(model, network, images.classes, cell.start)
        given = model.preprocessing
        head = "kept, for the classes are the same" if model.classes == images.classes else "new"
        said = f"starts from {cell.start}; its last layer is {head}"
    if settings["recomputed"]:
        network = recomputed(network)
    if cell.recipe.synchronised:
        synchronise(network)
    state = start(network, cell.recipe, device)
    if cell.recipe.freeze != "none":
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        said += ("; " if said else "") + f"frozen up to {cell.recipe.freeze}: {trained:,} parameters are trained"
    return state, given, said


def _step(state: State, found: Material, recipe: Recipe, device: torch.device, settings: Line, classes: int) -> Step:
    weights = found.class_weights(classes).to(device) if recipe.balance == "loss" else None
    call = parallel(state.network)
    several = call is not state.network
    forward = objective(
        state.network,
        recipe,
        device,
        settings["compiled"],
        settings["recomputed"] or several,
        weights=weights,
        call=call if several else None,
    )
    if settings["captured"] and isinstance(found.batches, Stream) and not several and not recipe.ema:
        return CapturedStep(found.batches, forward, device, settings["compiled"], recipe.parts(1))
    return launched(found.batches, forward, recipe, call, recipe.parts(World.here().size))


def _asked_to_stop(wish: Wish, step: int, device: torch.device) -> bool:
    """Whether any process was asked to stop; all of them get the same answer, at the same step."""
    if World.here().size == 1:
        return wish.to_stop
    return step % ASKED_EVERY[device.type] == 0 and any_of(wish.to_stop, device)


def _uncompiled(compiled: bool) -> AbstractContextManager[Any]:
    """Where compiled blocks run as they are, for a test's batches have other shapes, and it is soon over."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def _explained(recipe: Recipe) -> Iterator[None]:
    """Say what to do about memory that is not enough, and about processes that ended."""
    try:
        yield
    except RuntimeError as error:
        if is_of_another(error):
            raise ResnetlabError(
                "another process of this run has ended; what was saved is kept, and under torchrun --max-restarts N "
                "all of them go on from there up to N times"
            ) from error
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise ResnetlabError(
            f"out of memory at a batch size of {recipe.batch_size}: {str(error).splitlines()[0]}. Try --batch-size "
            f"{max(1, recipe.batch_size // 2)}, or --accumulate {2 * recipe.accumulate} (the batch in parts), "
            "--recompute yes, or smaller images"
        ) from error
