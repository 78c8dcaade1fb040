"""Images per second and core, from image files to a training batch.

    uv run python -m benchmarks.input_pipeline --photos photos-300.tar --out results/input-pipeline

The peer is torchvision's usual pipeline: Pillow, RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize. All
ways run on one core, in turn and in short blocks, so that a noisy machine is as noisy for each; a ratio is the median
of the ratios block by block. All read the same files from a disk that is in memory by then, and end in a normalised
batch of 224x224.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.archives import unpack
from benchmarks.writing import show
from resnetlab.data.dataset import Dataset, File, Files
from resnetlab.data.pack import pack
from resnetlab.data.photos import Augmentation, PhotoStream
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.data.sources.splitting import list_images
from resnetlab.training.provenance import environment

BATCH = 32
PEER = "torchvision, Pillow"
AREA = Augmentation("area", 224)
PAPER = Augmentation("shorter-side", 224, colour=0.1)
PACKED = 256
Way = Callable[[int], Tensor]


def main(photos: Path, rounds: int = 9, batches: int = 9, cores: int = 1, out: Path | None = None) -> None:
    """Measure and print.

    Args:
        photos: A tar file of photographs.
        rounds: Blocks of each way that count.
        batches: Batches of 32 images in a block.
        cores: How many cores all of it may use.
        out: Where to write the record and its page, without an ending.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ways = _ways(photos, Path(folder), cores)
        speed = _in_turn(ways, rounds, batches)
    settings = {"photos": photos.name, "rounds": rounds, "batches": batches, "batch_size": BATCH, "cores": cores}
    record = {"settings": settings, "environment": environment(torch.device("cpu")), "speed": speed}
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    settings, machine = record["settings"], record["environment"]
    lines = ["# From image files to training batches", "", "| way | images/s | ratio |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {row['images_per_second']:.0f} | {row['ratio']:.2f} |" for name, row in record["speed"].items()
    ]
    lines += [
        "",
        f"{settings['photos']}, batches of {settings['batch_size']} crops of 224x224; {settings['cores']} "
        f"core{'s' * (settings['cores'] > 1)}, medians of {settings['rounds']} blocks of {settings['batches']} "
        f"batches, in turn. {machine['device']}, torch {machine['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def _ways(photos: Path, folder: Path, cores: int) -> dict[str, Way]:
    unpack(photos, folder / "photos")
    paths = sorted(path for path in (folder / "photos").rglob("*") if path.is_file())
    files = tuple(File(path.name, str(path)) for path in paths)
    split = Files(files, torch.arange(len(files)))
    dataset = Dataset("photos", tuple(str(k) for k in range(len(files))), split, split[:2])
    for reason in pack(dataset, folder / "packed", PACKED, 90):
        assert reason is None, reason
    packed = list_images(folder / "packed").train
    assert isinstance(packed, Files)
    return {
        PEER: _torchvision(paths),
        "random area (modern)": _stream(split, AREA, cores),
        "random area, bytes for a GPU": _stream(split, AREA, cores, as_bytes=True),
        "random shorter side (paper-imagenet)": _stream(split, PAPER, cores),
        "random shorter side, bytes for a GPU": _stream(split, PAPER, cores, as_bytes=True),
        f"random area, packed at {PACKED}": _stream(packed, AREA, cores),
        f"random area, packed at {PACKED}, bytes for a GPU": _stream(packed, AREA, cores, as_bytes=True),
    }


def _torchvision(paths: list[Path]) -> Way:
    prepare = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def batch(step: int) -> Tensor:
        images = []
        for k in range(BATCH):
            with paths[(step * BATCH + k) % len(paths)].open("rb") as file:
                images.append(prepare(Image.open(file).convert("RGB")))
        return torch.stack(images)

    return batch


def _stream(split: Files, augmentation: Augmentation, cores: int, as_bytes: bool = False) -> Way:
    """As on a processor; or `as_bytes`, as it sends them to a GPU, which preprocesses them."""
    preprocessing = Preprocessing.by_channel(Fit.square(256, 224), IMAGENET_MEAN, IMAGENET_STD)
    stream = PhotoStream(split, preprocessing, augmentation, BATCH, 0, torch.device("cpu"), threads=cores)
    stream.as_bytes = as_bytes
    return lambda step: stream.read(step)[0]


def _in_turn(ways: dict[str, Way], rounds: int, batches: int) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first warms up
        for name, way in ways.items():
            first = number * batches
            way(first)  # and fills what is read ahead
            begun = time.perf_counter()
            for step in range(first + 1, first + batches + 1):
                way(step)
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return {
        name: {
            "images_per_second": BATCH * batches / statistics.median(taken),
            "ratio": statistics.median(peer / own for peer, own in zip(seconds[PEER], taken, strict=True)),
        }
        for name, taken in seconds.items()
    }


if __name__ == "__main__":
    tyro.cli(main)
