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

from resnetlab.devices import widened
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
    network: ResNet, features: Float[Tensor, "n c h2 w2"], classes: Int64[Tensor, "n k"]
) -> Float[Tensor, "n k h2 w2"]:
    """The contributions to the logits of some classes of each image, by position of the last feature map.

    The mean over the positions and the bias of the class are the logit.
    """
    return torch.einsum("nchw,nkc->nkhw", features, network.fc.weight[classes])


def explain(
    model: Model,
    pixels: UInt8[np.ndarray, "n h w c"],
    classes: Sequence[Sequence[int]] | None = None,
    count: int = 2,
) -> list[Explained]:
    """The maps of some classes of each image, enlarged to the image; `pixels` are fitted as the model wants them.

    Without `classes` they are the `count` likeliest of each image, likeliest first.
    """
    device = next(model.network.parameters()).device
    with torch.inference_mode():
        features = model.network.features(model.preprocessing.to(device)(torch.from_numpy(pixels).to(device)))
        logits = model.network.classify(features)
        if classes is None:  # of equal logits the lowest class first
            chosen = logits.argsort(dim=1, descending=True, stable=True)[:, :count]
        else:
            chosen = torch.tensor(classes, dtype=torch.int64, device=device)
        shares = (widened(logits) / model.temperature).softmax(1).gather(1, chosen)
        maps = class_activation_maps(model.network, features, chosen)
        large = F.interpolate(maps, pixels.shape[1:3], mode="bilinear", align_corners=False).cpu().numpy()
    names = [tuple(model.classes[number] for number in each) for each in chosen.tolist()]
    return [Explained(pixels[k], names[k], tuple(shares[k].tolist()), large[k]) for k in range(len(pixels))]
