"""The paper's test protocols by name: which views are cut from an image file, and how they are scored."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from PIL import Image
from torch import Tensor

from resnetlab.choices import ProtocolName
from resnetlab.data.preprocessing import LONGEST_SIDE, Fit, Preprocessing, Size
from resnetlab.errors import ResnetlabError, refuse_other_words
from resnetlab.evaluation.views import SCALES, Scores, all_views, fully_convolutional, ten_crops
from resnetlab.networks.resnet import ResNet

CROP = 224  # pixels, the paper's; other networks' sizes are in proportion
RESIZED = 256
ASPECT = 4 / 3  # of a photograph's sides
RELATIVE_COST: dict[ProtocolName, float] = {
    "center": 1.0,
    "ten-crop": 10.0,
    "dense": 2 * ASPECT * sum((side / CROP) ** 2 for side in SCALES),
}
"""How many times the work of one centre crop a protocol is, for an image of 4:3."""


@dataclass(frozen=True)
class Protocol:
    """How a model is tested: `cut` makes the parts of an image, whose scores are averaged; `about` says it in words.

    Parts are 8-bit pixels, (h, w, c), or (10, h, w, c) for ten crops. `scores` takes parts of one shape as they are
    stacked, (n, ...), and gives softmax scores; of one view, logits.
    """

    name: ProtocolName
    about: str
    parts: int
    cut: Callable[[Image.Image], list[UInt8[np.ndarray, "..."]]]
    scores: Callable[[ResNet, Preprocessing], Scores]

    def logits(self, total: Float64[Tensor, "n classes"]) -> Float32[Tensor, "n classes"]:
        """What softmax makes scores of, from what `scores` gave, averaged over the parts."""
        return (total if self.name == "center" else total.log()).float()


def protocol(name: ProtocolName, fit: Fit, scales: tuple[int, ...] = ()) -> Protocol:
    """A protocol for networks that are given images as `fit` says.

    `center`: the centre crop, once. `ten-crop`: corners and centre of the same resized image, and mirrored.
    `dense`: the whole image and its mirror image at shorter sides of `scales` pixels, by default the paper's five in
    proportion to the crop (Section 3.4); a mean image is subtracted as its mean by channel, for sizes differ.

    Raises:
        ResnetlabError: an unknown name, scales for a protocol that has none, or smaller than the network's crop or
            impossibly large.
    """
    refuse_other_words("protocol", name, RELATIVE_COST)
    if scales and name != "dense":
        raise ResnetlabError(f"`scales` is for `protocol=dense`, not {name}")
    if name == "center":
        return Protocol(name, _center(fit), 1, lambda image: [fit(image)], _single)
    if name == "ten-crop":
        covered = _ten_crop_size(fit)
        cut = lambda image: [ten_crops(fit.whole(image, covered), fit.crop)]
        return Protocol(name, f"10-crop, shorter side {min(covered)}, softmax averaged", 1, cut, _ten)
    scales = scales or tuple(dict.fromkeys(max(round(side * min(fit.crop) / CROP), 1) for side in SCALES))
    if min(scales) < min(fit.crop):
        raise ResnetlabError(
            f"`scales={min(scales)}`: the network sees squares of {min(fit.crop)} pixels; no side may be less"
        )
    if max(scales) > LONGEST_SIDE:
        raise ResnetlabError(f"`scales={str(max(scales))[:20]}`: no side may have more than {LONGEST_SIDE:,} pixels")
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
    def logits(pixels: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n classes"]:
        return network(preprocessing(pixels))  # type: ignore[no-any-return]

    return logits


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
