"""Training and test batches of image files of any size, decoded as they are needed.

The batch at step t is a pure function of (seed, t), with any number of threads and processes.
"""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from resnetlab.data.ahead import in_order
from resnetlab.data.counter import bits, permutation
from resnetlab.data.decode import Box, crop
from resnetlab.data.listing import File, Split
from resnetlab.data.preprocessing import Fit, Preprocessing, open_image
from resnetlab.errors import ResnetlabError

OnBad = Literal["stop", "skip"]
Crops = Literal["shorter-side", "area"]
AHEAD = 3  # batches that are read while one is trained on
CHUNK = 4  # images that a thread takes at a time
TRIES = 10  # for a crop of random area and shape that fits
RATIOS = 3 / 4, 4 / 3
DRAWS = 2 * TRIES + 8  # random numbers for an image
EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""Of ImageNet's training pixels, RGB from 0 to 1, as fb.resnet.torch has them; for AlexNet's colour noise."""
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image.

    `shorter-side`: scaled until its shorter side is anything in `sides`, then a crop anywhere (Section 3.4).
    `area`: a crop of a random share of the area, `least_area` to 1, of a shape of 3:4 to 4:3, then scaled, as
    torchvision's `RandomResizedCrop`. `colour` is the standard deviation of AlexNet's noise along the principal
    components of RGB.
    """

    crop: Crops
    size: int
    sides: tuple[int, int] = (256, 480)
    least_area: float = 0.08
    flip: bool = True
    colour: float = 0.0


@dataclass
class Waiting:
    """Seconds for which training waited for images, and files that could not be read and were left out."""

    seconds: float = 0.0
    skipped: set[str] = field(default_factory=set)


