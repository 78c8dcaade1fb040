"""Where a network sees a class: class activation maps (Zhou et al., 2016), which are exact for these networks.

Global average pooling and one linear layer follow the last feature map, so a logit is the mean over the positions of
that map of each position's contribution, and the bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from resnetlab.models.modelfile import Model
from resnetlab.networks.resnet import ResNet


@dataclass(frozen=True)
class Explained:
    """What the network sees of an image, and how much each place of it adds to the logits of some classes."""

    pixels: UInt8[np.ndarray, "h w c"]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    maps: Float[np.ndarray, "k h w"]


def class_activation_maps(
    network: ResNet, images: Float[Tensor, "n c h w"], classes: Int64[Tensor, "n k"]
) -> tuple[Float[Tensor, "n k h2 w2"], Float[Tensor, "n classes"]]:
    """The contributions to the logits of some classes of each image, by position of the last map, and all logits.

    The mean over the positions and the bias of the class are the logit.
    """
    features = network.features(images)
    return torch.einsum("nchw,nkc->nkhw", features, network.fc.weight[classes]), network.classify(features)


def explain(model: Model, pixels: UInt8[np.ndarray, "n h w c"], classes: Sequence[Sequence[int]]) -> list[Explained]:
    """The maps of some classes of each image, enlarged to the image; `pixels` are fitted as the model wants them."""
    device = next(model.network.parameters()).device
    wanted = torch.tensor(classes, dtype=torch.int64, device=device)
    with torch.inference_mode():
        images = model.preprocessing.to(device)(torch.from_numpy(pixels).to(device))
        maps, logits = class_activation_maps(model.network, images, wanted)
        shares = logits.double().softmax(1).gather(1, wanted)
        large = F.interpolate(maps, pixels.shape[1:3], mode="bilinear", align_corners=False)
    return [
        Explained(
            pixels[k], tuple(model.classes[c] for c in classes[k]), tuple(shares[k].tolist()), large[k].cpu().numpy()
        )
        for k in range(len(pixels))
    ]


def explain_likeliest(model: Model, pixels: UInt8[np.ndarray, "n h w c"], count: int = 2) -> list[Explained]:
    """The maps of the likeliest classes of each image, likeliest first."""
    device = next(model.network.parameters()).device
    with torch.inference_mode():
        logits = model.network(model.preprocessing.to(device)(torch.from_numpy(pixels).to(device)))
    order = logits.argsort(dim=1, descending=True, stable=True)  # of equal logits the lowest class first
    return explain(model, pixels, order[:, :count].tolist())
