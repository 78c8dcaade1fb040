"""Batch normalisation in training with the shortcut and ReLU: four Triton kernels a layer, two each way.

Activations are read as a matrix with a row for each pixel and a column for each channel, which is how channels-last
images lie in memory. Each program takes a part of the rows of some channels. Statistics are float32: of each part the
mean and the squared deviations from it, joined by Chan, Golub and LeVeque (1983), so that no large numbers cancel.
Everything is added in the same order in every run.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor, nn

from resnetlab.networks.resnet import JoinedNorm

SHARED = 4096  # parts times channels, at most: each program reads a number for each, twice
TILE = 4096  # numbers that a program reads at a time
MOST_CHANNELS = 64  # of a program
WARPS = 8


@triton.jit
@no_type_check
def _tile(start, last, column, channels, TILE_ROWS: tl.constexpr):
    """Where the numbers of the next rows are, and which of them exist."""
    row = start + tl.arange(0, TILE_ROWS)
    inside = (row[:, None] < last) & (column[None, :] < channels)
    return row[:, None].to(tl.int64) * channels + column[None, :], inside


@triton.jit
@no_type_check
def _before_relu(dy, y, place, inside, RELU: tl.constexpr):
    """The gradient that goes into the sum before ReLU."""
    gradient = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        gradient = tl.where(tl.load(y + place, mask=inside, other=0.0).to(tl.float32) <= 0, 0.0, gradient)
    return gradient


@triton.jit
@no_type_check
def _of_all_parts(found, column, channels, parts, ALL: tl.constexpr):
    """What each part found, and which of the rows and columns exist."""
    every = tl.arange(0, ALL)
    here = (every[:, None] < parts) & (column[None, :] < channels)
    return tl.load(found + every[:, None] * channels + column[None, :], mask=here, other=0.0), here


@triton.jit
@no_type_check
def _moments(x, means, squares, rows, channels, share, TILE_ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Of one part of the rows, by channel: the mean, and the sum of squared deviations from it."""
    part = tl.program_id(0)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    last = tl.minimum((part + 1) * share, rows)
    mean = tl.zeros((WIDTH,), tl.float32)
    square = tl.zeros((WIDTH,), tl.float32)
    before = 0.0
    for start in range(part * share, last, TILE_ROWS):
        place, inside = _tile(start, last, column, channels, TILE_ROWS)
        values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        count = tl.minimum(last - start, TILE_ROWS).to(tl.float32)
        own = tl.sum(values, 0) / count
        away = tl.where(inside, values - own[None, :], 0.0)
        difference = own - mean
        square += tl.sum(away * away, 0) + difference * difference * (before * count / (before + count))
        mean += difference * (count / (before + count))
        before += count
    tl.store(means + part * channels + column, mean, mask=column < channels)
    tl.store(squares + part * channels + column, square, mask=column < channels)


