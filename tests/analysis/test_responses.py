"""Responses against closed forms and a literal second implementation."""

from collections.abc import Callable

import pytest
import torch

from resnetlab.analysis.responses import layers_3x3, measure, responses
from resnetlab.analysis.subject import Subject
from resnetlab.errors import ResnetlabError
from resnetlab.networks.resnet import build


@pytest.mark.parametrize(
    ("name", "count"), [("cifar_plain20", 19), ("cifar_resnet56", 55), ("resnet18", 16), ("resnet50", 16)]
)
def test_there_are_6n_plus_1_layers(name: str, count: int) -> None:
    layers = layers_3x3(build(name, narrow=4))
    assert len(layers) == count
    assert all(isinstance(layer, torch.nn.BatchNorm2d) for layer in layers.values())


def test_with_batch_statistics_the_deviation_is_gamma(subject: Callable[..., Subject]) -> None:
    """One batch: the output of batch normalisation has the standard deviation of its scale, by channel."""
    found = subject("cifar_resnet8", test=128)
    by_channel = responses(found.network, found.test, batch_mode=True)["channel"]
    gammas = [float(layer.weight.detach().abs().mean()) for layer in layers_3x3(found.network).values()]
    assert by_channel == pytest.approx(gammas, rel=0.02)


def test_against_a_literal_second_implementation(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_plain8")
    network, (x, _) = found.network, found.test.batch(220)
    outputs = list[torch.Tensor]()
    with torch.no_grad():
        y = network.bn1(network.conv1(x))
        outputs.append(y)
        for stage in network.stages():
            for block in stage.children():
                y = block.bn1(block.conv1(y.relu()))
                outputs.append(y)
                y = block.bn2(block.conv2(y.relu()))
                outputs.append(y)
    assert responses(network, found.test)["all"] == pytest.approx(
        [float(y.double().std(correction=0)) for y in outputs]
    )
    channels = [float(y.double().std((0, 2, 3), correction=0).mean()) for y in outputs]
    assert responses(network, found.test)["channel"] == pytest.approx(channels)


def test_the_network_is_as_before_and_few_images_are_refused(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet8")
    before = {key: value.clone() for key, value in found.network.state_dict().items()}
    assert set(measure(found)["choices"]) == {"as chosen", "by channel", "training images", "batch statistics"}
    assert all(torch.equal(value, before[key]) for key, value in found.network.state_dict().items())
    assert not found.network.training
    with pytest.raises(ResnetlabError, match="a run has 40 test images for this; .* needs at least 100"):
        measure(subject("cifar_resnet8", test=40))
