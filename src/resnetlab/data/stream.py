"""The training batch at step t as a pure function of (seed, t), including order and augmentation."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from resnetlab.data.augment import crop_and_flip, zero_pad
from resnetlab.data.batch_augment import OFF, BatchAugmentation, BatchAugmenter
from resnetlab.data.counter import balanced_draws, key, permutation
from resnetlab.data.dataset import Pixels
from resnetlab.data.preprocessing import Preprocessing

CROPS = 1  # coordinate of random numbers


class Stream:
    """Endless shuffled epochs over images in memory; batches may span the end of an epoch.

    Drawing a batch changes no state, so there is none to save. This process gets part `part` (from 0) of the
    `parts` of each batch. `balanced`: each class is drawn equally often. `repeats`: each image of a batch is in it
    this many times, evenly spaced, differently augmented.
    """

    def __init__(
        self,
        images: Pixels,
        preprocessing: Preprocessing,
        batch_size: int,
        seed: int,
        padding: int,
        flip: bool,
        *,
        balanced: bool = False,
        repeats: int = 1,
        after: BatchAugmentation = OFF,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        device = images.pixels.device
        self.images = images
        self.preprocessing = preprocessing.to(device)
        self.distinct = batch_size // repeats  # images in a batch
        self.seed = seed
        self.padding = padding
        self.flip = flip
        self._key = torch.tensor(key(seed, CROPS), device=device)
        self._padded = zero_pad(images.pixels, padding)
        self._epochs = 1 + -(-self.distinct // len(images))  # that a batch can span
        self._order = lru_cache(self._epochs)(self._balanced if balanced else self._shuffled)
        self._window = torch.empty(self._epochs * len(images), dtype=torch.int64, device=device)
        self._first = torch.zeros((), dtype=torch.int64, device=device)
        self._epoch: int | None = None
        share = batch_size // parts
        self._after = BatchAugmenter(after, seed, torch.arange(part * share, (part + 1) * share, device=device))

    def batch(self, step: int) -> tuple[Float[Tensor, "b c h w"], Shaped[Tensor, "b *target"]]:
        """Augmented, preprocessed images and their targets for step `step`, counted from 0."""
        self.prepare(step)
        return self.draw(torch.full((), step, device=self._first.device))

    def prepare(self, step: int) -> None:
        """Compute the order of the epochs that this step's batch spans, unless it is cached."""
        epoch, n = step * self.distinct // len(self.images), len(self.images)
        if epoch != self._epoch:
            self._window.copy_(torch.cat([self._order(epoch + k) for k in range(self._epochs)]))
            self._first.fill_(epoch * n)
            self._epoch = epoch

    def draw(self, step: Int64[Tensor, ""]) -> tuple[Float[Tensor, "b c h w"], Shaped[Tensor, "b *target"]]:
        """The batch of a prepared step, computed on the device without synchronisation."""
        index = self.indices(step)
        places = self._after.places
        pixels = crop_and_flip(self._padded, index, self.padding, self.flip, self._key, step, places)
        return self._after(self.preprocessing(pixels), self.images.labels[index], step)

    def indices(self, step: Int64[Tensor, ""]) -> Int64[Tensor, "b"]:
        """Image numbers in the batch of a prepared step."""
        return self._window[step * self.distinct - self._first + self._after.places % self.distinct]

    def read(self, step: int) -> None:
        """Do nothing; images are in memory."""

    def close(self) -> None:
        """Do nothing; there are no threads to stop."""

    def _shuffled(self, epoch: int) -> Int64[Tensor, "n"]:
        return permutation(len(self.images), self.seed, epoch, self._first.device)

    def _balanced(self, epoch: int) -> Int64[Tensor, "n"]:
        return balanced_draws(self.images.labels, self.seed, epoch)