@triton.jit
@no_type_check
def _normalise(
    x, shortcut, y, means, squares, weight, bias, running_mean, running_var, mean_, scale_,
    rows, channels, share, parts, momentum, eps,
    ADDS: tl.constexpr, RELU: tl.constexpr, ALL: tl.constexpr, TILE_ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """y = relu(norm(x) + shortcut); the first part also writes the statistics and updates the running ones."""
    part = tl.program_id(0)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    known = column < channels
    of_part, here = _of_all_parts(means, column, channels, parts, ALL)
    within, _ = _of_all_parts(squares, column, channels, parts, ALL)
    counts = tl.maximum(tl.minimum(rows - tl.arange(0, ALL) * share, share), 0).to(tl.float32)[:, None]
    mean = tl.sum(of_part * counts, 0) / rows
    away = tl.where(here, of_part - mean[None, :], 0.0)
    variance = tl.sum(within + counts * away * away, 0) / rows
    scale = 1.0 / tl.sqrt(variance + eps)
    if part == 0:
        tl.store(mean_ + column, mean, mask=known)
        tl.store(scale_ + column, scale, mask=known)
        old = tl.load(running_mean + column, mask=known, other=0.0)
        tl.store(running_mean + column, old + momentum * (mean - old), mask=known)
        old = tl.load(running_var + column, mask=known, other=0.0)
        tl.store(running_var + column, old + momentum * (variance * rows / (rows - 1) - old), mask=known)
    slope = tl.load(weight + column, mask=known, other=0.0) * scale
    offset = tl.load(bias + column, mask=known, other=0.0)
    last = tl.minimum((part + 1) * share, rows)
    for start in range(part * share, last, TILE_ROWS):
        place, inside = _tile(start, last, column, channels, TILE_ROWS)
        values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        values = (values - mean[None, :]) * slope[None, :] + offset[None, :]
        if ADDS:
            values += tl.load(shortcut + place, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            values = tl.where(values < 0.0, 0.0, values)  # NaN stays
        tl.store(y + place, values.to(y.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _gradient_sums(
    x, y, dy, mean_, scale_, sums, products, rows, channels, share,
    RELU: tl.constexpr, TILE_ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Of one part of the rows, by channel: the sums of the gradient, and of it times the normalised input."""
    part = tl.program_id(0)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    known = column < channels
    mean = tl.load(mean_ + column, mask=known, other=0.0)
    scale = tl.load(scale_ + column, mask=known, other=0.0)
    last = tl.minimum((part + 1) * share, rows)
    total = tl.zeros((WIDTH,), tl.float32)
    product = tl.zeros((WIDTH,), tl.float32)
    for start in range(part * share, last, TILE_ROWS):
        place, inside = _tile(start, last, column, channels, TILE_ROWS)
        gradient = _before_relu(dy, y, place, inside, RELU)
        values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(gradient, 0)
        product += tl.sum(gradient * (values - mean[None, :]) * scale[None, :], 0)
    tl.store(sums + part * channels + column, total, mask=known)
    tl.store(products + part * channels + column, product, mask=known)


@triton.jit
@no_type_check
def _gradients(
    x, y, dy, mean_, scale_, weight, sums, products, dx, dshortcut, dweight, dbias,
    rows, channels, share, parts,
    ADDS: tl.constexpr, RELU: tl.constexpr, ALL: tl.constexpr, TILE_ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The gradients of x and of the shortcut; the first part also writes those of weight and bias."""
    part = tl.program_id(0)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    known = column < channels
    totals, _ = _of_all_parts(sums, column, channels, parts, ALL)
    all_products, _ = _of_all_parts(products, column, channels, parts, ALL)
    total, product = tl.sum(totals, 0), tl.sum(all_products, 0)
    if part == 0:
        tl.store(dweight + column, product, mask=known)
        tl.store(dbias + column, total, mask=known)
    mean = tl.load(mean_ + column, mask=known, other=0.0)
    scale = tl.load(scale_ + column, mask=known, other=0.0)
    slope = tl.load(weight + column, mask=known, other=0.0) * scale
    last = tl.minimum((part + 1) * share, rows)
    for start in range(part * share, last, TILE_ROWS):
        place, inside = _tile(start, last, column, channels, TILE_ROWS)
        gradient = _before_relu(dy, y, place, inside, RELU)
        if ADDS:
            tl.store(dshortcut + place, gradient.to(dshortcut.dtype.element_ty), mask=inside)
        normal = (tl.load(x + place, mask=inside, other=0.0).to(tl.float32) - mean[None, :]) * scale[None, :]
        found = slope[None, :] * (gradient - (total[None, :] + normal * product[None, :]) / rows)
        tl.store(dx + place, found.to(dx.dtype.element_ty), mask=inside)


@dataclass(frozen=True)
class Division:
    """How rows and channels are divided among programs."""

    rows: int
    channels: int

    @property
    def width(self) -> int:
        """Channels of a program."""
        return min(MOST_CHANNELS, int(triton.next_power_of_2(self.channels)))

    @property
    def tile_rows(self) -> int:
        """Rows that a program reads at a time."""
        return TILE // self.width

    @property
    def share(self) -> int:
        """Rows of a program."""
        tiles = -(-self.rows // self.tile_rows)
        return self.tile_rows * -(-tiles // (SHARED // self.width))

    @property
    def parts(self) -> int:
        """Programs for each group of channels."""
        return -(-self.rows // self.share)

    @property
    def grid(self) -> tuple[int, int]:
        """The number of programs: parts, and groups of channels."""
        return self.parts, -(-self.channels // self.width)

    def empty(self, x: Tensor) -> Tensor:
        """A matrix with a row for each part and a column for each channel, not filled."""
        return x.new_empty((self.parts, self.channels), dtype=torch.float32)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that are compiled into a kernel."""
        return {"TILE_ROWS": self.tile_rows, "WIDTH": self.width, "num_warps": WARPS}

    @property
    def all_sizes(self) -> dict[str, int]:
        """The same for kernels that read the results of all parts; `ALL` is a power of two."""
        return self.sizes | {"ALL": int(triton.next_power_of_2(self.parts))}


class _Joined(torch.autograd.Function):
    """relu(norm(x) + shortcut), the shortcut and ReLU as asked."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shortcut: Tensor | None, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, relu: bool
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        adds = shortcut is not None
        added = shortcut.contiguous(memory_format=torch.channels_last) if shortcut is not None else x
        divided = Division(x.numel() // x.shape[1], x.shape[1])
        rows, channels, share, parts = divided.rows, divided.channels, divided.share, divided.parts
        means, squares, y = divided.empty(x), divided.empty(x), torch.empty_like(x)
        mean, scale = (x.new_empty(channels, dtype=torch.float32) for _ in range(2))
        _moments[divided.grid](x, means, squares, rows, channels, share, **divided.sizes)
        _normalise[divided.grid](
            x, added, y, means, squares, weight, bias, norm.running_mean, norm.running_var, mean, scale,
            rows, channels, share, parts, norm.momentum, norm.eps, ADDS=adds, RELU=relu, **divided.all_sizes,
        )  # fmt: skip
        ctx.save_for_backward(x, y if relu else x, weight, mean, scale)
        ctx.divided, ctx.adds, ctx.relu = divided, adds, relu
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, y, weight, mean, scale = ctx.saved_tensors
        divided: Division = ctx.divided
        dy = gradients[0].contiguous(memory_format=torch.channels_last)
        rows, channels, share, parts = divided.rows, divided.channels, divided.share, divided.parts
        sums, products, dx = divided.empty(x), divided.empty(x), torch.empty_like(x)
        dshortcut = torch.empty_like(x) if ctx.adds else dx
        dweight, dbias = torch.empty_like(weight), torch.empty_like(weight)
        _gradient_sums[divided.grid](
            x, y, dy, mean, scale, sums, products, rows, channels, share, RELU=ctx.relu, **divided.sizes
        )
        _gradients[divided.grid](
            x, y, dy, mean, scale, weight, sums, products, dx, dshortcut, dweight, dbias,
            rows, channels, share, parts, ADDS=ctx.adds, RELU=ctx.relu, **divided.all_sizes,
        )  # fmt: skip
        return dx, dshortcut if ctx.adds else None, dweight, dbias, None, None


class TritonNorm(JoinedNorm):
    """Batch normalisation that computes the statistics of a batch, the shortcut and ReLU with these kernels.

    In evaluation mode, or with a cumulative average, it is torch's. Results are the same up to rounding: the shortcut
    is added before the sum is rounded, once, to the type of the images.
    """

    @property
    def joins(self) -> bool:
        """In training, with running statistics."""
        return self.training and self.affine and self.track_running_stats and self.momentum is not None

    def forward(
        self, x: Float[Tensor, "n c h w"], shortcut: Float[Tensor, "n c h w"] | None = None, relu: bool = False
    ) -> Float[Tensor, "n c h w"]:
        """norm(x), or relu(norm(x) + shortcut); the latter only where `joins` holds."""
        return self._computed(x, shortcut, relu) if self.joins else super().forward(x)

    def _computed(self, x: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
        if x.numel() == x.shape[1]:
            raise ValueError(f"batch statistics need more than one value of each channel, got {tuple(x.shape)}")
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        y: Tensor = _Joined.apply(x, shortcut, self.weight, self.bias, self, relu)
        return y
