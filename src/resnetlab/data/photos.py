"""Training batches of image files of any size, decoded on demand.

The batch at step t is a pure function of (seed, t), for any number of threads and processes.
"""

import math
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor

from resnetlab.choices import OnBad
from resnetlab.data import trivial_augment
from resnetlab.data.batch_augment import OFF, BatchAugmentation, BatchAugmenter
from resnetlab.data.counter import balanced_draws, bits, permutation
from resnetlab.data.dataset import Files
from resnetlab.data.decode import Box, crop
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.errors import ResnetlabError

Crops = Literal["shorter-side", "area"]
AHEAD = 3  # batches in flight, the current one included
CHUNK = 8  # images per thread task
TRIES = 10  # attempts to draw a crop of random area and aspect ratio that fits
RATIOS = 3 / 4, 4 / 3
DRAWS = 2 * TRIES + 8  # random numbers per image
FLIP = 2 * TRIES + 2  # index of the one that decides the flip
COLOUR = slice(FLIP + 1, FLIP + 4)
TRIVIAL = 22  # coordinate of the random numbers of TrivialAugment
EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""PCA of ImageNet's training pixels (RGB, 0 to 1), from fb.resnet.torch, for AlexNet's colour noise."""
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


@dataclass(frozen=True)
class Augmentation:
    """How a training image is augmented.

    `shorter-side`: scale the shorter side to a random length in `sides`, then take a random crop (Section 3.4).
    `area`: crop a random share of the area (`least_area` to 1) with an aspect ratio of 3:4 to 4:3, then scale, like
    torchvision's `RandomResizedCrop`. `colour`: standard deviation of AlexNet's PCA colour noise. `trivial`: apply
    TrivialAugment to the crop.
    """

    crop: Crops
    size: int
    sides: tuple[int, int] = (256, 480)
    least_area: float = 0.08
    flip: bool = True
    colour: float = 0.0
    trivial: bool = False


@dataclass
class Waiting:
    """Seconds that training waited for images, and the unreadable files that were skipped."""

    seconds: float = 0.0
    skipped: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Begun:
    """A batch that threads are filling, and the labels that each thread will return."""

    pixels: Tensor
    labels: list[Future[list[int]]]

    def done(self) -> tuple[Tensor, Int64[Tensor, "b"]]:
        """Wait for the pixels (channels last) and labels."""
        return self.pixels, torch.tensor([label for future in self.labels for label in future.result()])


class PhotoStream:
    """Endless shuffled epochs over image files; batches may span the end of an epoch.

    This process gets part `part` (from 0) of `parts` of each batch. `balanced`: each class is drawn equally often.
    `repeats`: each image of a batch is in it this many times, evenly spaced, differently augmented. An unreadable
    file raises; with `on_bad="skip"` the next file replaces it.
    """

    def __init__(
        self,
        split: Files,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        device: torch.device,
        *,
        balanced: bool = False,
        repeats: int = 1,
        after: BatchAugmentation = OFF,
        on_bad: OnBad = "stop",
        part: int = 0,
        parts: int = 1,
        threads: int | None = None,
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing.to(device)
        self.augmentation = augmentation
        self.distinct = batch_size // repeats  # images in a batch
        self.seed = seed
        self.device = device
        self._labels: list[int] = split.labels.tolist()
        self.as_bytes = device.type != "cpu"
        self.on_bad = on_bad
        self.waiting = Waiting()
        share = batch_size // parts
        self._after = BatchAugmenter(after, seed, torch.arange(part * share, (part + 1) * share, device=device))
        self._places = self._after.places.cpu()
        self._order = lru_cache(3)(self._balanced if balanced else self._shuffled)
        self._pool = ThreadPoolExecutor(threads or os.cpu_count())
        self._scratch = threading.local()
        self._begun: dict[int, Begun] = {}
        self._deviation = preprocessing.std.flatten().cpu()
        self._mean, self._std = (_by_row(x.cpu(), augmentation.size) for x in (preprocessing.mean, preprocessing.std))

    def batch(self, step: int) -> tuple[Float[Tensor, "b 3 h w"], Shaped[Tensor, "b *target"]]:
        """Augmented, preprocessed images and their targets for step `step`, counted from 0."""
        pixels, labels = map(self._sent, self.read(step))
        if pixels.is_floating_point():
            images = pixels.permute(0, 3, 1, 2)
        else:
            images = self.preprocessing(pixels)
            if self.augmentation.colour:
                images += self._sent(torch.from_numpy(self._shifts(self._draws(step))))[:, :, None, None]
        return self._after(images, labels, torch.full((), step, device=self.device))

    def _sent(self, x: Tensor) -> Tensor:
        """On the device, without waiting: a copy to a GPU starts from pinned memory."""
        pinned = x.pin_memory() if self.device.type == "cuda" and not x.is_pinned() else x
        return pinned.to(self.device, non_blocking=self.device.type == "cuda")

    def read(self, step: int) -> tuple[Tensor, Int64[Tensor, "b"]]:
        """The batch from the threads, channels last: preprocessed floats for a CPU, bytes for a GPU."""
        for early in [k for k in self._begun if not step <= k < step + AHEAD]:
            for future in self._begun.pop(early).labels:
                future.cancel()
        for k in range(step, step + AHEAD):
            if k not in self._begun:
                self._begun[k] = self._begin(k)
        began = time.perf_counter()
        done = self._begun.pop(step).done()
        self.waiting.seconds += time.perf_counter() - began
        return done

    def indices(self, step: int) -> list[int]:
        """Numbers of the files that this process needs for its part of the batch."""
        n = len(self.split)
        positions = (step * self.distinct + self._places % self.distinct).tolist()
        return [int(self._order(position // n)[position % n]) for position in positions]

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, step: int) -> "Begun":
        """Submit a batch. For a CPU, threads preprocess each image while it is in cache; a GPU receives bytes."""
        indices, draws, size = self.indices(step), self._draws(step), self.augmentation.size
        kind = torch.uint8 if self.as_bytes else torch.float32
        pixels = torch.empty(len(indices), size, size, 3, dtype=kind, pin_memory=self.device.type == "cuda")
        chunks = [slice(k, k + CHUNK) for k in range(0, len(indices), CHUNK)]
        trivial = self._trivial_draws(step)
        submit = self._pool.submit
        return Begun(pixels, [submit(self._read, indices[c], draws[c], trivial[c], pixels[c]) for c in chunks])

    def _read(self, indices: list[int], draws: np.ndarray, trivial: np.ndarray, pixels: Tensor) -> list[int]:
        """Fill in the pixels of some images and return their labels."""
        labels = []
        shifts = self._shifts(draws) if self.augmentation.colour and pixels.is_floating_point() else None
        for k, (index, drawn, place) in enumerate(zip(indices, draws, pixels.numpy(), strict=True)):
            image, label = self._one(index, drawn)
            turned = self.augmentation.flip and drawn[FLIP] < 0.5
            shown = (image.flip(1) if turned else image).numpy()
            if self.augmentation.trivial:
                shown = trivial_augment.trivial_augment(shown, trivial[k])
            if pixels.is_floating_point():  # in NumPy: torch would start more threads in each thread
                self._preprocess(shown, place, None if shifts is None else shifts[k])
            else:
                np.copyto(place, shown)
            labels.append(label)
        return labels

    def _preprocess(self, shown: np.ndarray, place: np.ndarray, shift: np.ndarray | None) -> None:
        """Convert bytes to the network's input, in a buffer that stays in this core's cache."""
        if not hasattr(self._scratch, "values"):
            self._scratch.values = np.empty((len(place), place[0].size), np.float32)
        values = self._scratch.values
        np.copyto(values, shown.reshape(values.shape))
        values /= 255
        values -= self._mean
        if shift is None:
            np.divide(values, self._std, out=place.reshape(values.shape))
        else:
            values /= self._std
            np.add(values, np.tile(shift, len(place)), out=place.reshape(values.shape))

    def _one(self, index: int, drawn: np.ndarray) -> tuple[UInt8[Tensor, "h w 3"], int]:
        box = _shorter_side if self.augmentation.crop == "shorter-side" else _area

        def choose(width: int, height: int) -> Box:
            return box(width, height, drawn, self.augmentation)

        for further in range(len(self.split)):
            k = (index + further) % len(self.split)
            file = self.split.files[k]
            try:
                return crop(file.read(), file.path, choose, self.augmentation.size), self._labels[k]
            except ResnetlabError:
                if self.on_bad == "stop":
                    raise
                self.waiting.skipped.add(file.path)
        raise ResnetlabError("none of the training images can be read")

    def _shifts(self, draws: np.ndarray) -> Float[np.ndarray, "b 3"]:
        """AlexNet's colour noise per image, scaled for the normalised input."""
        normal = torch.special.ndtri(torch.from_numpy(draws[:, COLOUR]).clamp(1e-9)).float()
        noise = normal * self.augmentation.colour * torch.tensor(EIGENVALUES)
        shifts: np.ndarray = (noise @ torch.tensor(EIGENVECTORS).T / self._deviation).numpy()
        return shifts

    def _draws(self, step: int) -> np.ndarray:
        """Random numbers from 0 to 1 for each image that this process needs."""
        counter = self._places[:, None] * DRAWS + torch.arange(DRAWS)
        return (bits(counter, self.seed, 2, step).double() / 2**63).numpy()

    def _trivial_draws(self, step: int) -> np.ndarray:
        """Random whole numbers for TrivialAugment of each image; none where it is off."""
        numbers = trivial_augment.NUMBERS if self.augmentation.trivial else 0
        counter = self._places[:, None] * numbers + torch.arange(numbers)
        return bits(counter, self.seed, TRIVIAL, step).numpy()

    def _shuffled(self, epoch: int) -> np.ndarray:
        return permutation(len(self.split), self.seed, epoch, torch.device("cpu")).numpy()

    def _balanced(self, epoch: int) -> np.ndarray:
        return balanced_draws(self.split.labels, self.seed, epoch).numpy()


