"""Measure the time of networks, by stage and by kind of layer, to compare it with multiply-adds.

The paper compares networks in multiply-adds (Table 1), where ResNet-50 is about equal to ResNet-34. Here, whole
networks and their stages are timed as they run, with time marks in between. Each distinct layer (configuration and
input) is timed alone and weighted by how often it occurs. Every round measures all of them once, so that noise of the
machine affects all equally.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.analysis.parts import OPTIMIZER, REST, Part, parts, stages
from resnetlab.analysis.timing import Mark, calls_for, clock, intervals, mark, timed
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import check_image_size, parse
from resnetlab.networks.measure import parameter_count
from resnetlab.networks.resnet import ResNet
from resnetlab.training.provenance import environment

NETWORKS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnet50-v1.5", "resnet101-v1.5", "resnet152-v1.5"),
)
BATCH_SIZE = {"cpu": 4, "cuda": 64, "mps": 16}
ROUNDS = {"cpu": 5, "cuda": 15, "mps": 5}
WHOLE_SECONDS = 0.2
PART_SECONDS = 0.02
REFERENCE = (256, 56)  # channels in and out, side of the map: a 3x3 convolution that any library computes fast
Turn = Callable[[], None]
Watch = Callable[[Sequence[Turn]], Iterable[Turn]]
Times = dict[str, list[float]]


@dataclass
class Subject:
    """A measured network, with its times in each round in seconds per batch."""

    name: str
    network: ResNet
    image_size: int
    parts: list[Part]
    optimizer: torch.optim.Optimizer
    forward: list[list[float]] = field(default_factory=list)
    """By round: the time of each stage."""
    training: list[tuple[list[float], float]] = field(default_factory=list)
    """By round: the time of each stage (forward and backward) and of the optimizer's step."""


