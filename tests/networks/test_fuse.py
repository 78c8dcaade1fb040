"""Fused operations are the network, of every kind, at every size, one after the other."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from resnetlab.networks import build
from resnetlab.networks.fuse import FusedConvolution, fused, is_available
from resnetlab.networks.resnet import ResNet

KINDS = [("plain18", "none"), ("cifar_resnet20", "A"), ("resnet18", "A"), ("resnet34", "C"), ("resnet50", "B")]


@pytest.mark.parametrize(("name", "shortcut"), KINDS)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_logits_are_the_networks(
    perturb: Callable[[nn.Module], nn.Module], name: str, shortcut: str, layout: torch.memory_format
) -> None:
    network = perturb(build(name, shortcut=shortcut, narrow=4))  # type: ignore[arg-type]
    assert isinstance(network, ResNet)
    fast = fused(network)
    assert is_available() == any(isinstance(module, FusedConvolution) for module in fast.modules())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for size in ((2, 3, 64, 96), (5, 3, 32, 32), (1, 3, 75, 41), (2, 3, 64, 96)):
        images = torch.randn(*size).to(memory_format=layout)
        kept = images.clone()
        with torch.inference_mode():
            expected = network(images)
            torch.testing.assert_close(fast(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert torch.equal(images, kept)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_without_the_operations_convolutions_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnetlab.networks.fuse.is_available", lambda: False)
    network = build("resnet18", narrow=8).eval()
    fast = fused(network)
    assert not any(isinstance(module, FusedConvolution) for module in fast.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(fast(images), network(images), rtol=1e-4, atol=1e-4)
