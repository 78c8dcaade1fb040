"""The training batch at step t as a pure function of (seed, t): order and augmentation both."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from resnetlab.data.augment import crop_and_flip, preprocess, zero_pad
from resnetlab.data.counter import permutation
from resnetlab.data.images import Images


class Stream:
    """Endless shuffled epochs over resident images, cut into batches that run on across an epoch's end.

    Nothing is advanced by drawing a batch, so there is no state to save or restore.
    """

    def __init__(
        self,
        images: Images,
        mean: Float[Tensor, "c h w"],
        batch_size: int,
        seed: int,
        padding: int,
        flip: bool,
    ) -> None:
        self.images = images
        self.mean = mean
        self.batch_size = batch_size
        self.seed = seed
        self.padding = padding
        self.flip = flip
        self._padded = zero_pad(images.pixels, padding)
        self._order = lru_cache(maxsize=2)(lambda epoch: permutation(len(images), seed, epoch, images.pixels.device))

    def batch(self, step: int) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """Augmented, preprocessed images and their labels for step `step`, counted from 0."""
        index = self.indices(step)
        pixels = crop_and_flip(self._padded, index, self.padding, self.flip, self.seed, step)
        return preprocess(pixels, self.mean), self.images.labels[index]

    def indices(self, step: int) -> Int64[Tensor, "b"]:
        """Which images the batch of this step holds."""
        first, n = step * self.batch_size, len(self.images)
        last = first + self.batch_size
        return torch.cat(
            [
                self._order(epoch)[max(first - epoch * n, 0) : last - epoch * n]
                for epoch in range(first // n, (last - 1) // n + 1)
            ]
        )