def study(
    networks: Sequence[str],
    device: torch.device,
    batch_size: int,
    rounds: int,
    image_size: int | None = None,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Measure, and return the data for tables and picture.

    `image_size` is the side of the images in pixels. Default: each network's own. `watch` gets the turns and yields
    them one by one, for a progress bar.

    Raises:
        ResnetlabError: an unknown name, images that are too small, or too little GPU memory.
    """
    subjects = _subjects(tuple(dict.fromkeys(networks)), device, batch_size, image_size)
    layers: dict[object, dict[str, list[float]]] = {}
    turns: list[Turn] = [_whole(subject, batch_size, device) for subject in subjects]
    for subject in subjects:
        for part in subject.parts:
            if part.key not in layers:
                layers[part.key] = {"forward": [], "training": []}
                module = subject.network.get_submodule(part.name)
                turns.append(_alone(module, part.input, not part.first, device, layers[part.key]))
    channels, side = REFERENCE
    reference: Times = {"forward": [], "training": []}
    large = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device).to(memory_format=torch.channels_last)
    turns.append(_alone(large, (batch_size, channels, side, side), True, device, reference))
    try:
        for turn in watch(turns * rounds):
            turn()
    except torch.OutOfMemoryError:
        raise ResnetlabError(
            f"this GPU has too little memory for batches of {batch_size} images; use a smaller `batch_size`"
        ) from None
    work = 9 * channels**2 * side**2 * batch_size
    return {
        "settings": {"batch_size": batch_size, "rounds": rounds, "precision": "float32", "clock": clock(device)},
        "environment": environment(device),
        "reference": {
            "layer": f"3x3 convolution of {channels} to {channels} channels on maps of {side}x{side}",
            "forward_per_second": work / median(reference["forward"]),
            "training_per_second": 3 * work / median(reference["training"]),
        },
        "networks": {subject.name: _found(subject, layers) for subject in subjects},
    }


def _subjects(names: tuple[str, ...], device: torch.device, batch_size: int, image_size: int | None) -> list[Subject]:
    """Build all networks on the device, after checking all names and sizes."""
    rows = {name: parse(name) for name in names}
    for row in rows.values():
        side = image_size or row.image_size
        check_image_size(row, side, side)
        if batch_size == 1 and side <= row.reduction:
            raise ResnetlabError(
                f"{row.name} has one pixel left of an image of {side}x{side}, and batch normalisation cannot train "
                "on one number; use a larger `batch_size` or `image_size`"
            )
    if device.type == "cuda":  # real float32, not cuDNN's tf32
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    subjects = []
    for name, row in rows.items():
        side = image_size or row.image_size
        network = ResNet(row).to(device).to(memory_format=torch.channels_last)
        # At rate 0 a step costs the same, and random labels do not change the weights
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4, fused=True)
        subjects.append(Subject(name, network, side, parts(row, batch_size, side), optimizer))
    return subjects


def _whole(subject: Subject, batch_size: int, device: torch.device) -> Turn:
    """One round of a network: a block of forward passes, then a block of training steps."""

    def turn() -> None:
        network, row = subject.network, subject.network.architecture
        shape = (batch_size, row.in_channels, subject.image_size, subject.image_size)
        images = _random(shape, device)
        labels = torch.randint(row.num_classes, (batch_size,), device=device)
        network.eval()
        warm = device.type == "cpu" and bool(subject.forward)  # on a GPU, other networks used the memory in between
        subject.forward.append(_mean_of(lambda: _forward(network, images, device), warm))
        network.train()
        count = len(stages(row))
        times = _mean_of(lambda: _training(network, images, labels, subject.optimizer, device), warm)
        forward, backward, (step,) = times[:count], times[count : 2 * count], times[2 * count :]
        subject.training.append(([a + b for a, b in zip(forward, reversed(backward), strict=True)], step))

    return turn


def _forward(network: ResNet, images: Tensor, device: torch.device) -> list[Mark]:
    """A forward pass, with marks before and after every stage."""
    marks = [mark(device)]
    with torch.no_grad(), _ends(network, lambda _: marks.append(mark(device))):
        network(images)
    return [*marks, mark(device)]


def _training(
    network: ResNet, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, device: torch.device
) -> list[Mark]:
    """A training step, with marks around every stage in forward, then in backward (reversed), and after the step."""
    ahead, back = [mark(device)], list[Mark]()

    def end(output: Tensor) -> None:
        ahead.append(mark(device))
        # Runs when all later stages have their gradients
        output.register_hook(lambda _: back.append(mark(device)))  # type: ignore[no-untyped-call]

    with _ends(network, end):
        loss = F.cross_entropy(network(images), labels)
    ahead.append(mark(device))
    loss.backward()  # type: ignore[no-untyped-call]
    back.append(mark(device))
    optimizer.step()
    optimizer.zero_grad()
    return [*ahead, *back, mark(device)]


@contextmanager
def _ends(network: ResNet, at: Callable[[Tensor], None]) -> Iterator[None]:
    """Within this context, `at` is called with the output of every stage except the last."""
    modules = [network.maxpool, *network.stages()]
    hooks = [module.register_forward_hook(lambda _, __, output: at(output)) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _mean_of(run: Callable[[], list[Mark]], warm: bool) -> list[float]:
    """The mean of each interval over a block of runs, after one warm-up run unless `warm`."""
    if not warm:
        run()
    first = intervals(run())
    blocks = [run() for _ in range(calls_for(WHOLE_SECONDS, sum(first)) - 1)]
    return [sum(times) / (1 + len(blocks)) for times in zip(first, *map(intervals, blocks), strict=True)]


def _alone(module: nn.Module, shape: tuple[int, ...], gradient: bool, device: torch.device, found: Times) -> Turn:
    """One round of a single layer: forward, then forward and backward; `gradient`: with that of its input."""

    def turn() -> None:
        x = _random(shape, device)
        module.eval()
        with torch.no_grad():
            found["forward"].append(timed(lambda: module(x), device, PART_SECONDS))
        module.train()
        x.requires_grad_(gradient)
        wanted = [x] * gradient + list(module.parameters())
        ones = torch.ones_like(module(x))
        found["training"].append(
            timed(lambda: torch.autograd.grad(module(x), wanted, ones), device, 3 * PART_SECONDS)
        )

    return turn


def _random(shape: tuple[int, ...], device: torch.device) -> Tensor:
    x = torch.randn(shape, device=device)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _found(subject: Subject, layers: dict[object, Times]) -> dict[str, Any]:
    """One network's results: seconds per batch, multiply-adds per image."""
    row = subject.network.architecture
    forward = [sum(times) for times in subject.forward]
    training = [sum(times) + step for times, step in subject.training]
    seconds = {
        "forward": dict(zip(stages(row), map(median, zip(*subject.forward, strict=True)), strict=True)),
        "training": dict(
            zip(stages(row), map(median, zip(*(t for t, _ in subject.training), strict=True)), strict=True)
        ),
    }
    by_stage: dict[str, dict[str, float | int]] = {stage: _entry() for stage in stages(row)}
    by_kind: dict[str, dict[str, float | int]] = {}
    for part in subject.parts:
        for entry in (by_stage[part.stage], by_kind.setdefault(part.kind, _entry())):
            entry["multiply_adds"] += part.multiply_adds
            entry["training_multiply_adds"] += part.training_multiply_adds
        for way in ("forward", "training"):
            by_kind[part.kind][way] += median(layers[part.key][way])
    for stage, entry in by_stage.items():
        entry |= {way: times[stage] for way, times in seconds.items()}
    step = median(step for _, step in subject.training)
    by_kind[OPTIMIZER] = _entry() | {"training": step}
    by_stage[OPTIMIZER] = _entry() | {"training": step}
    by_kind[REST] = _entry() | {
        way: median(whole) - sum(entry[way] for entry in by_kind.values())
        for way, whole in (("forward", forward), ("training", training))
    }
    return {
        "label": row.label + (f" {row.version}" if row.version != "v1" else ""),
        "image_size": subject.image_size,
        "parameters": parameter_count(subject.network),
        "multiply_adds": sum(part.multiply_adds for part in subject.parts),
        "forward": forward,
        "training": training,
        "stages": by_stage,
        "kinds": by_kind,
    }


def _entry() -> dict[str, float | int]:
    return {"multiply_adds": 0, "training_multiply_adds": 0, "forward": 0.0, "training": 0.0}
