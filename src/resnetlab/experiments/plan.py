"""What an experiment would take, before it starts: from a short measurement of each network on this machine."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from resnetlab.data import ImageSet
from resnetlab.evaluation.protocol import CROP, ProtocolName
from resnetlab.evaluation.views import SCALES
from resnetlab.experiments.cell import Cell
from resnetlab.experiments.material import Data, image_shape, material
from resnetlab.networks.measure import on_meta, parameter_count
from resnetlab.networks.resnet import Architecture, ResNet, check_image_size
from resnetlab.training.loop import descend, objective, start
from resnetlab.training.recipe import Recipe

SECONDS = 1.5  # of measuring, for each network
FEW = 8  # images at a time on a processor
ASPECT = 4 / 3  # of a photograph's sides
NUMBER = 4  # bytes
CHECKPOINTS = 2  # that are kept, of weights and momentum


@dataclass(frozen=True)
class Counted:
    """A data set by its numbers, where it is not at hand."""

    name: str
    train: int
    test: int
    classes: int
    channels: int = 3


IMAGENET = Counted("ImageNet", 1_281_167, 50_000, 1000)


@dataclass(frozen=True)
class Planned:
    """One run: steps, images that it trains on and tests, hours on this device, bytes on the disk."""

    label: str
    steps: int
    images: int
    tests: int
    training_hours: float
    testing_hours: float
    disk: int


def counted(data: Data, recipe: Recipe) -> Counted:
    """The numbers of a data set that is at hand."""
    channels, *_ = image_shape(data, recipe)
    return Counted(data.name, len(data.train), len(data.test), len(data.classes), channels)


def plan(
    cells: dict[str, Cell],
    way: ProtocolName | None,
    numbers: Counted,
    device: torch.device,
    data: Data | None,
    watch: Callable[[list[Cell]], Iterable[Cell]] = iter,
) -> list[Planned]:
    """What each cell takes, alone on this device: measured, with the reading of files where they are there."""
    size = next(iter(cells.values())).recipe.crop_size
    if isinstance(data, ImageSet):
        size = data.image_shape[1]
    reading = (
        0.0 if data is None or isinstance(data, ImageSet) else _reading(next(iter(cells.values())), data, device)
    )
    distinct = list({cell.network: cell for cell in cells.values()}.values())
    seconds = {cell.network: _measure(cell.network, cell.recipe, numbers, size, device) for cell in watch(distinct)}
    return [_planned(cell, seconds[cell.network], reading, way, numbers) for cell in cells.values()]


def views(way: ProtocolName) -> float:
    """How many times the work of one centre crop a protocol is, for an image of 4:3."""
    if way == "dense":
        return 2 * ASPECT * sum((side / CROP) ** 2 for side in SCALES)
    return {"center": 1.0, "ten-crop": 10.0}[way]


def _planned(
    cell: Cell, seconds: tuple[float, float], reading: float, way: ProtocolName | None, numbers: Counted
) -> Planned:
    training, forward = seconds
    recipe = cell.recipe
    images = recipe.iterations * recipe.batch_size
    reports = -(-recipe.iterations // recipe.report_every)
    tests = reports * numbers.test
    testing = tests * max(forward, reading) + (
        0.0 if way is None else numbers.test * max(forward * views(way), reading)
    )
    parameters = parameter_count(on_meta(_row(cell.network, numbers)))
    scores = 2 if way is None else 3  # of the last evaluation, its predictions as text, and the protocol's
    disk = NUMBER * (parameters * (1 + 2 * CHECKPOINTS) + scores * numbers.test * numbers.classes)
    label = cell.network.title + (f", seed {cell.seed}" if cell.seed else "")
    return Planned(
        label, recipe.iterations, images, tests, images * max(training, reading) / 3600, testing / 3600, disk
    )


def _row(row: Architecture, numbers: Counted) -> Architecture:
    return replace(row, num_classes=numbers.classes, in_channels=numbers.channels)


def _measure(
    row: Architecture, recipe: Recipe, numbers: Counted, size: int, device: torch.device
) -> tuple[float, float]:
    """Seconds an image of training and of testing, with images that are there already."""
    row = _row(row, numbers)
    check_image_size(row, size, size)
    state = start(ResNet(row), recipe, device)
    batch = recipe.batch_size // recipe.parts(1)
    batch = batch if device.type == "cuda" or size < CROP // 2 else min(batch, FEW)
    images = torch.randn(batch, row.in_channels, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    forward = objective(state.network, recipe, device)
    training = _seconds(lambda: descend(state, images, labels, forward), device)
    state.network.eval()
    with torch.inference_mode():
        testing = _seconds(lambda: state.network(images), device)
    return training / batch, testing / batch


def _reading(cell: Cell, data: Data, device: torch.device) -> float:
    """Seconds an image of reading training batches from files."""
    recipe = replace(cell.recipe, normalise="imagenet")  # the mean image is not there before the first run
    stream: Any = material(data, recipe, 0, device).batches
    steps = iter(range(1 << 30))
    try:
        return _seconds(lambda: stream.read(next(steps)), torch.device("cpu")) / cell.recipe.batch_size
    finally:
        stream.close()


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """The least time of a call, after one that warms up: other programs make some of them slower."""
    call()
    taken: list[float] = []
    while not taken or sum(taken) < SECONDS:
        begun = _now(device)
        call()
        taken.append(_now(device) - begun)
    return min(taken)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
