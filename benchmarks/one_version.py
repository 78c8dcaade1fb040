"""What a child process of `benchmarks.versions` measures: the resnetlab that it can import, of either version.

    python -P benchmarks/one_version.py SUBJECT THREADS PHOTOS

It prints where the package is, then answers each number on standard input with the seconds that so many units of work
took, by the clock and of the processor, and with a number that both versions must find for their first unit.
"""

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HAS_DATASET = find_spec("resnetlab.data.dataset") is not None  # from the restructuring on
Work = Iterator[float]


def name(*places: str) -> Any:
    """The first of these names, written `module:name`, that this version has."""
    for place in places:
        module, _, attribute = place.partition(":")
        try:
            return getattr(importlib.import_module(f"resnetlab.{module}"), attribute)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"this version has none of {', '.join(places)}")


def cifar(threads: int, photos: Path | None) -> Work:
    """Steps of CIFAR's recipe on images of CIFAR's size."""
    return _training(10_000, 32, 3, padding=4, flip=True)


def digits(threads: int, photos: Path | None) -> Work:
    """Steps of the digits' recipe on images of the digits' size."""
    return _training(1_437, 8, 1, padding=1, flip=False)


def inference(threads: int, photos: Path | None) -> Work:
    """From 8 images' pixels to the logits of ResNet-18."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        name("models.modelfile:save")(_model(), path)
        engine = name("inference.engines:open_engine")(path, "torch", precision="float32", threads=threads)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    while True:
        yield float(engine.run(pixels)[0].max())


def ten_crop(threads: int, photos: Path | None) -> Work:
    """From two photographs to ResNet-18's scores by ten crops."""
    assert photos is not None
    model, split = _model(), name("data.sources.layouts:find_images", "data.layouts:find_images")(photos).all()[1]
    how = name("evaluation.protocol:protocol")("ten-crop", model.preprocessing.fit)
    network = name("evaluation.scores:fast")(model, CPU, "float32")
    read_each, score = name("data.reading:read_each"), name("evaluation.scores:score")
    for first in range(0, sys.maxsize, 2):
        numbers = np.arange(first, first + 2) % len(split)
        part = split[torch.from_numpy(numbers) if HAS_DATASET else numbers]
        yield float(score(model, how, read_each(part, how.cut, threads), 2, CPU, network=network)[0].max())


def photographs(threads: int, photos: Path | None) -> Work:
    """Batches of random crops of photographs; none is read ahead, so that a block ends when its work does."""
    assert photos is not None
    importlib.import_module("resnetlab.data.photos").AHEAD = 1  # type: ignore[attr-defined]
    split = name("data.sources.layouts:find_images", "data.layouts:find_images")(photos).all()[1]
    augmentation = name("data.photos:Augmentation")("area", 224)
    stream = name("data.photos:PhotoStream")(split, _preprocessing(), augmentation, 32, 0, CPU, threads=threads)
    for step in range(sys.maxsize):
        yield float(stream.read(step)[0][0].sum())


SUBJECTS: dict[str, Callable[[int, Path | None], Work]] = {
    "training, CIFAR": cifar,
    "training, digits": digits,
    "inference": inference,
    "ten-crop testing": ten_crop,
    "photographs": photographs,
}


def _training(images: int, side: int, channels: int, padding: int, flip: bool) -> Work:
    """ResNet-20, eager, in float32, 128 images a step; the loss so far."""
    loop = importlib.import_module("resnetlab.training.loop")
    recipe = replace(name("training.named_recipes:CIFAR", "training.recipes:CIFAR"), iterations=10**9)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, side, side, channels), dtype=torch.uint8, generator=generator)
    data = name("data.dataset:Pixels", "data.images:Images")(
        pixels, torch.randint(0, 10, (images,), generator=generator)
    )
    torch.manual_seed(0)
    network = name("networks.resnet:build")("cifar_resnet20", in_channels=channels)
    state = loop.start(network, recipe, CPU)
    mean = name("data.augment:per_pixel_mean")(pixels)
    rest: tuple[Any, ...] = ()
    if HAS_DATASET:
        task = name("tasks.classification:CLASSIFICATION")
        mean, rest = name("data.preprocessing:Preprocessing").of_mean_image(mean), (task.means,)
        forward = loop.objective(state.network, recipe, CPU, F.cross_entropy, task.sums)
    else:
        forward = loop.objective(state.network, recipe, CPU)
    stream = name("data.stream:Stream")(data, mean, 128, 0, padding, flip)
    for event in loop.train(state, loop.launched(stream, forward, recipe), recipe, *rest):
        if isinstance(event, loop.Stepped):
            yield float(state.tally[0])


def _preprocessing() -> Any:
    fit = name("data.preprocessing:Fit").square(256, 224)
    return name("data.preprocessing:Preprocessing").by_channel(fit, MEAN, STD)


def _model() -> Any:
    torch.manual_seed(0)
    network = name("networks.resnet:build")("resnet18").eval()
    return name("models.modelfile:Model")(network, _preprocessing(), tuple(map(str, range(1000))), {})


def main(subject: str, threads: str, photos: str) -> None:
    """Measure until standard input ends."""
    torch.set_num_threads(int(threads))
    work = SUBJECTS[subject](int(threads), Path(photos) if photos else None)
    first = next(work)
    print(json.dumps({"package": str(importlib.import_module("resnetlab").__file__), "first": first}), flush=True)
    for line in sys.stdin:
        next(work)  # after a pause
        clock, processor = time.perf_counter(), time.process_time()
        for _ in islice(work, int(line)):
            pass
        print(json.dumps([time.perf_counter() - clock, time.process_time() - processor]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
