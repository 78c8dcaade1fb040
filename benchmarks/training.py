"""Images per second of training a CIFAR network: ours against trainers as others write them.

    uv run python -m benchmarks.training --out results/training-cpu
    uv run python -m benchmarks.training --device cuda --steps 64000 --out results/training-gpu

Every trainer takes its turn in short blocks, so that a noisy machine is as noisy for each; a ratio is the median of
the ratios block by block. `whole run` counts all steps from the first, compiling included, projected from the blocks.
Pixels are random: the speed does not depend on them. All trainers use the same number of threads, and the compiler's
cache is empty.
"""

import ctypes
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import nn
from torch.nn import functional as F

from benchmarks.peers import PEERS
from benchmarks.writing import show
from resnetlab.choices import Kernels
from resnetlab.data.augment import per_pixel_mean
from resnetlab.data.dataset import Pixels
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.data.stream import Stream
from resnetlab.networks.architecture import architecture
from resnetlab.networks.measure import multiply_adds, on_meta
from resnetlab.networks.own_kernels import use_own_kernels
from resnetlab.networks.recompute import recomputed
from resnetlab.networks.resnet import build
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.captured import CapturedStep
from resnetlab.training.loop import State, Step, Stepped, half, launched, objective, start, train
from resnetlab.training.named_recipes import CIFAR
from resnetlab.training.provenance import environment
from resnetlab.training.recipe import Precision, Recipe

PEER = "tutorial"
CUDNN: Any = torch.backends.cudnn
DEFAULT_PRECISION = torch.backends.cuda.matmul.fp32_precision, CUDNN.conv.fp32_precision
CAPTURED: dict[str, CapturedStep] = {}
"""One of each way, to count the nodes of its graph."""
PASSES = 14.5  # over the outputs of all convolutions in a step with batch normalisation and ReLU of their own


@dataclass(frozen=True)
class Way:
    """One way of ours to train."""

    precision: Precision = "float32"
    compiled: bool = False
    captured: bool = False
    at_once: int = 1
    whole: bool = False
    combined: bool = False
    kernels: Kernels = "torch"

    @property
    def name(self) -> str:
        """What the tables call it."""
        words = [self.precision, "compiled" if self.compiled else "eager"] + ["as a whole"] * self.whole
        words += ["combined kernels"] * self.combined + ["our kernels"] * (self.kernels == "triton")
        words += ["captured"] * self.captured
        return ", ".join(words) + (f", {self.at_once} at a time" if self.at_once > 1 else "")


WAYS = {
    "cpu": [Way(), Way(compiled=True), Way("bfloat16", compiled=True)],
    "cuda": [
        Way("bfloat16"),
        Way("tfloat32", True, True),
        Way("bfloat16", False, True),
        Way("bfloat16", True),
        Way("bfloat16", True, True),
        Way("bfloat16", True, True, whole=True),
        Way("bfloat16", True, True, kernels="triton"),
        Way("bfloat16", True, True, 4, kernels="triton"),
        Way("bfloat16", True, True, at_once=2),
        Way("bfloat16", True, True, at_once=4),
        Way("bfloat16", True, True, at_once=8),
    ],
    "deep": [Way("bfloat16", True, True)],
    "combined": [Way("bfloat16", True, True, n, combined=True) for n in (1, 4)],
}


def ours(network: str, images: Pixels, batch_size: int, way: Way, device: torch.device) -> Iterator[None]:
    """The product's own loop, a step of each of the runs at a time."""
    runs = [one(network, images.to(device), batch_size, way, device, seed)[1] for seed in range(way.at_once)]
    streams: list[Any] = [None] * way.at_once
    if device.type == "cuda":
        streams = [torch.cuda.Stream() for _ in runs]  # type: ignore[no-untyped-call]
    while True:
        for steps, stream in zip(runs, streams, strict=True):
            with torch.cuda.stream(stream):
                next(steps)
        yield


def one(
    network: str, images: Pixels, batch_size: int, way: Way, device: torch.device, seed: int
) -> tuple[State, Iterator[None]]:
    """A run's state, and its steps without end."""
    recipe = replace(CIFAR, iterations=10**9, precision=way.precision, batch_size=batch_size)
    deep = architecture(network).depth > 250
    torch.manual_seed(seed)
    state = start(recomputed(build(network)) if deep else build(network), recipe, device)
    if way.kernels == "triton" and not deep:
        use_own_kernels(state.network, state.optimizer, half(way.precision))
    return state, _steps(state, recipe, images.to(device), way, device, seed, deep)


