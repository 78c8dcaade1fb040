"""What a detector costs: multiply-adds of an image, in the shared part and in the head for all regions."""

from dataclasses import dataclass

import torch

from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import DetectorOptions
from resnetlab.networks.architecture import Architecture
from resnetlab.networks.measure import multiply_adds, parameter_count


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-adds of convolutions and fully connected layers for one image."""

    parameters: int
    shared: int
    """The shared map, and the proposals made of it."""
    head: int
    """All regions together."""

    @property
    def multiply_adds(self) -> int:
        """For the whole image."""
        return self.shared + self.head


def cost(row: Architecture, options: DetectorOptions, height: int, width: int) -> Cost:
    """The cost of testing one image of a size with all its proposals, without running it."""
    with torch.device("meta"):
        network = FasterRCNN(row, options).eval()
        shared = _Shared(network)
        head = _Head(network)
    side = network.body.pool_size
    each = multiply_adds(head, (network.body.channels, side, side))
    count = options.test_proposals + options.context
    return Cost(parameter_count(network), multiply_adds(shared, (row.in_channels, height, width)), count * each)


class _Shared(torch.nn.Module):
    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits, _ = self.network.proposals.head([self.network.body.shared(x)])
        found: torch.Tensor = logits[0]
        return found


class _Head(torch.nn.Module):
    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.network.body.head(x)
        if self.network.options.context:
            features = torch.cat([features, features], 1)
        logits, _ = self.network.regions(features)
        found: torch.Tensor = logits
        return found
