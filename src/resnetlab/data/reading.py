"""Image files in order, as networks are tested on them, read ahead by threads."""

import os
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from resnetlab.data.ahead import in_order
from resnetlab.data.layouts import File, Split
from resnetlab.data.preprocessing import Fit, open_image
from resnetlab.errors import ResnetlabError

T = TypeVar("T")
OnBad = Literal["stop", "skip"]


def fitted_batches(
    split: Split,
    fit: Fit,
    batch_size: int,
    threads: int | None = None,
    on_bad: OnBad = "stop",
    skipped: set[str] | None = None,
) -> Iterator[tuple[UInt8[Tensor, "b h w c"], Int64[Tensor, "b"]]]:
    """Images in order as a network is tested on them in training; see `read_each`."""
    batch: list[tuple[np.ndarray, int]] = []
    for number, pixels in read_each(split, fit, threads, on_bad, skipped, 2 * batch_size):
        batch.append((pixels, int(split.labels[number])))
        if len(batch) == batch_size:
            yield _stacked(batch)
            batch = []
    if batch:
        yield _stacked(batch)


def read_each(
    split: Split,
    cut: Callable[[Image.Image], T],
    threads: int | None = None,
    on_bad: OnBad = "stop",
    skipped: set[str] | None = None,
    ahead: int = 32,
) -> Iterator[tuple[int, T]]:
    """What `cut` makes of each image, in order and with its number, read ahead by threads.

    `skipped` gains the paths of files that cannot be read and are left out.

    Raises:
        ResnetlabError: a file that cannot be read, by name, unless `on_bad` is "skip".
    """

    def read(file: File) -> T | None:
        try:
            return cut(open_image(file.read(), file.path))
        except ResnetlabError:
            if on_bad == "stop":
                raise
            if skipped is not None:
                skipped.add(file.path)
            return None

    threads = threads or os.cpu_count() or 1
    for number, found in enumerate(in_order(read, split.files, threads, max(ahead, 2 * threads))):
        if found is not None:
            yield number, found


def _stacked(batch: list[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.stack([pixels for pixels, _ in batch])), torch.tensor([label for _, label in batch])
