"""Test protocols: how the views of an image become one prediction.

Each wraps whatever turns views into logits and gives what turns images into scores: one view (Section 4.2 and Figure
4), ten crops (Tables 2 and 3), or the whole image at several scales, fully convolutionally (Table 4, Section 3.4).
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.devices import widened

Function = Callable[[Tensor], Tensor]
Scores = Callable[[Tensor], Tensor]
SCALES = (224, 256, 384, 480, 640)
"""Shorter sides in pixels of fully convolutional testing (Section 3.4)."""


def ten_crop(logits_of: Function, size: tuple[int, int]) -> Scores:
    """Softmax scores averaged over four corners and the centre of images and of their mirror images (Section 3.4).

    `size` is a crop's (height, width). The authors' release averages softmax scores, not logits.
    """
    average = all_views(logits_of)

    def scores(images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        places = corners_and_centre((images.shape[2], images.shape[3]), size)
        both = images, images.flip(3)
        return average(torch.stack([view[..., y, x] for view in both for y, x in places], 1))

    return scores


def all_views(logits_of: Function) -> Scores:
    """Softmax scores averaged over several views of an image, which are given."""

    def scores(views: Num[Tensor, "n v c h w"]) -> Float[Tensor, "n classes"]:
        shares = widened(logits_of(views.flatten(0, 1))).softmax(1)
        return shares.view(*views.shape[:2], -1).mean(1)

    return scores


def fully_convolutional(features_of: Function, classifier: nn.Linear, window: tuple[int, int]) -> Scores:
    """Softmax scores of every position of the window in an image of any size, averaged, with its mirror image.

    Global average pooling and classifier are moved over the last feature map as a convolution, as VGG's are: `window`
    is what they see of it in training, 7x7 positions of a 224x224 crop. Positions are one window apart on the map,
    32 pixels on the image.
    """
    weight = classifier.weight[:, :, None, None]

    def one(images: Tensor) -> Tensor:
        maps = features_of(images)
        kernel = min(window[0], maps.shape[2]), min(window[1], maps.shape[3])
        pooled = F.avg_pool2d(maps, kernel, stride=1).to(weight.dtype)
        return widened(F.conv2d(pooled, weight, classifier.bias)).softmax(1).mean((2, 3))

    def scores(images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        return (one(images) + one(images.flip(3))) / 2

    return scores


def corners_and_centre(image: tuple[int, int], size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Where five crops of a size (height, width) lie in an image: corners, then the centre.

    Raises:
        ValueError: the image is smaller than a crop.
    """
    (height, width), (h, w) = image, size
    if height < h or width < w:
        raise ValueError(f"cannot crop {w}x{h} pixels from an image of {width}x{height}")
    top, left = round((height - h) / 2), round((width - w) / 2)
    starts = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w), (top, left)]
    return [(slice(y, y + h), slice(x, x + w)) for y, x in starts]


def ten_crops(pixels: UInt8[np.ndarray, "h w c"], size: tuple[int, int]) -> UInt8[np.ndarray, "10 y x c"]:
    """Four corners and the centre of an image's pixels, and of its mirror image's, as torchvision's `TenCrop`."""
    places = corners_and_centre((pixels.shape[0], pixels.shape[1]), size)
    return np.stack([view[y, x] for view in (pixels, pixels[:, ::-1]) for y, x in places])
