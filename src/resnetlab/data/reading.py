"""Read images in order for testing, with threads that read ahead."""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor

from resnetlab.choices import OnBad
from resnetlab.data.ahead import in_order
from resnetlab.data.dataset import Split
from resnetlab.data.preprocessing import Fit, fitted
from resnetlab.errors import ResnetlabError

T = TypeVar("T")


def fitted_batches(
    split: Split,
    fit: Fit,
    batch_size: int,
    threads: int | None = None,
    on_bad: OnBad = "stop",
    skipped: set[str] | None = None,
) -> Iterator[tuple[UInt8[Tensor, "b h w c"], Shaped[Tensor, "b *target"]]]:
    """Batches of fitted images in order, for tests during training; see `read_each`."""
    numbers, images = list[int](), list[np.ndarray]()
    for number, pixels in read_each(split, fit, threads, on_bad, skipped, 2 * batch_size):
        numbers.append(number)
        images.append(pixels)
        if len(images) == batch_size:
            yield torch.from_numpy(np.stack(images)), split.labels[torch.tensor(numbers)]
            numbers, images = [], []
    if images:
        yield torch.from_numpy(np.stack(images)), split.labels[torch.tensor(numbers)]


def read_each(
    split: Split,
    cut: Callable[[Image.Image], T],
    threads: int | None = None,
    on_bad: OnBad = "stop",
    skipped: set[str] | None = None,
    ahead: int = 32,
) -> Iterator[tuple[int, T]]:
    """Apply `cut` to each image and yield (number, result) in order; threads read ahead.

    The paths of unreadable files that are skipped are added to `skipped`.

    Raises:
        ResnetlabError: names an unreadable file, unless `on_bad` is "skip".
    """

    def read(number: int) -> T | None:
        try:
            return fitted(cut, split.open(number), split.place(number))
        except ResnetlabError:
            if on_bad == "stop":
                raise
            if skipped is not None:
                skipped.add(split.place(number))
            return None

    threads = threads or os.cpu_count() or 1
    for number, found in enumerate(in_order(read, range(len(split)), threads, max(ahead, 2 * threads))):
        if found is not None:
            yield number, found