def _steps(
    state: State, recipe: Recipe, images: Pixels, way: Way, device: torch.device, seed: int, deep: bool
) -> Iterator[None]:
    preprocessing = Preprocessing.of_mean_image(per_pixel_mean(images.pixels))
    stream = Stream(images, preprocessing, recipe.batch_size, seed, recipe.padding, recipe.flip)
    sums, by_block = CLASSIFICATION.sums, False if way.whole else deep or None
    blocks = way.compiled and way.kernels == "torch"
    forward = objective(state.network, recipe, device, F.cross_entropy, sums, compiled=blocks, by_block=by_block)
    torch._inductor.config.combo_kernels = way.combined
    step: Step = launched(stream, forward, recipe)
    if way.captured:
        step = CAPTURED[way.name] = CapturedStep(stream, forward, device, way.compiled, keep_graph=True)
    for event in train(state, step, recipe, CLASSIFICATION.means):
        if isinstance(event, Stepped):
            yield


def main(
    network: str = "cifar_resnet20",
    device: str = "cpu",
    rounds: int = 12,
    seconds: float = 2.0,
    steps: int = 5000,
    batch_size: int = 128,
    images: int = 10_000,
    threads: int | None = None,
    workers: int = 2,
    peers: bool = True,
    ways: str | None = None,
    out: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        network: A network for CIFAR.
        device: cpu or cuda.
        rounds: Blocks of each trainer that count.
        seconds: What a block takes, about.
        steps: Of the whole run that is projected.
        batch_size: Images a step.
        images: Random images of 32x32 pixels.
        threads: Of every trainer; left out, one a core.
        workers: Processes of the peers' loaders.
        peers: Measure the trainers of others too.
        ways: Which of our own: cpu, cuda, deep or combined; left out, the device's.
        out: Where to write the record and its page, without an ending.
    """
    for cache in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ[cache] = tempfile.mkdtemp()
    torch.set_num_threads(threads or torch.get_num_threads())
    where = torch.device(device)
    data = Pixels(torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8), torch.randint(0, 10, (images,)))
    trainers: dict[str, tuple[int, Iterator[object]]] = {}
    if peers:
        for name, trainer in PEERS.items():
            trainers[name] = 1, trainer(build(network), data, batch_size, workers, where)
    for asked in WAYS[ways or device]:
        way = replace(asked, captured=asked.captured and where.type == "cuda")
        trainers[way.name] = way.at_once, ours(network, data, batch_size, way, where)
    settings = {
        "network": network,
        "batch_size": batch_size,
        "rounds": rounds,
        "seconds": seconds,
        "workers": workers,
        "steps": steps,
    }
    about = environment(where)
    rows = measured(trainers, where, rounds, seconds, batch_size, steps)
    record = {
        "settings": settings,
        "environment": about,
        "trainers": rows,
        "floor": floor(network, batch_size, steps, where),
    }
    show(record, page(record), out)


def measured(
    trainers: dict[str, tuple[int, Iterator[object]]],
    device: torch.device,
    rounds: int,
    seconds: float,
    batch_size: int,
    steps: int,
) -> dict[str, Any]:
    """Speed of each trainer, in turn, and ratios to the first."""
    first: dict[str, float] = {}
    block: dict[str, int] = {}
    found: dict[str, list[float]] = {name: [] for name in trainers}
    peak: dict[str, int] = {}
    for name, (_, trainer) in trainers.items():
        _as_by_default()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        earlier = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        first[name] = timed(trainer, 2, device)
        timed(trainer, 6, device)  # recording a graph is among them
        each = timed(trainer, 4, device) / 4
        block[name], peak[name] = max(2, round(seconds / each)), peak_bytes(device) - earlier
        print(f"{name}: {first[name]:.1f} s for two steps, then {1000 * each:.3f} ms a step", flush=True)
    for _ in range(rounds):
        for name, (_, trainer) in trainers.items():
            _as_by_default()
            timed(trainer, 1, device)  # a loader's queue is full after a pause: let a batch of it go
            found[name].append(timed(trainer, block[name], device) / block[name])
    peer, *_ = trainers
    rows = {}
    for name, (at_once, _) in trainers.items():
        step = statistics.median(found[name])
        ratios = [at_once * a / b for a, b in zip(found[peer], found[name], strict=True)]
        whole = {n: first[n] + steps * statistics.median(found[n]) for n in (peer, name)}
        rows[name] = {
            "images_per_second": round(batch_size * at_once / step, 1),
            "first_two_steps_seconds": round(first[name], 2),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_whole_run": round(at_once * whole[peer] / whole[name], 2),
            "whole_run_seconds": round(whole[name], 1),
            "peak_gigabytes": round(peak[name] / 2**30, 2),
        }
        if device.type == "cuda":
            rows[name]["kernels_per_step"] = kernels(trainers[name][1], at_once)
            if name in CAPTURED and (graph := CAPTURED[name].graph) is not None:
                rows[name]["nodes_per_step"] = nodes(graph)
    return rows


def _as_by_default() -> None:
    """Float32 of peers in torch's default precision; ours set their own when they start, and capture it."""
    matmul, convolution = DEFAULT_PRECISION
    torch.backends.cuda.matmul.fp32_precision = matmul
    CUDNN.conv.fp32_precision = convolution


def peak_bytes(device: torch.device) -> int:
    """Memory that was in use at the most: of the GPU by torch, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def floor(network: str, batch_size: int, steps: int, device: torch.device) -> dict[str, float]:
    """Operations and bytes of the run, and how long a large multiplication and a large copy take for as many.

    Operations are 6 for each multiply-add of the forward pass: 2, and twice that in the backward pass. Bytes are
    bfloat16 outputs of convolutions, passed over `PASSES` times.
    """
    meta = on_meta(architecture(network))
    outputs = sum(m.out_channels * _area(m) for m in meta.modules() if isinstance(m, nn.Conv2d))
    operations = 6 * multiply_adds(meta, (3, 32, 32)) * batch_size * steps
    moved = 2 * PASSES * outputs * batch_size * steps
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    multiplying = _seconds(lambda: a @ a, device) / (2 * n**3)
    big = torch.empty(2**28 if device.type == "cuda" else 2**26, device=device, dtype=torch.uint8)
    target = torch.empty_like(big)
    copying = _seconds(lambda: target.copy_(big), device) / (2 * len(big))
    return {
        "operations": float(operations),
        "bytes": float(moved),
        "seconds_multiplying": round(operations * multiplying, 2),
        "seconds_moving": round(moved * copying, 2),
    }


def _area(convolution: nn.Conv2d) -> int:
    """Pixels of a convolution's output: 32x32 at 16 channels, half the side at twice the channels."""
    return (32 * 16 // convolution.out_channels) ** 2


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    call()
    times = []
    for _ in range(5):
        _wait(device)
        begin = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - begin)
    return min(times)


def kernels(trainer: Iterator[object], at_once: int) -> int:
    """Kernels and copies on the GPU in a step."""
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in islice(trainer, 10):
            pass
        torch.cuda.synchronize()
    on_gpu = [event for event in profile.events() or () if event.device_type.name == "CUDA"]
    return round(len(on_gpu) / 10 / at_once)


def nodes(graph: torch.cuda.CUDAGraph) -> int:
    """Kernels, copies and fills in a captured step, by the driver's count; -1 if it does not answer."""
    count = ctypes.c_size_t()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuGraphGetNodes(ctypes.c_void_p(graph.raw_cuda_graph()), None, ctypes.byref(count))
    except (OSError, AttributeError, RuntimeError) as error:
        print(f"the nodes of a graph cannot be counted: {error}", flush=True)
        return -1
    return -1 if failed else count.value


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    settings, machine, bounds = record["settings"], record["environment"], record["floor"]
    steps = f"{settings['steps']:,}"
    counted = [
        name for name in ("kernels", "nodes") if any(f"{name}_per_step" in row for row in record["trainers"].values())
    ]
    header = ["trainer", "images/s", "ratio", "first two steps, s", f"{steps} steps, s", "ratio over them"]
    header += [f"{name} a step" for name in counted]
    lines = [
        f"# Training speed, {architecture(settings['network']).label} on images of 32x32",
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
    ]
    for name, row in record["trainers"].items():
        cells = [name, f"{row['images_per_second']:,.0f}", f"{row['ratio']:.2f}"]
        cells += [f"{row['first_two_steps_seconds']:.1f}", f"{row['whole_run_seconds']:,.0f}"]
        cells += [f"{row['ratio_whole_run']:.2f}", *(str(row.get(f"{name}_per_step", "–")) for name in counted)]
        lines.append("| " + " | ".join(cells) + " |")
    peer = next(iter(record["trainers"]))
    peak = max(row["peak_gigabytes"] for row in record["trainers"].values())
    return "\n".join(lines) + (
        f"\n\nRatios are to {peer} in the same run: medians of {settings['rounds']} blocks of about "
        f"{settings['seconds']:g} s, in turn, {settings['batch_size']} images a step. Whole runs are projected from "
        f"them, the first steps included, in which networks are compiled. {machine['device']}, "
        f"{machine['threads']} threads, {settings['workers']} loader processes for the peers, torch "
        f"{machine['torch']}.\n\n"
        f"Floor: {steps} steps are {bounds['operations']:.3g} operations, which take "
        f"{bounds['seconds_multiplying']:,.1f} s at the speed of a large bfloat16 multiplication here, and move "
        f"{bounds['bytes']:.3g} bytes ({PASSES} passes over the outputs of all convolutions), which take "
        f"{bounds['seconds_moving']:,.1f} s at the speed of a large copy. Memory: {peak:.1f} GB at the most, "
        "of all that is above.\n"
    )


def timed(trainer: Iterator[object], steps: int, device: torch.device) -> float:
    """Seconds that the trainer's next steps take."""
    _wait(device)
    begin = time.perf_counter()
    for _ in islice(trainer, steps):
        pass
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    tyro.cli(main)