def _by_row(values: Float[Tensor, "c h w"], size: int) -> Float[np.ndarray, "h wc"]:
    """Channels last, one row if all rows are equal, so that it stays in the CPU cache."""
    by_pixel: np.ndarray = values.expand(-1, -1, size).permute(1, 2, 0).flatten(1).contiguous().numpy()
    return by_pixel


def _shorter_side(width: int, height: int, drawn: np.ndarray, how: Augmentation) -> Box:
    """The box in the unscaled image of a `size`-pixel crop after scaling the shorter side to a value in `sides`."""
    low, high = how.sides
    side = low + int(drawn[0] * (high - low + 1))
    cut = max(1, min(width, height, round(how.size * min(width, height) / side)))
    return int(drawn[1] * (width - cut + 1)), int(drawn[2] * (height - cut + 1)), cut, cut


def _area(width: int, height: int, drawn: np.ndarray, how: Augmentation) -> Box:
    """The first of ten random crops that fits, otherwise the largest centre crop with an allowed aspect ratio."""
    narrow, wide = (math.log(ratio) for ratio in RATIOS)
    for k in range(TRIES):
        area = width * height * (how.least_area + (1 - how.least_area) * drawn[2 * k])
        ratio = math.exp(narrow + (wide - narrow) * drawn[2 * k + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = drawn[2 * TRIES] * (width - w + 1), drawn[2 * TRIES + 1] * (height - h + 1)
            return int(left), int(top), w, h
    w, h = min(width, round(height * RATIOS[1])), min(height, round(width / RATIOS[0]))
    return (width - w) // 2, (height - h) // 2, w, h
