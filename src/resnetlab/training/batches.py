"""Make training and test batches from a data set and a recipe, for images in memory and in files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast, get_args, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnetlab.choices import OnBad
from resnetlab.data.augment import per_pixel_mean
from resnetlab.data.batch_augment import BatchAugmentation
from resnetlab.data.dataset import Dataset, Files, Pixels, Split
from resnetlab.data.photos import Augmentation, Crops, PhotoStream, Waiting
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.data.reading import fitted_batches
from resnetlab.data.stream import Stream
from resnetlab.errors import ResnetlabError
from resnetlab.models import tensorfile
from resnetlab.networks.statistics import equal_parts
from resnetlab.training.distributed import World
from resnetlab.training.recipe import Recipe

Inputs = Any
"""A tensor, or a structure with a length that slices into chunks as a tensor does."""
Batch = tuple[Inputs, Inputs]
MEAN_OF = 10_000  # training images for the mean image
CALIBRATED_ON = 50_000  # training images for exact batch statistics
SHOWN = 4  # images in a row of the sample
SAMPLE = 512  # pixels, approximate height of the sample of small images
TESTED_AT_A_TIME = {"cpu": 500, "cuda": 2500, "mps": 500}
FILES_TESTED_AT_A_TIME = 64
MEAN = "resnetlab-mean"


@dataclass(frozen=True)
class Reading:
    """How files are read: threads, action for unreadable files, and this process's rank."""

    workers: int | None = None
    on_bad: OnBad = "stop"
    world: World = field(default_factory=World)


@runtime_checkable
class Training(Protocol):
    """Training batches, a pure function of the step."""

    def batch(self, step: int) -> tuple[Inputs, Inputs]:
        """The network's input images, and targets."""

    def read(self, step: int) -> Any:
        """What is read from files for a step."""

    def close(self) -> None:
        """Stop the threads, if any."""


@dataclass(frozen=True)
class Batches:
    """Training batches, and preprocessed images of the test splits and (`calibration`) of the training split."""

    training: Training
    tests: Mapping[str, Callable[[], Iterator[Batch]]]
    calibration: Callable[[], Iterator[Inputs]]
    preprocessing: Preprocessing
    waiting: Waiting
    sample: Callable[[], Image.Image]
    """A picture of the first augmented training images."""


def sample(training: Training, preprocessing: Preprocessing) -> Image.Image:
    """A picture of the first augmented training images; small images are enlarged."""
    images = training.batch(0)[0][: SHOWN * SHOWN].float().cpu()
    mean, std = preprocessing.mean.cpu(), preprocessing.std.cpu()
    pixels = (images * std + mean).mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(list(pixels[k : k + SHOWN]), 1) for k in range(0, len(pixels), SHOWN)]
    sheet = np.concatenate([row for row in rows if row.shape == rows[0].shape])
    larger = max(1, SAMPLE // len(sheet))
    sheet = sheet.repeat(larger, 0).repeat(larger, 1)
    return Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet)


def image_shape(dataset: Dataset, recipe: Recipe) -> tuple[int, int, int]:
    """Channels, height and width of the network's input in training."""
    return dataset.image_shape or (3, recipe.crop_size, recipe.crop_size)


def prepare(
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    preprocessing: Preprocessing,
    reading: Reading = Reading(),
) -> Batches:
    """Make this process's part of all training and test batches, on a device.

    Raises:
        ResnetlabError: a file cannot be read, or the batch cannot be divided evenly.
    """
    world = reading.world
    recipe.parts(world.size)  # raises if the batch cannot be divided
    preprocessing = preprocessing.to(device)
    classes = len(dataset.classes)
    if isinstance(dataset.train, Pixels):
        train = dataset.train.to(device)
        training: Stream | PhotoStream = _stream(train, preprocessing, recipe, seed, world, classes)
        waiting, some = Waiting(), cast("Split", train)
    else:
        training = _photo_stream(dataset.train, preprocessing, recipe, seed, device, reading, classes)
        waiting = training.waiting
        every = np.linspace(0, len(dataset.train) - 1, min(CALIBRATED_ON, len(dataset.train)))
        some = dataset.train[torch.from_numpy(np.unique(every.astype(int)))]
    size = min(recipe.batch_size, len(some))
    waiting.skipped.update(dataset.unreadable)

    def prepared(split: Split, size: int) -> Iterator[Batch]:
        return _prepared(split, preprocessing, device, size, reading, waiting.skipped)

    def calibration() -> Iterator[Tensor]:
        parts = equal_parts(len(some), size)
        # Synchronised layers need the same batches in all processes; otherwise processes divide the work
        for part in parts if recipe.synchronised else parts[world.rank :: world.size]:
            yield from (images for images, _ in prepared(some[part], size))

    def test(split: Split) -> Callable[[], Iterator[Batch]]:
        mine = split[torch.arange(world.rank, len(split), world.size)]
        mine = mine.to(device) if isinstance(mine, Pixels) else mine
        size = TESTED_AT_A_TIME[device.type] if isinstance(mine, Pixels) else FILES_TESTED_AT_A_TIME
        return lambda: prepared(mine, size)

    tests = {name: test(split) for name, split in dataset.splits.items() if name != "train"}
    picture = lambda: sample(training, preprocessing)
    return Batches(training, tests, calibration, preprocessing, waiting, picture)


