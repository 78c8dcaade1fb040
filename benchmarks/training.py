"""Images per second of training ResNet-20 on CIFAR-size images: ours against a tutorial's trainer.

    uv run python -m benchmarks.training --out results/training-cpu

Every trainer takes its turn in short blocks, so that a noisy machine is as noisy for each; a ratio is the median of
the ratios block by block. `whole run` counts 5,000 steps from the first, compiling included. Pixels are random:
the speed does not depend on them. All trainers use the same number of threads, and the compiler's cache is empty.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks import tutorial
from resnetlab.data.augment import per_pixel_mean
from resnetlab.data.images import Images
from resnetlab.data.stream import Stream
from resnetlab.files import write_json
from resnetlab.networks.resnet import build
from resnetlab.training.loop import Stepped, launched, objective, start, train
from resnetlab.training.provenance import environment
from resnetlab.training.recipe import CIFAR, Precision

CPU = torch.device("cpu")
WHOLE_RUN = 5000


def ours(images: Images, batch_size: int, precision: Precision, compiled: bool) -> Iterator[None]:
    """The steps of the product's own loop."""
    recipe = replace(CIFAR, precision=precision, batch_size=batch_size)
    state = start(build("cifar_resnet20"), recipe, CPU)
    stream = Stream(images, per_pixel_mean(images.pixels), batch_size, 0, recipe.padding, recipe.flip)
    for event in train(state, launched(stream, objective(state.network, recipe, CPU, compiled)), recipe):
        if isinstance(event, Stepped):
            yield


def main(
    rounds: int = 12,
    block: int = 10,
    batch_size: int = 128,
    images: int = 10_000,
    threads: int | None = None,
    workers: int = 2,
    out: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        rounds: Blocks of each trainer that count.
        block: Steps in a block.
        batch_size: Images a step.
        images: Random images of 32x32 pixels.
        threads: Of either trainer; left out, one a core.
        workers: Processes of the tutorial's DataLoader.
        out: Where to write the record and its page, without an ending.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()
    torch.set_num_threads(threads or torch.get_num_threads())
    data = Images(torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8), torch.randint(0, 10, (images,)))
    trainers: dict[str, Iterator[object]] = {
        "tutorial": tutorial.train(build("cifar_resnet20"), data, batch_size, workers),
        "float32, eager": ours(data, batch_size, "float32", compiled=False),
        "float32, compiled": ours(data, batch_size, "float32", compiled=True),
        "bfloat16, compiled": ours(data, batch_size, "bfloat16", compiled=True),
    }
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for name, trainer in trainers.items():
        first[name] = timed(trainer, 2)
        timed(trainer, block)
    for _ in range(rounds):
        for name, trainer in trainers.items():
            timed(trainer, 1)  # the tutorial's queue is full after a pause: let a batch of it go
            seconds[name].append(timed(trainer, block) / block)
    rows = {}
    for name in trainers:
        step = statistics.median(seconds[name])
        ratios = [a / b for a, b in zip(seconds["tutorial"], seconds[name], strict=True)]
        whole = (first["tutorial"] + WHOLE_RUN * statistics.median(seconds["tutorial"])) / (
            first[name] + WHOLE_RUN * step
        )
        rows[name] = {
            "images_per_second": round(batch_size / step, 1),
            "first_two_steps_seconds": round(first[name], 2),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_whole_run": round(whole, 2),
        }
    settings = {
        "network": "cifar_resnet20",
        "batch_size": batch_size,
        "rounds": rounds,
        "block": block,
        "workers": workers,
    }
    record = {"settings": settings, "environment": environment(CPU), "trainers": rows}
    print(page(record))
    if out:
        write_json(out.with_suffix(".json"), record)
        out.with_suffix(".md").write_text(page(record))


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    lines = [
        "# Training speed, ResNet-20 on images of 32x32",
        "",
        "| trainer | images/s | ratio | first two steps, s | ratio over 5,000 steps from the first |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in record["trainers"].items():
        first, whole = row["first_two_steps_seconds"], row["ratio_whole_run"]
        lines.append(f"| {name} | {row['images_per_second']:.0f} | {row['ratio']:.2f} | {first:.1f} | {whole:.2f} |")
    settings, machine = record["settings"], record["environment"]
    return "\n".join(lines) + (
        f"\n\nRatios are to the tutorial's trainer in the same run: medians of {settings['rounds']} blocks of "
        f"{settings['block']} steps of {settings['batch_size']} images, in turn. Compiling counts in the last two "
        f"columns. {machine['device']}, {machine['threads']} threads, {settings['workers']} loader processes for the "
        f"tutorial, torch {machine['torch']}.\n"
    )


def timed(trainer: Iterator[object], steps: int) -> float:
    """Seconds that the trainer's next steps take."""
    begin = time.perf_counter()
    for _ in islice(trainer, steps):
        pass
    return time.perf_counter() - begin


if __name__ == "__main__":
    tyro.cli(main)
