"""Random erasing, mixup and CutMix: augmentation of a batch of normalised images, on the images' device.

All random numbers are a pure function of (seed, step, place in the batch).
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from resnetlab.data.counter import bits_at, key, uniforms_at

MIXING, ERASING = 20, 21  # coordinates of random numbers
QUANTILES = 65_536
"""Mixing shares are drawn from this many quantiles of their Beta distribution."""
TRIES = 10  # attempts to draw a rectangle that is smaller than the image
AREAS, RATIOS = (0.02, 0.33), (0.3, 3.3)
"""Of an erased rectangle: share of the image's area, and height to width."""


@dataclass(frozen=True)
class BatchAugmentation:
    """How a batch of normalised images is augmented, with torchvision's definitions; 0 turns each part off.

    `erasing`: the probability with which an image loses a rectangle (`RandomErasing`). `mixup` and `cutmix`: alpha of
    the Beta distribution of the shares; if both are given, each group of images draws one of them. An image is mixed
    with the one before it in its group of `group` consecutive images of the batch, the first with the last (`MixUp`,
    `CutMix`). Targets are then the shares of `classes` classes.
    """

    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    classes: int = 0
    group: int = 1


OFF = BatchAugmentation()


class BatchAugmenter:
    """Augments one process's images of a batch, at `mine` of its places.

    `places` are those of the images that it needs: `mine`, then those of images of other processes that are mixed
    with its own.
    """

    def __init__(self, how: BatchAugmentation, seed: int, mine: Int64[Tensor, "b"]) -> None:
        self.how = how
        keys = (torch.tensor(key(seed, which), device=mine.device) for which in (MIXING, ERASING))
        self._mixing_key, self._erasing_key = keys
        self.places = mine
        alphas = [alpha for alpha in (how.mixup, how.cutmix) if alpha]
        self._mixes = bool(alphas)
        if not self._mixes:
            return
        first, count = int(mine[0]), len(mine)
        partners = mine - mine % how.group + (mine % how.group - 1) % how.group
        outside = (partners < first) | (partners >= first + count)
        self.places = torch.cat([mine, partners[outside]])
        self._partners = torch.where(outside, count - 1 + outside.cumsum(0), partners - first)
        self._groups, self._group_of = torch.unique(mine // how.group, return_inverse=True)
        self._shares = torch.stack([beta_quantiles(alpha) for alpha in alphas]).to(mine.device)
        self._cuts = torch.tensor([False] * bool(how.mixup) + [True] * bool(how.cutmix), device=mine.device)

    def __call__(
        self, images: Float[Tensor, "n c h w"], targets: Shaped[Tensor, "n *target"], step: Int64[Tensor, ""]
    ) -> tuple[Float[Tensor, "b c h w"], Shaped[Tensor, "b *mixed"]]:
        """The augmented images of `mine`, from those of `places`, and their targets."""
        if self.how.erasing:
            images = torch.where(self._erased(images, step)[:, None], 0.0, images)  # keeps channels last
        if not self._mixes:
            return images, targets
        count = len(self._partners)
        maps, shares = self._mixing(step, *images.shape[2:])
        several = len(self._groups) > 1
        maps, shares = (maps[self._group_of], shares[self._group_of]) if several else (maps, shares)
        soft = (targets[:, None] == torch.arange(self.how.classes, device=targets.device)).float()
        return (
            _mixed(images[:count], images[self._partners], maps[:, None]),
            _mixed(soft[:count], soft[self._partners], shares[:, None]),
        )

    def _mixing(
        self, step: Int64[Tensor, ""], height: int, width: int
    ) -> tuple[Float[Tensor, "g h w"], Float[Tensor, "g"]]:
        """Per group and pixel, and per group, the share that an image keeps."""
        device = self._groups.device
        counter = self._groups[:, None] * 4 + torch.arange(4, device=device)
        kind, quantile, x, y = bits_at(counter, self._mixing_key, step).unbind(1)
        kind = kind % len(self._cuts)
        cut, share = self._cuts[kind], self._shares[kind, quantile % QUANTILES]
        half = 0.5 * (1 - share).sqrt()
        left, right = _ends(x % width, (half * width).long(), width)
        top, bottom = _ends(y % height, (half * height).long(), height)
        uncovered = 1 - (right - left) * (bottom - top) / (width * height)
        inside = _inside(top, bottom, left, right, height, width)
        maps = torch.where(cut[:, None, None], (~inside).float(), share[:, None, None])
        return maps, torch.where(cut, uncovered, share)

    def _erased(self, images: Float[Tensor, "n c h w"], step: Int64[Tensor, ""]) -> Bool[Tensor, "n h w"]:
        """The pixels to erase: for each image the first of ten random rectangles that is smaller than it."""
        height, width = images.shape[2:]
        numbers = 2 * TRIES + 3
        counter = self.places[:, None] * numbers + torch.arange(numbers, device=self.places.device)
        drawn = uniforms_at(counter, self._erasing_key, step)
        area = height * width * (AREAS[0] + (AREAS[1] - AREAS[0]) * drawn[:, :TRIES])
        low, high = map(math.log, RATIOS)
        ratio = (low + (high - low) * drawn[:, TRIES : 2 * TRIES]).exp()
        heights, widths = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (heights < height) & (widths < width)
        first = fits & (fits.cumsum(1) == 1)  # no sum is 1 where none fits
        h, w = (heights * first).sum(1), (widths * first).sum(1)
        top = (drawn[:, -3] * (height - h + 1)).long()
        left = (drawn[:, -2] * (width - w + 1)).long()
        h = torch.where(drawn[:, -1] < self.how.erasing, h, 0)
        return _inside(top, top + h, left, left + w, height, width)


@cache
def beta_quantiles(alpha: float) -> Float[Tensor, "quantiles"]:
    """Equally probable values of Beta(alpha, alpha), in ascending order; not to be changed."""
    import numpy as np
    from scipy.special import betaincinv  # comes with scikit-learn

    return torch.from_numpy(betaincinv(alpha, alpha, (np.arange(QUANTILES) + 0.5) / QUANTILES)).float()


def _mixed(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return own * share + other * (1 - share)


def _ends(
    centre: Int64[Tensor, "g"], half: Int64[Tensor, "g"], size: int
) -> tuple[Int64[Tensor, "g"], Int64[Tensor, "g"]]:
    """The two ends of a stretch around a centre, cut off at the image's edges."""
    return (centre - half).clamp(min=0), (centre + half).clamp(max=size)


def _inside(
    top: Int64[Tensor, "n"],
    bottom: Int64[Tensor, "n"],
    left: Int64[Tensor, "n"],
    right: Int64[Tensor, "n"],
    height: int,
    width: int,
) -> Bool[Tensor, "n h w"]:
    """Which pixels are inside a rectangle."""
    rows, columns = (torch.arange(size, device=top.device) for size in (height, width))
    inside_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < right[:, None])
    return inside_rows[:, :, None] & inside_columns[:, None, :]