def choose_preprocessing(
    dataset: Dataset, recipe: Recipe, given: Preprocessing | None = None, mean_file: Path | None = None
) -> Preprocessing:
    """The mean and standard deviation of the starting weights, otherwise the recipe's.

    The mean image of files is read from `mean_file`; see `save_mean`.

    Raises:
        ResnetlabError: grey images with `normalise=imagenet`, or no mean image.
    """
    fit = fit_of(dataset, recipe)
    if given is not None:
        of_all = not dataset.resident and recipe.tested_at != recipe.crop_size  # no mean image has both sizes
        fits = not of_all and given.mean.shape[1:] in (torch.Size((1, 1)), torch.Size(fit.crop))
        mean = given.mean if fits else given.mean.mean((1, 2), keepdim=True)
        interpolation = fit.interpolation if dataset.resident else given.fit.interpolation  # in memory it is done
        return Preprocessing(replace(fit, interpolation=interpolation), mean, given.std)
    if recipe.normalise == "imagenet":
        if fit.mode != "RGB":
            raise ResnetlabError(f"{dataset.name} has grey images; normalise=imagenet is for RGB; use mean-image")
        return Preprocessing.by_channel(fit, IMAGENET_MEAN, IMAGENET_STD)
    if isinstance(dataset.train, Pixels):
        return Preprocessing.of_mean_image(per_pixel_mean(dataset.train.pixels))
    if mean_file is None:
        raise ResnetlabError(f"recipe {recipe.name} subtracts the mean image, and there is none")
    try:
        mean = tensorfile.read(mean_file, MEAN, needed=False)[1]["mean"]
    except (OSError, ValueError, KeyError) as error:
        raise ResnetlabError(f"{mean_file} is damaged ({error}); remove it, and it is made again") from None
    return Preprocessing.checked(fit, mean, torch.ones(3, 1, 1))


def save_mean(dataset: Dataset, recipe: Recipe, path: Path, workers: int | None) -> None:
    """Write the mean of 10,000 fitted training images, if it is needed and missing.

    Raises:
        ResnetlabError: none of the images can be read.
    """
    if isinstance(dataset.train, Pixels) or recipe.normalise != "mean-image" or path.exists():
        return
    some = np.linspace(0, len(dataset.train) - 1, min(MEAN_OF, len(dataset.train))).astype(int)
    split = dataset.train[torch.from_numpy(some)]
    total, count = torch.zeros((), dtype=torch.float64), 0
    for pixels, _ in fitted_batches(split, fit_of(dataset, recipe), FILES_TESTED_AT_A_TIME, workers, "skip"):
        total = total + pixels.sum(0, dtype=torch.int64)
        count += len(pixels)
    if not count:
        raise ResnetlabError(f"none of the training images of {dataset.name} can be read")
    mean = (total / (255 * count)).float().permute(2, 0, 1).contiguous()
    tensorfile.write(path, MEAN, {}, {"mean": mean})


def _prepared(
    split: Split, preprocessing: Preprocessing, device: torch.device, size: int, reading: Reading, skipped: set[str]
) -> Iterator[Batch]:
    if isinstance(split, Pixels):
        for k in range(0, len(split), size):
            part = split[k : k + size]
            yield preprocessing(part.pixels), part.labels
        return
    fit = preprocessing.fit
    for pixels, labels in fitted_batches(split, fit, size, reading.workers, reading.on_bad, skipped):
        yield preprocessing(pixels.to(device)), labels.to(device)


def _after(recipe: Recipe, classes: int) -> BatchAugmentation:
    return BatchAugmentation(recipe.erasing, recipe.mixup, recipe.cutmix, classes, recipe.mixed_over)


def _stream(
    train: Pixels, preprocessing: Preprocessing, recipe: Recipe, seed: int, world: World, classes: int
) -> Stream:
    return Stream(
        train,
        preprocessing,
        recipe.batch_size,
        seed,
        recipe.padding,
        recipe.flip,
        balanced=recipe.balance == "sampling",
        repeats=recipe.repeats,
        after=_after(recipe, classes),
        part=world.rank,
        parts=world.size,
    )


def _photo_stream(
    train: Files,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    reading: Reading,
    classes: int,
) -> PhotoStream:
    assert recipe.crop in get_args(Crops)  # noqa: S101 -- for the type checker
    low, high = recipe.sides
    augmentation = Augmentation(
        recipe.crop,  # type: ignore[arg-type]
        recipe.crop_size,
        (low, high),
        recipe.least_area,
        recipe.flip,
        recipe.colour,
        recipe.augment == "trivial",
    )
    return PhotoStream(
        train,
        preprocessing,
        augmentation,
        recipe.batch_size,
        seed,
        device,
        balanced=recipe.balance == "sampling",
        repeats=recipe.repeats,
        after=_after(recipe, classes),
        on_bad=reading.on_bad,
        part=reading.world.rank,
        parts=reading.world.size,
        threads=reading.workers,
    )


def fit_of(dataset: Dataset, recipe: Recipe) -> Fit:
    """How images are scaled and cropped for tests."""
    if recipe.crop == "whole":
        return Fit.uncropped(recipe.crop_size, recipe.longest)
    if (shape := dataset.image_shape) is None:
        return Fit.square(recipe.test_resize, recipe.tested_at)
    channels, height, width = shape
    return Fit((height, width), (height, width), mode="RGB" if channels == 3 else "L")
