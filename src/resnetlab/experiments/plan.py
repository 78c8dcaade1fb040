"""Estimate time and disk space of an experiment from a short measurement of each network on this machine."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

import torch

from resnetlab.choices import ProtocolName
from resnetlab.data.dataset import Dataset
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from resnetlab.evaluation.protocol import CROP, RELATIVE_COST
from resnetlab.networks.architecture import Architecture, check_image_size
from resnetlab.networks.measure import parameter_count
from resnetlab.report.record import Table
from resnetlab.runs.settings import others_busy
from resnetlab.runs.spec import RunSpec
from resnetlab.tasks.task import Task
from resnetlab.training import named_recipes
from resnetlab.training.batches import Reading, fit_of, image_shape
from resnetlab.training.loop import descend, objective, start
from resnetlab.training.provenance import environment
from resnetlab.training.recipe import Recipe

SECONDS = 1.5  # of measurement per network
FEW = 8  # images per batch on a CPU
NUMBER = 4  # bytes per number
CHECKPOINTS = 2  # kept per run, with weights and momentum
BUSY = 0.5  # cores used by other programs, from which on measurements are unreliable


@dataclass(frozen=True)
class Counted:
    """The counts of a data set, which need not be on this machine."""

    name: str
    train: int
    test: int
    classes: int
    channels: int = 3
    layout: str = ""
    """What its folder is expected to hold."""


IMAGENET = Counted("ImageNet", named_recipes.IMAGENET, 50_000, 1000, layout="ImageNet's train/<WordNet id>/ and val/")


@dataclass(frozen=True)
class Planned:
    """One run: steps, trained and tested images, hours on this device, bytes on disk."""

    label: str
    steps: int
    images: int
    tests: int
    training_hours: float
    testing_hours: float
    disk: int


def counted(dataset: Dataset, recipe: Recipe) -> Counted:
    """The counts of a loaded data set."""
    channels, *_ = image_shape(dataset, recipe)
    return Counted(dataset.name, len(dataset.train), len(dataset.test), len(dataset.classes), channels)


def plan(
    specs: dict[str, RunSpec],
    protocol: ProtocolName | None,
    numbers: Counted,
    device: torch.device,
    dataset: Dataset | None,
    watch: Callable[[Sequence[RunSpec]], Iterable[RunSpec]] = iter,
    measured_for: float | None = None,
) -> list[Planned]:
    """Estimate each run alone with torch's threads on this device, including the reading of files if they exist.

    `measured_for` are the seconds of measurement per network, by default `SECONDS`.
    """
    first = next(iter(specs.values()))
    shape = dataset.image_shape if dataset is not None else None
    size = shape[1] if shape else first.recipe.crop_size
    reading = 0.0 if dataset is None or dataset.resident else _reading(first, dataset, device)
    distinct = list({(spec.architecture, spec.task): spec for spec in specs.values()}.values())
    seconds = {
        (spec.architecture, spec.task): _measure(spec, numbers, size, device, measured_for or SECONDS)
        for spec in watch(distinct)
    }
    shown = labels(specs)
    return [
        _planned(spec, shown[name], seconds[spec.architecture, spec.task], reading, protocol, numbers)
        for name, spec in specs.items()
    ]


def labels(specs: Mapping[str, RunSpec]) -> dict[str, str]:
    """Each run's network, with the seed and the recipe fields in which runs of one network differ."""
    fields = {name: {**asdict(spec.recipe), "seed": spec.seed} for name, spec in specs.items()}
    first: dict[tuple[Architecture, Task], dict[str, Any]] = {}
    differing: dict[tuple[Architecture, Task], set[str]] = {}
    for name, spec in specs.items():
        kind = spec.architecture, spec.task
        usual = first.setdefault(kind, fields[name])
        changed = {key for key, value in fields[name].items() if value != usual[key]}
        differing.setdefault(kind, set()).update(changed)
    return {
        name: ", ".join(
            [spec.architecture.title + spec.task.suffix]
            + [
                f"{key} {value}"
                for key, value in fields[name].items()
                if key in differing[spec.architecture, spec.task]
                and (key == "seed" or value != getattr(Recipe(), key))
            ]
        )
        for name, spec in specs.items()
    }