class PhotoStream:
    """Endless shuffled epochs over image files, cut into batches that run on across an epoch's end.

    Of each batch this process gets the `part`-th of `parts`. `balanced`: each class is drawn equally often. Files
    that cannot be read stop it, or, with `on_bad="skip"`, the next file takes their place.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        device: torch.device,
        *,
        balanced: bool = False,
        on_bad: OnBad = "stop",
        part: int = 0,
        parts: int = 1,
        threads: int | None = None,
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing.to(device)
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.on_bad = on_bad
        self.waiting = Waiting()
        share = batch_size // parts
        self._places = np.arange(part * share, (part + 1) * share)
        self._order = lru_cache(3)(self._balanced if balanced else self._shuffled)
        self._pool = ThreadPoolExecutor(threads or os.cpu_count())
        self._begun: dict[int, list[Future[tuple[list[Tensor], list[int]]]]] = {}

    def batch(self, step: int) -> tuple[Float[Tensor, "b 3 h w"], Int64[Tensor, "b"]]:
        """Augmented, preprocessed images and their labels for step `step`, counted from 0."""
        for early in [k for k in self._begun if not step <= k < step + AHEAD]:
            for future in self._begun.pop(early):
                future.cancel()
        for k in range(step, step + AHEAD):
            if k not in self._begun:
                self._begun[k] = self._begin(k)
        began = time.perf_counter()
        parts = [future.result() for future in self._begun.pop(step)]
        self.waiting.seconds += time.perf_counter() - began
        pixels = torch.stack([image for images, _ in parts for image in images])
        labels = torch.tensor([label for _, found in parts for label in found])
        if self.device.type == "cuda":
            pixels, labels = pixels.pin_memory(), labels.pin_memory()
        on_device = pixels.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        return self._augmented(on_device[0], step), on_device[1]

    def indices(self, step: int) -> list[int]:
        """Which files this process's part of the batch holds."""
        n = len(self.split)
        positions = (step * self.batch_size + self._places).tolist()
        return [int(self._order(position // n)[position % n]) for position in positions]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, step: int) -> list[Future[tuple[list[Tensor], list[int]]]]:
        indices, draws = self.indices(step), self._draws(step)
        chunks = [slice(k, k + CHUNK) for k in range(0, len(indices), CHUNK)]
        return [self._pool.submit(self._read, indices[chunk], draws[chunk]) for chunk in chunks]

    def _read(self, indices: list[int], draws: np.ndarray) -> tuple[list[Tensor], list[int]]:
        images, labels = [], []
        for index, drawn in zip(indices, draws, strict=True):
            image, label = self._one(index, drawn)
            images.append(image)
            labels.append(label)
        return images, labels

    def _one(self, index: int, drawn: np.ndarray) -> tuple[UInt8[Tensor, "h w 3"], int]:
        box = _shorter_side if self.augmentation.crop == "shorter-side" else _area

        def choose(width: int, height: int) -> Box:
            return box(width, height, drawn, self.augmentation)

        for further in range(len(self.split)):
            k = (index + further) % len(self.split)
            file = self.split.files[k]
            try:
                return crop(file.read(), file.path, choose, self.augmentation.size), int(self.split.labels[k])
            except ResnetlabError:
                if self.on_bad == "stop":
                    raise
                self.waiting.skipped.add(file.path)
        raise ResnetlabError("none of the training images can be read")

    def _augmented(self, pixels: UInt8[Tensor, "b h w 3"], step: int) -> Float[Tensor, "b 3 h w"]:
        drawn = torch.from_numpy(self._draws(step)[:, 2 * TRIES + 2 :]).to(self.device)
        if self.augmentation.flip:
            pixels = torch.where((drawn[:, 0] < 0.5)[:, None, None, None], pixels.flip(2), pixels)
        images = self.preprocessing(pixels)
        if self.augmentation.colour:
            noise = torch.special.ndtri(drawn[:, 1:4].clamp(1e-9)).float() * self.augmentation.colour
            values, vectors = (torch.tensor(x, device=self.device) for x in (EIGENVALUES, EIGENVECTORS))
            shift = (noise * values) @ vectors.T
            images = images + (shift[:, :, None, None] / self.preprocessing.std)
        return images

    def _draws(self, step: int) -> np.ndarray:
        """Numbers from 0 to 1 for each image of this process's part of the batch."""
        counter = torch.from_numpy(self._places)[:, None] * DRAWS + torch.arange(DRAWS)
        return (bits(counter, self.seed, 2, step).double() / 2**63).numpy()

    def _shuffled(self, epoch: int) -> np.ndarray:
        return permutation(len(self.split), self.seed, epoch, torch.device("cpu")).numpy()

    def _balanced(self, epoch: int) -> np.ndarray:
        """As many files as there are, each class as likely as any other."""
        n, classes = len(self.split), np.unique(self.split.labels)
        members = [np.flatnonzero(self.split.labels == number) for number in classes]
        drawn = bits(torch.arange(2 * n), self.seed, 3, epoch).numpy()
        which = drawn[:n] % len(classes)
        return np.array([members[k][d % len(members[k])] for k, d in zip(which, drawn[n:], strict=True)])


def fitted_batches(
    split: Split,
    fit: Fit,
    batch_size: int,
    threads: int | None = None,
    on_bad: OnBad = "stop",
    skipped: set[str] | None = None,
) -> Iterator[tuple[UInt8[Tensor, "b h w c"], Int64[Tensor, "b"]]]:
    """Images in order as a network is tested on them, read ahead by threads; `skipped` gains what is left out.

    Raises:
        ResnetlabError: a file that cannot be read, by name, unless `on_bad` is "skip".
    """

    def read(pair: tuple[File, int]) -> tuple[np.ndarray, int] | None:
        file, label = pair
        try:
            return fit(open_image(file.read(), file.path)), label
        except ResnetlabError:
            if on_bad == "stop":
                raise
            if skipped is not None:
                skipped.add(file.path)
            return None

    threads = threads or os.cpu_count() or 1
    pairs = zip(split.files, split.labels.tolist(), strict=True)
    batch: list[tuple[np.ndarray, int]] = []
    for found in in_order(read, pairs, threads, 2 * max(batch_size, threads)):
        batch += [found] if found is not None else []
        if len(batch) == batch_size:
            yield _stacked(batch)
            batch = []
    if batch:
        yield _stacked(batch)


def _stacked(batch: list[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.stack([pixels for pixels, _ in batch])), torch.tensor([label for _, label in batch])


def _shorter_side(width: int, height: int, drawn: np.ndarray, how: Augmentation) -> Box:
    """Where a crop of `size` pixels lies in the unscaled image, if the shorter side is scaled to one of `sides`."""
    low, high = how.sides
    side = low + int(drawn[0] * (high - low + 1))
    cut = max(1, min(width, height, round(how.size * min(width, height) / side)))
    return int(drawn[1] * (width - cut + 1)), int(drawn[2] * (height - cut + 1)), cut, cut


def _area(width: int, height: int, drawn: np.ndarray, how: Augmentation) -> Box:
    """The first of ten crops of random area and shape that fits; else the largest centre crop of such a shape."""
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
