"""One run, started or resumed: train, test, record."""

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetlab.data.dataset import Dataset
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.data.stream import Stream
from resnetlab.errors import Interrupted, ResnetlabError
from resnetlab.files import replacing, resolved
from resnetlab.models.modelfile import is_ours
from resnetlab.networks.own_kernels import use_own_kernels
from resnetlab.networks.recompute import recomputed
from resnetlab.runs.folder import RunFolder
from resnetlab.runs.outcome import best_point, ended_early, finish, save_model, test_all
from resnetlab.runs.progress import Meter, Progress
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import Line, read_curve, read_settings
from resnetlab.training.batches import Batches, Reading, choose_preprocessing, save_mean
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
from resnetlab.training.interrupt import Wish, on_request
from resnetlab.training.loop import Report, State, Step, Stepped, WarmedUp, half, launched, objective, start, train
from resnetlab.training.provenance import environment

ASKED_EVERY = {"cpu": 1, "cuda": 20, "mps": 20}  # steps between checks for a stop request, with several processes


def run(
    spec: RunSpec, folder: Path, settings: Settings, dataset: Dataset | None = None, wish: Wish | None = None
) -> Iterator[Progress]:
    """Train, test and record a run in its folder, and yield progress; a finished run yields its last progress.

    `dataset` is the spec's data, if already loaded; `wish` is the stop request of a caller that handles Ctrl-C. Under
    torchrun all processes execute the run together.

    Raises:
        ResnetlabError: the data cannot be read, the network does not fit it, or the folder holds another run.
        Interrupted: on Ctrl-C or SIGTERM, after the run was saved.
    """
    dataset = spec.chosen(spec.load() if dataset is None else dataset)
    _refuse_what_does_not_fit(spec, dataset)
    config = spec.configuration(dataset)
    with ExitStack() as stack:
        record = stack.enter_context(_opened(spec, folder, config, settings))
        wish = wish or stack.enter_context(on_request())
        if record.result is not None and is_ours(record.model_file()):
            before = f"{folder} was finished before; nothing is trained again"
            yield replace(_progress(spec, folder, spec.recipe.iterations), message=before)
            return
        if record.result is not None:
            again = "the model file is missing or damaged; it is made again from the last checkpoint"
            yield replace(_progress(spec, folder, 0), message=again)
        yield from _run(spec, dataset, record, wish)


def _run(spec: RunSpec, dataset: Dataset, record: RunFolder, wish: Wish) -> Iterator[Progress]:
    """Begin or resume, train with reports and checkpoints, test, record."""
    began = _begin(spec, dataset, record)
    state, recipe = began.state, spec.recipe
    said = record.resume(state)
    wait_for_all()
    points = read_curve(record.path)
    record.log("start", step=state.step, command=shlex.join(sys.argv), **environment(began.device))
    progress = _progress(spec, record.path, state.step)
    for message in said:
        record.log("damaged", message=message)
        yield replace(progress, message=message)
    yield replace(progress, message=f"continues from step {state.step:,}" if state.step else began.message)

    batches = _batches(spec, dataset, record, began)
    meter = Meter(recipe, batches.waiting)
    ended = ended_early(points, spec)
    with _explained(recipe.batch_size, recipe.accumulate), ExitStack() as stack:
        stack.callback(batches.training.close)
        events = train(state, _step(spec, dataset, began, batches), recipe, spec.task.means)
        for event in () if ended else events:
            match event:
                case WarmedUp():
                    record.add_metrics(_warmed_up(event, spec.task.headline.name))
                case Report():
                    begun_at = time.perf_counter()
                    with _uncompiled(began.settings["compiled"]):
                        points.append(_point(event) | test_all(spec.task, state.tested, batches))
                    record.add_metrics(points[-1])
                    record.log("report", step=state.step, speed=meter.text)
                    meter.tested(time.perf_counter() - begun_at)
                    if recipe.keep == "best" and best_point(points, spec.task) is points[-1]:
                        save_model(spec, record, state, batches, points[-1], best=True)
                    progress = _with_numbers(progress, points[-1])
                    ended = ended_early(points, spec)
                case Stepped(step):
                    progress = replace(progress, step=step, speed=meter.step(), left=meter.left(step))
                    record.save_if_due(state)
                    if step < recipe.iterations and _asked_to_stop(wish, step, began.device):
                        record.save(state)
                        record.log("interrupted", step=step)
                        raise _stopped(step)
                    yield progress
                    if ended:
                        break
        if not points or points[-1]["step"] != state.step:  # the line of this step was lost
            with _uncompiled(began.settings["compiled"]):
                points.append({"step": state.step} | test_all(spec.task, state.tested, batches))
            record.add_metrics(points[-1])
        record.save(state)
        for message in finish(spec, record, state, _stoppable(batches, wish, state.step), dataset, points):
            yield replace(progress, step=recipe.iterations, message=message)


