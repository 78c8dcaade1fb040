"""A small subject for measurements: random images, a network that is not trained."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from resnetlab.analysis.subject import Images, Subject
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.networks.resnet import ResNet, build

CPU = torch.device("cpu")


def images(count: int, seed: int = 0, size: int = 8) -> Images:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    pixels = torch.randint(0, 60, (count, size, size, 3), generator=generator) + 50 * labels[:, None, None, None]
    preprocessing = Preprocessing.by_channel(Fit.square(size), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Images(pixels.to(torch.uint8), labels, preprocessing, CPU)


def subject_of(network: ResNet, train: int = 240, test: int = 220) -> Subject:
    return Subject("a run", network, images(train), images(test, 1), train, None, lambda: iter(()))


@pytest.fixture
def subject(perturb: Callable[[nn.Module], nn.Module]) -> Callable[..., Subject]:
    """A subject with a network by name, whose batch normalisation is far from the identity."""

    def make(name: str, **counts: int) -> Subject:
        network = build(name, num_classes=4)
        perturb(network)
        return subject_of(network, **counts)

    return make
