"""The paper's test protocols by name: which views are cut from an image file, and how they are scored."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from resnetlab.data import Fit, Preprocessing
from resnetlab.data.preprocessing import Size
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.views import SCALES, Scores, all_views, fully_convolutional, single_crop, ten_crops
from resnetlab.networks.resnet import ResNet

ProtocolName = Literal["center", "ten-crop", "dense"]
CROP = 224  # pixels, the paper's; other networks' sizes are in proportion
RESIZED = 256


@dataclass(frozen=True)
class Protocol:
    """How a model is tested: `cut` makes the parts of an image, whose scores are averaged; `about` says it in words.

    Parts are 8-bit pixels, (h, w, c), or (10, h, w, c) for ten crops. `scores` takes parts of one
    shape as they are stacked, (n, ...).
    """

    name: ProtocolName
    about: str
    parts: int
    cut: Callable[[Image.Image], list[UInt8[np.ndarray, "..."]]]
    scores: Callable[[ResNet, Preprocessing], Scores]


def protocol(name: ProtocolName, fit: Fit, scales: tuple[int, ...] = ()) -> Protocol:
    """A protocol for networks that are given images as `fit` says.

    `center`: the centre crop, once. `ten-crop`: corners and centre of the same resized image, and mirrored.
    `dense`: the whole image and its mirror image at shorter sides of `scales` pixels, by default the paper's five in
    proportion to the crop (Section 3.4); a mean image is subtracted as its mean by channel, for sizes differ.

    Raises:
        ResnetlabError: scales for a protocol that has none, or smaller than the network's crop.
    """
    if scales and name != "dense":
        raise ResnetlabError(f"--scales is for --protocol dense, not {name}")
    if name == "center":
        return Protocol(name, _center(fit), 1, lambda image: [fit(image)], _single)
    if name == "ten-crop":
        covered = _ten_crop_size(fit)
        cut = lambda image: [ten_crops(fit.whole(image, covered), fit.crop)]
        return Protocol(name, f"10-crop, shorter side {min(covered)}, softmax averaged", 1, cut, _ten)
    scales = scales or tuple(dict.fromkeys(max(round(side * min(fit.crop) / CROP), 1) for side in SCALES))
    if min(scales) < min(fit.crop):
        raise ResnetlabError(
            f"--scales {min(scales)}: the network sees squares of {min(fit.crop)} pixels; no side may be less"
        )
    height, width = (side / min(fit.crop) for side in fit.crop)
    covers = [(round(side * height), round(side * width)) for side in scales]
    sides = ", ".join(map(str, scales))
    return Protocol(
        name,
        f"fully convolutional, shorter side{'s' * (len(scales) > 1)} {sides}, and mirrored, softmax averaged",
        len(scales),
        lambda image: [fit.whole(image, covered) for covered in covers],
        partial(_dense, crop=fit.crop),
    )


def _center(fit: Fit) -> str:
    if fit.resize == fit.crop:
        return "single view"
    return f"1 centre crop, {fit.crop[1]}x{fit.crop[0]} of shorter side {min(fit.resize)}"


def _ten_crop_size(fit: Fit) -> Size:
    """What ten crops are cut from: the resized image, or, where that is the crop, a larger one as on ImageNet."""
    if fit.resize != fit.crop:
        return fit.resize
    return round(fit.crop[0] * RESIZED / CROP), round(fit.crop[1] * RESIZED / CROP)


def _single(network: ResNet, preprocessing: Preprocessing) -> Scores:
    scores_of = single_crop(network)

    def scores(pixels: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n classes"]:
        return scores_of(preprocessing(pixels))

    return scores


def _ten(network: ResNet, preprocessing: Preprocessing) -> Scores:
    """The mean image is subtracted after cropping and mirroring, as the authors do."""
    scores_of = all_views(lambda views: network(preprocessing(views.permute(0, 2, 3, 1))))

    def scores(pixels: UInt8[Tensor, "n 10 h w c"]) -> Float[Tensor, "n classes"]:
        return scores_of(pixels.permute(0, 1, 4, 2, 3))

    return scores


def _dense(network: ResNet, preprocessing: Preprocessing, crop: Size) -> Scores:
    by_channel = preprocessing.any_size()
    window = network.map_size(*crop)
    scores_of = fully_convolutional(
        lambda images: network.features(by_channel(images.permute(0, 2, 3, 1))), network.fc, window
    )

    def scores(pixels: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n classes"]:
        return scores_of(pixels.permute(0, 3, 1, 2))

    return scores
