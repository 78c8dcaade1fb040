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

    Nothing is advanced by drawing a batch, so there is no state to save or restore. Of each batch this process gets
    the `part`-th of `parts`.
    """

    def __init__(
        self,
        images: Images,
        mean: Float[Tensor, "c h w"],
        batch_size: int,
        seed: int,
        padding: int,
        flip: bool,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        self.images = images
        self.mean = mean
        self.batch_size = batch_size
        self.seed = seed
        self.padding = padding
        self.flip = flip
        self._padded = zero_pad(images.pixels, padding)
        device = images.pixels.device
        self._epochs = 1 + -(-batch_size // len(images))  # that a batch can reach into
        self._order = lru_cache(self._epochs)(lambda epoch: permutation(len(images), seed, epoch, device))
        self._window = torch.empty(self._epochs * len(images), dtype=torch.int64, device=device)
        self._first = torch.zeros((), dtype=torch.int64, device=device)
        self._epoch: int | None = None
        share = batch_size // parts
        self._places = torch.arange(part * share, (part + 1) * share, device=device)

    def batch(self, step: int) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """Augmented, preprocessed images and their labels for step `step`, counted from 0."""
        self.prepare(step)
        return self.draw(torch.full((), step, device=self._first.device))

    def prepare(self, step: int) -> None:
        """Lay out the order of the epochs that the batch of this step is from, if it is not there."""
        epoch, n = step * self.batch_size // len(self.images), len(self.images)
        if epoch != self._epoch:
            self._window.copy_(torch.cat([self._order(epoch + k) for k in range(self._epochs)]))
            self._first.fill_(epoch * n)
            self._epoch = epoch

    def draw(self, step: Int64[Tensor, ""]) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """The batch of a step that is prepared, by arithmetic on the device alone."""
        index = self.indices(step)
        pixels = crop_and_flip(self._padded, index, self.padding, self.flip, self.seed, step, self._places)
        return preprocess(pixels, self.mean), self.images.labels[index]

    def indices(self, step: Int64[Tensor, ""]) -> Int64[Tensor, "b"]:
        """Which images the batch of a step that is prepared holds."""
        return self._window[step * self.batch_size - self._first + self._places]
