"""How far to trust a network's answers: a temperature, and the distance of an image from the training images.

Both are fitted to validation images after training, and are part of the model file.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.errors import ResnetlabError
from resnetlab.networks.resnet import ResNet

NEAREST = 5
"""The distance is that from the fifth-nearest training image (Sun et al., 2022)."""
KNOWN = 2000  # training images, at most, whose features are kept
FALSE_ALARMS = 0.05  # share of validation images that are farther than the limit
WIDEST = 3.0  # of the logarithm of the temperature


@dataclass(frozen=True)
class Trust:
    """`temperature` divides the logits before softmax; `validation` is the number of images that it was fitted to.

    `known` has features of training images, scaled to length 1; an image farther than `limit` from them is unlike the
    training images. None: no features are kept.
    """

    temperature: float
    validation: int
    known: Float[Tensor, "k features"] | None = None
    limit: float = 0.0

    def distance(self, features: Float[Tensor, "n features"]) -> Float[Tensor, "n"]:
        """The distance of images from the training images; see `distance`."""
        assert self.known is not None  # noqa: S101 -- for the type checker
        return distance(features, self.known.to(features.device).float())

    @property
    def is_at_limit(self) -> bool:
        """Whether an even higher temperature would be likelier: the logits say next to nothing."""
        return math.log(self.temperature) > WIDEST - 0.01

    @property
    def description(self) -> dict[str, Any]:
        """All but the features, as JSON."""
        return {"temperature": self.temperature, "validation_images": self.validation, "limit": self.limit}

    @classmethod
    def from_description(cls, said: dict[str, Any], known: Tensor | None) -> "Trust":
        """The inverse of `description`.

        Raises:
            ResnetlabError: numbers or features that cannot be.
            KeyError, TypeError, ValueError: `said` is not a description.
        """
        temperature, limit = float(said["temperature"]), float(said["limit"])
        sound = 0 < temperature < math.inf and math.isfinite(limit)
        features = known is None or (known.ndim == 2 and len(known) and known.isfinite().all())
        if not (sound and features):
            raise ResnetlabError(f"its temperature, limit or features cannot be: {said}")
        return cls(temperature, int(said["validation_images"]), known, limit)

    def without_distance(self) -> "Trust":
        """Only the temperature."""
        return replace(self, known=None, limit=0.0)


def distance(features: Float[Tensor, "n features"], known: Float[Tensor, "k features"]) -> Float[Tensor, "n"]:
    """One minus the cosine similarity with the fifth-nearest of `known`; features are the last layer's input."""
    similar = F.normalize(features.float(), dim=1) @ known.T
    return 1 - similar.topk(min(NEAREST, len(known)), dim=1).values[:, -1]


def fit_temperature(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> float:
    """The temperature with the highest likelihood of the labels (Guo et al., 2017).

    As in Platt's scaling (1999), a label counts as (n + 1) / (n + classes) of its class, for few images that are all
    right would otherwise ask for a temperature of 0.
    """
    from scipy.optimize import minimize_scalar  # takes a second

    logits, labels = logits.cpu().double(), labels.cpu()
    count, classes = logits.shape
    other = 1 / (count + classes)
    target = F.one_hot(labels, classes).double() * count * other + other

    def loss(logarithm: float) -> float:
        shares = (logits / torch.tensor(logarithm).double().exp()).log_softmax(1)
        return float(-(target * shares).sum(1).mean())

    return float(torch.tensor(minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded").x).double().exp())


def fit_trust(
    logits: Float[Tensor, "n classes"],
    labels: Int64[Tensor, "n"],
    features: Float[Tensor, "n features"],
    known: Float[Tensor, "k features"],
) -> Trust:
    """From what a network says of validation images, their features, and features of training images."""
    kept = F.normalize(known.float(), dim=1).half()
    trust = Trust(fit_temperature(logits, labels), len(labels), kept)
    limit = torch.quantile(trust.distance(features), 1 - FALSE_ALARMS, interpolation="higher")
    return replace(trust, limit=float(limit))


class Calibrated(nn.Module):
    """A network without its last layer, and what follows: calibrated logits, the distance if features are kept."""

    known: Tensor | None

    def __init__(self, network: ResNet, trust: Trust | None) -> None:
        super().__init__()
        self.network, self.fc = network, network.fc
        self.temperature = 1.0 if trust is None else trust.temperature
        known = None if trust is None or trust.known is None else trust.known.float()
        self.register_buffer("known", known)
        network.fc = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor | None]:
        """Logits (n, classes), and the distance from the training images (n)."""
        features = self.network(images)
        logits = self.fc(features)
        logits = logits if self.temperature == 1 else logits / self.temperature
        return logits, None if self.known is None else distance(features, self.known)
