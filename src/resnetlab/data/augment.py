"""The paper's preprocessing and augmentation of small images (Section 4.2), batched, on the data's device."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from resnetlab.data.counter import bits_at


def per_pixel_mean(pixels: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "c h w"]:
    """The mean training image, 0 to 1; the sum is exact, so the mean is the same on every machine."""
    total = torch.zeros(pixels.shape[1:], dtype=torch.int64, device=pixels.device)
    for chunk in torch.split(pixels, 4096):
        total += chunk.sum(0, dtype=torch.int64)
    return (total.double() / (255 * len(pixels))).float().permute(2, 0, 1).contiguous()


def preprocess(pixels: UInt8[Tensor, "n h w c"], mean: Float[Tensor, "c #h #w"]) -> Float[Tensor, "n c h w"]:
    """Scale pixels to 0 to 1 and subtract the mean (per pixel or per channel); channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean)


def zero_pad(pixels: UInt8[Tensor, "n h w c"], padding: int) -> UInt8[Tensor, "n h2 w2 c"]:
    """Add `padding` black pixels on each side."""
    return F.pad(pixels, (0, 0, padding, padding, padding, padding))


def crop_and_flip(
    padded: UInt8[Tensor, "n h2 w2 c"],
    index: Int64[Tensor, "b"],
    padding: int,
    flip: bool,
    key: int | Int64[Tensor, ""],
    step: Int64[Tensor, ""],
    places: Int64[Tensor, "b"] | None = None,
) -> UInt8[Tensor, "b h w c"]:
    """Random crops of the images `index`, back to the unpadded size; `flip` mirrors half of them left to right.

    The batch depends on (key, step) alone; `step` is a tensor on the device. `places` are the positions of these
    images in the batch, if they are only a part of it.
    """
    device = padded.device
    height, width = padded.shape[1] - 2 * padding, padded.shape[2] - 2 * padding
    draw = bits_at(torch.arange(len(index), device=device) if places is None else places, key, step)
    top, left = draw % 65_536 % (2 * padding + 1), (draw >> 16) % 65_536 % (2 * padding + 1)
    rows = top[:, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(len(index), width)
    if flip:
        columns = torch.where(((draw >> 32) & 1).bool()[:, None], width - 1 - columns, columns)
    columns = columns + left[:, None]
    pixel = (index[:, None] * padded.shape[1] + rows)[:, :, None] * padded.shape[2] + columns[:, None, :]
    return padded.flatten(0, 2)[pixel]  # one flat index costs half of three