def _stopped(step: int) -> Interrupted:
    return Interrupted(f"stopped at step {step:,} and saved; the same command continues from there")


def _stoppable(batches: Batches, wish: Wish, step: int) -> Batches:
    """The batches of the end of a run, which can be stopped between them; several processes go on together."""
    if World.here().size > 1:
        return batches

    def until_asked(make: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
        def each() -> Iterator[Any]:
            for batch in make():
                if wish.to_stop:
                    raise _stopped(step)
                yield batch

        return each

    tests = {name: until_asked(make) for name, make in batches.tests.items()}
    return replace(batches, tests=tests, calibration=until_asked(batches.calibration))


@dataclass(frozen=True)
class Begun:
    """The state before the first step, and where and how the run is executed."""

    state: State
    device: torch.device
    settings: Line
    given: Preprocessing | None
    """The preprocessing of the starting weights."""
    message: str


def _begin(spec: RunSpec, dataset: Dataset, record: RunFolder) -> Begun:
    settings = read_settings(record.path)
    device = World.here().device(settings["device"])
    torch.set_num_threads(settings["threads"])
    network, given, messages = spec.task.network(spec.fitted_to(dataset), spec.seed), None, []
    if spec.start is not None:
        started = spec.task.start_from(spec.start, network, spec.task.outputs(dataset))
        given = started.preprocessing
        if started.kept and spec.recipe.head_rate != 1:
            raise ResnetlabError(
                f"head_rate is for a new last layer, and that of {spec.start} is kept, because the class names "
                "match; leave it out"
            )
        messages.append(started.message)
    if spec.recipe.batch_norm == "fixed":
        messages.append("batch normalisation is fixed to the statistics of the starting weights")
    if settings["recomputed"]:
        network = recomputed(network)
    if spec.recipe.synchronised:
        synchronise(network)
    state = start(network, spec.recipe, device, 1 + len(spec.task.tallied or spec.task.metrics))
    if settings.get("kernels") == "triton":
        use_own_kernels(state.network, state.optimizer, half(spec.recipe.precision))
    if spec.recipe.freeze != "none":
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        random = ", with random weights, which stay as they are" if spec.start is None else ""
        messages.append(f"frozen up to {spec.recipe.freeze}{random}: {trained:,} parameters are trained")
    return Begun(state, device, settings, given, "; ".join(messages))


def _batches(spec: RunSpec, dataset: Dataset, record: RunFolder, began: Begun) -> Batches:
    """Training and test batches; rank 0 computes the mean image and writes the sample picture."""
    world, workers = World.here(), began.settings["workers"]
    if began.given is None:
        led(world, lambda: save_mean(dataset, spec.recipe, record.mean_file, workers))
    preprocessing = choose_preprocessing(dataset, spec.recipe, began.given, record.mean_file)
    reading = Reading(workers, spec.data.on_bad, world)
    batches = spec.task.prepare(dataset, spec.recipe, spec.seed, began.device, preprocessing, reading)
    if record.writes and not record.sample_file.exists():
        with replacing(record.sample_file) as temporary:
            batches.sample().save(temporary, format="png")
    return batches


def _step(spec: RunSpec, dataset: Dataset, began: Begun, batches: Batches) -> Step:
    """The training step: launched operation by operation, or captured as one graph."""
    state, recipe, device = began.state, spec.recipe, began.device
    call = parallel(state.network)
    several = call is not state.network
    ours = began.settings.get("kernels") == "triton"  # which are not compiled: only the drawing of batches is
    forward = objective(
        state.network,
        recipe,
        device,
        spec.task.loss(recipe, dataset, device),
        spec.task.sums,
        compiled=began.settings["compiled"] and not ours,
        by_block=True if began.settings["recomputed"] or several else None,
        call=call if several else None,
    )
    if began.settings["captured"] and isinstance(batches.training, Stream):
        return CapturedStep(batches.training, forward, device, began.settings["compiled"], recipe.parts(1))
    return launched(batches.training, forward, recipe, call, recipe.parts(World.here().size))


def _refuse_what_does_not_fit(spec: RunSpec, dataset: Dataset) -> None:
    recipe = spec.recipe
    if (recipe.patience or recipe.keep == "best") and dataset.validation is None:
        some = max(1, len(dataset.train) // 10)
        raise ResnetlabError(f"{dataset.name} has no validation images; hold some out, e.g. `validation={some}`")
    spec.task.check(recipe, dataset)
    if spec.start is None and recipe.batch_norm == "fixed":
        raise ResnetlabError("batch_norm=fixed needs weights to start from; without them take batch_norm=live")
    if spec.start is None and recipe.head_rate != 1:
        raise ResnetlabError("head_rate needs weights to start from: without them all layers are new; leave it out")
    if spec.start is None and recipe.normalise == "imagenet":
        choose_preprocessing(dataset, recipe)


@contextmanager
def _opened(spec: RunSpec, folder: Path, config: Line, settings: Settings) -> Iterator[RunFolder]:
    """Open the run folder on rank 0 while the others wait, with all processes connected."""
    depth = spec.architecture.depth
    device = settings.settle(spec.recipe, depth, None)["device"]  # raises before a folder is made
    with ExitStack() as stack:
        world = stack.enter_context(joined(World.here().device(device)))

        def open_and_settle() -> RunFolder:
            record = stack.enter_context(RunFolder.open(folder, config))
            if record.result is None or not record.settings or not is_ours(record.model_file()):
                name = spec.data.name
                source = str(resolved(Path(name))) if Path(name).exists() else name
                places = {"source": source, "data_dir": str(resolved(spec.data.data_dir))}
                record.set_settings(settings.settle(spec.recipe, depth, record.settings) | places)
            return record

        yield led(world, open_and_settle) or RunFolder.follow(folder, config)


def _progress(spec: RunSpec, folder: Path, step: int) -> Progress:
    progress = Progress(step, spec.recipe.iterations, spec.task.headline, tallied=spec.task.shown_in_training)
    points = read_curve(folder)
    return _with_numbers(progress, points[-1]) if points else progress


def _with_numbers(progress: Progress, point: Line) -> Progress:
    train, test = point.get(f"train_{progress.trained.name}", math.nan), point.get(f"test_{progress.metric.name}")
    return replace(progress, train=train, test=test)


def _point(report: Report) -> Line:
    train = {f"train_{name}": value for name, value in report.metrics.items()}
    return {"step": report.step, "learning_rate": report.learning_rate, **train}


def _warmed_up(event: WarmedUp, headline: str) -> Line:
    said = {f"train_{headline}": event.headline, "learning_rate": event.learning_rate}
    return {"event": "warmed_up", "step": event.step, **said}


def _asked_to_stop(wish: Wish, step: int, device: torch.device) -> bool:
    """Whether any process got a stop request; all get the same answer at the same step."""
    if World.here().size == 1:
        return wish.to_stop
    return step % ASKED_EVERY[device.type] == 0 and any_of(wish.to_stop, device)


def _uncompiled(compiled: bool) -> AbstractContextManager[Any]:
    """Run without compilation: tests have other batch shapes and are too short to compile for."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def _explained(batch_size: int, accumulate: int) -> Iterator[None]:
    """Explain out-of-memory errors and ended processes."""
    try:
        yield
    except RuntimeError as error:
        if is_of_another(error):
            raise ResnetlabError(
                "another process of this run has ended; the checkpoint is kept, and torchrun --max-restarts N "
                "restarts all processes from it up to N times"
            ) from error
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise ResnetlabError(
            f"out of memory at a batch size of {batch_size}: {str(error).splitlines()[0]}. Try "
            f"`batch_size={max(1, batch_size // 2)}`, or `accumulate={2 * accumulate}` (the batch in chunks), "
            "`recompute=yes`, or smaller images"
        ) from error
