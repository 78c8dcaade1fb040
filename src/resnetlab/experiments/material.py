"""What a run trains on and is tested on: images resident on its device, or files that are read as they are needed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from resnetlab.data import Fit, Images, ImageSet, Preprocessing, Stream, load, per_pixel_mean
from resnetlab.data.layouts import Split, is_listed
from resnetlab.data.listing import Listing, as_files, list_images
from resnetlab.data.photos import Augmentation, Crops, PhotoStream, Waiting
from resnetlab.data.reading import OnBad, fitted_batches
from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing
from resnetlab.models.importing import IMAGENET_MEAN, IMAGENET_STD
from resnetlab.training.distributed import World
from resnetlab.training.recipe import Crop, Recipe

Data = ImageSet | Listing
Batch = tuple[Tensor, Tensor]
MEAN_OF = 10_000  # training images
CALIBRATED_ON = 50_000  # of them, for exact batch statistics
SHOWN = 4  # images in a row of the sample
SAMPLE = 512  # pixels, the height of the sample of small images, about
TESTED_AT_A_TIME = {"cpu": 500, "cuda": 2500}
FILES_TESTED_AT_A_TIME = 64


@dataclass(frozen=True)
class Material:
    """Batches for training; images of each split to be tested on, prepared; all training images, so prepared."""

    batches: Stream | PhotoStream
    tests: Mapping[str, Callable[[], Iterator[Batch]]]
    calibration: Callable[[], Iterator[Tensor]]
    preprocessing: Preprocessing
    labels: np.ndarray
    waiting: Waiting | None = None

    def class_weights(self, classes: int) -> Float[Tensor, "classes"]:
        """Weights in the loss that make up for classes of different sizes; 1 on average over the images."""
        counts = np.bincount(self.labels, minlength=classes)
        return torch.from_numpy(len(self.labels) / (classes * np.maximum(counts, 1))).float()

    def sample(self) -> Image.Image:
        """The first training images as the network sees them, in colours again; small ones with larger pixels."""
        images = self.batches.batch(0)[0][: SHOWN * SHOWN].float().cpu()
        mean, std = self.preprocessing.mean.cpu(), self.preprocessing.std.cpu()
        pixels = (images * std + mean).mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        rows = [np.concatenate(list(pixels[k : k + SHOWN]), 1) for k in range(0, len(pixels), SHOWN)]
        sheet = np.concatenate([row for row in rows if row.shape == rows[0].shape])
        larger = max(1, SAMPLE // len(sheet))
        sheet = sheet.repeat(larger, 0).repeat(larger, 1)
        return Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet)


def load_data(source: str, data_dir: Path, image_size: int | None, crop: Crop) -> Data:
    """The images of a source: resident in memory, or listed where a recipe's crop wants them read as they are needed.

    Raises:
        ResnetlabError: they cannot be read.
    """
    if crop == "padded":
        return load(source, data_dir, Fit.square(image_size) if image_size else None)
    path = Path(source)
    return list_images(path) if is_listed(path) else as_files(load(source, data_dir))


def image_shape(data: Data, recipe: Recipe) -> tuple[int, int, int]:
    """Channels, height and width that a network sees."""
    return data.image_shape if isinstance(data, ImageSet) else (3, recipe.crop_size, recipe.crop_size)


def material(
    data: Data,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    *,
    given: Preprocessing | None = None,
    mean_file: Path | None = None,
    on_bad: OnBad = "stop",
    workers: int | None = None,
    here: World | None = None,
) -> Material:
    """All of it, on a device, this process's part of each batch and of each test.

    `given` is the preprocessing of a network that training starts from; a mean image is read from `mean_file`, if it
    is there.

    Raises:
        ResnetlabError: a file cannot be read, or the batch cannot be shared evenly.
    """
    here = here or World()
    recipe.parts(here.size)  # refuse what cannot be shared
    if isinstance(data, ImageSet):
        return _resident(data, recipe, seed, device, here)
    return _of_files(data, recipe, seed, device, given, mean_file, on_bad, workers, here)


def save_mean(data: Data, recipe: Recipe, path: Path, workers: int | None) -> None:
    """Write the mean of the training images as a network sees them (of 10,000 of them), if it is not there."""
    if isinstance(data, ImageSet) or recipe.normalise != "mean-image" or path.exists():
        return
    some = np.linspace(0, len(data.train) - 1, min(MEAN_OF, len(data.train))).astype(int)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for pixels, _ in fitted_batches(data.train[some], _fit(recipe), FILES_TESTED_AT_A_TIME, workers, "skip"):
        total = total + pixels.sum(0, dtype=torch.int64)
        count += len(pixels)
    if not count:
        raise ResnetlabError(f"none of the training images of {data.name} can be read")
    mean = (total / (255 * count)).float().permute(2, 0, 1).contiguous()
    with replacing(path) as temporary:
        temporary.write_bytes(to_safetensors({"mean": mean}))


def _resident(data: ImageSet, recipe: Recipe, seed: int, device: torch.device, here: World) -> Material:
    preprocessing = Preprocessing.of_mean_image(per_pixel_mean(data.train.pixels)).to(device)
    train = data.train.to(device)
    stream = Stream(
        train, preprocessing.mean, recipe.batch_size, seed, recipe.padding, recipe.flip, here.rank, here.size
    )
    size = TESTED_AT_A_TIME[device.type]

    def prepared(images: Images) -> Iterator[Batch]:
        for k in range(0, len(images), size):
            part = images[k : k + size]
            yield preprocessing(part.pixels), part.labels

    def calibration() -> Iterator[Tensor]:
        parts = torch.split(train.pixels, recipe.batch_size)
        return (preprocessing(part) for part in parts if len(part) == recipe.batch_size)

    splits = {"test": data.test} | ({} if data.validation is None else {"validation": data.validation})
    mine = {name: images[here.rank :: here.size].to(device) for name, images in splits.items()}
    tests = {name: partial(prepared, images) for name, images in mine.items()}
    return Material(stream, tests, calibration, preprocessing, data.train.labels.numpy())


def _of_files(
    data: Listing,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    given: Preprocessing | None,
    mean_file: Path | None,
    on_bad: OnBad,
    workers: int | None,
    here: World,
) -> Material:
    preprocessing = _preprocessing(recipe, given, mean_file)
    assert recipe.crop in get_args(Crops)  # noqa: S101 -- for the type checker
    augmentation = Augmentation(
        recipe.crop,  # type: ignore[arg-type]
        recipe.crop_size,
        (recipe.sides[0], recipe.sides[1]),
        recipe.least_area,
        recipe.flip,
        recipe.colour,
    )
    stream = PhotoStream(
        data.train,
        preprocessing,
        augmentation,
        recipe.batch_size,
        seed,
        device,
        balanced=recipe.balance == "sampling",
        on_bad=on_bad,
        part=here.rank,
        parts=here.size,
        threads=workers,
    )
    on_device = preprocessing.to(device)
    skipped = stream.waiting.skipped

    def prepared(split: Split, size: int = FILES_TESTED_AT_A_TIME) -> Iterator[Batch]:
        for pixels, labels in fitted_batches(split, preprocessing.fit, size, workers, on_bad, skipped):
            yield on_device(pixels.to(device)), labels.to(device)

    splits = {"test": data.test} | ({} if data.validation is None else {"validation": data.validation})
    mine = {name: split[np.arange(here.rank, len(split), here.size)] for name, split in splits.items()}
    tests = {name: partial(prepared, split) for name, split in mine.items()}
    some = np.unique(np.linspace(0, len(data.train) - 1, min(CALIBRATED_ON, len(data.train))).astype(int))
    size = min(recipe.batch_size, len(some))
    calibration = lambda: _of_one_size(prepared(data.train[some], size), size)
    return Material(stream, tests, calibration, on_device, data.train.labels, stream.waiting)


def _of_one_size(batches: Iterator[Batch], size: int) -> Iterator[Tensor]:
    return (images for images, _ in batches if len(images) == size)


def _preprocessing(recipe: Recipe, given: Preprocessing | None, mean_file: Path | None) -> Preprocessing:
    """The start's own mean and deviation, for its weights expect them; else what the recipe says."""
    fit = _fit(recipe)
    if given is not None:
        fits = given.mean.shape[1:] in (torch.Size((1, 1)), torch.Size(fit.crop))
        mean = given.mean if fits else given.mean.mean((1, 2), keepdim=True)
        return Preprocessing(Fit(fit.resize, fit.crop, given.fit.interpolation, given.fit.mode), mean, given.std)
    if recipe.normalise == "imagenet":
        return Preprocessing.by_channel(fit, IMAGENET_MEAN, IMAGENET_STD)
    if mean_file is None:
        raise ResnetlabError(f"recipe {recipe.name} subtracts the mean image, and there is none")
    return Preprocessing(fit, load_file(mean_file)["mean"], torch.ones(3, 1, 1))


def _fit(recipe: Recipe) -> Fit:
    return Fit.square(recipe.test_resize, recipe.crop_size)