def plan_table(
    plans: Sequence[Planned], device: torch.device, numbers: Counted, reading: str = "", jobs: int = 1
) -> Table:
    """A row per run and their total, with `jobs` runs at a time.

    `reading` says whether the reading of files was measured.
    """
    header = ("run", "steps", "training images", "training", "testing", "disk")
    rows: list[tuple[str, ...]] = [
        (p.label, f"{p.steps:,}", f"{p.images:,}", _time(p.training_hours), _time(p.testing_hours), _size(p.disk))
        for p in plans
    ]
    training, testing = sum(p.training_hours for p in plans), sum(p.testing_hours for p in plans)
    total = (f"{len(plans)} runs", f"{sum(p.steps for p in plans):,}", f"{sum(p.images for p in plans):,}")
    rows.append((*total, _time(training), _time(testing), _size(sum(p.disk for p in plans))))
    where, at_a_time = environment(device)["device"], "one run" if jobs == 1 else f"{jobs} runs"
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' * (count > 1)}" if device.type == "cpu" else ""
    share = "" if training + testing < 8 else f" Over 8 such devices: {_time((training + testing) / 8)}."
    return Table(
        header,
        tuple(rows),
        f"{numbers.name}: {numbers.train:,} training and {numbers.test:,} test images. Expected from the fastest of "
        f"some steps of each network on one {where}{threads}{reading and f', {reading}'}, "
        f"{at_a_time} at a time: {_time((training + testing) / jobs)}.{share}{_warning(device)}",
    )


def _warning(device: torch.device) -> str:
    """A warning if other programs were busy, which makes the estimates unreliable."""
    if device.type != "cpu" or not hasattr(os, "getloadavg"):
        return ""
    others, cores = others_busy(), os.cpu_count() or 1
    if others < BUSY:
        return ""
    return (
        f" WARNING: other programs kept about {others:.1f} of {cores} cores busy while this was measured; on a quiet "
        "machine it may take far less. Measure again when they have ended."
    )


def _planned(
    spec: RunSpec,
    label: str,
    seconds: tuple[float, float],
    reading: float,
    protocol: ProtocolName | None,
    numbers: Counted,
) -> Planned:
    training, forward = seconds
    recipe, architecture = spec.recipe, spec.architecture
    images = recipe.iterations * recipe.batch_size
    reports = -(-recipe.iterations // recipe.report_every)
    tests = reports * numbers.test
    by_protocol = 0.0 if protocol is None else numbers.test * max(forward * RELATIVE_COST[protocol], reading)
    testing = tests * max(forward, reading) + by_protocol
    with torch.device("meta"):
        parameters = parameter_count(spec.task.network(_fitted(architecture, numbers), 0))
    scores = 2 if protocol is None else 3  # of the last evaluation, its predictions as text, and under the protocol
    disk = NUMBER * (parameters * (1 + 2 * CHECKPOINTS) + scores * numbers.test * numbers.classes)
    hours = images * max(training, reading) / 3600
    return Planned(label, recipe.iterations, images, tests, hours, testing / 3600, disk)


def _fitted(architecture: Architecture, numbers: Counted) -> Architecture:
    return replace(architecture, num_classes=numbers.classes, in_channels=numbers.channels)


def _measure(
    spec: RunSpec, numbers: Counted, size: int, device: torch.device, measured_for: float
) -> tuple[float, float]:
    """Seconds per image in training and in testing, with images in memory."""
    row, recipe, task = _fitted(spec.architecture, numbers), spec.recipe, spec.task
    check_image_size(row, size, size)
    state = start(task.network(row, 0), recipe, device, 1 + len(task.tallied or task.metrics))
    batch = recipe.batch_size // recipe.parts(1)
    batch = batch if device.type == "cuda" or size < CROP // 2 else min(batch, FEW)
    images, targets = task.example(row, recipe, batch, size, device)
    forward = objective(state.network, recipe, device, task.any_loss, task.sums)
    training = _seconds(lambda: descend(state, images, targets, forward), device, measured_for)
    state.network.eval()
    with torch.inference_mode():
        testing = _seconds(lambda: state.network(images), device, measured_for)
    return training / batch, testing / batch


def _reading(spec: RunSpec, dataset: Dataset, device: torch.device) -> float:
    """Seconds per image for reading training batches from files."""
    recipe = spec.recipe
    # the mean image does not exist before a run
    usual = Preprocessing.by_channel(fit_of(dataset, recipe), IMAGENET_MEAN, IMAGENET_STD)
    stream = spec.task.prepare(dataset, recipe, 0, device, usual, Reading()).training
    steps = iter(range(1 << 30))
    try:
        return _seconds(lambda: stream.read(next(steps)), torch.device("cpu")) / recipe.batch_size
    finally:
        stream.close()


def _seconds(call: Callable[[], object], device: torch.device, measured_for: float | None = None) -> float:
    """The shortest time of a call after a warm-up call; other programs slow down some of them."""
    call()
    taken: list[float] = []
    while not taken or sum(taken) < (measured_for or SECONDS):
        begun = _now(device)
        call()
        taken.append(_now(device) - begun)
    return min(taken)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _time(hours: float) -> str:
    if hours > 48:
        return f"{hours / 24:,.1f} days"
    return str(timedelta(seconds=round(hours * 3600)))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count > 1e9 else f"{count / 1e6:.0f} MB"
