"""Weight gradients beside the backward pass: the same training as torch's."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.networks.forked import ForkedConv2d, fork
from resnetlab.networks.resnet import build

NETWORKS = ["cifar_resnet8-C", "resnet18-narrow8", "resnet50-v1-narrow16", "resnet50-v1.5-narrow16"]


def steps(network: nn.Module, optimizer: torch.optim.Optimizer, half: bool, count: int = 3) -> None:
    network.train()
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        images, labels = torch.randn(4, 3, 32, 32, generator=generator), torch.arange(4)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = F.cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()


def both(name: str, half: bool) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = build(name, num_classes=5).to(memory_format=torch.channels_last)
    forked = copy.deepcopy(plain)
    optimizers = [torch.optim.SGD(n.parameters(), 0.05, momentum=0.9, weight_decay=1e-4) for n in (plain, forked)]
    fork(forked, optimizers[1], torch.bfloat16 if half else None)
    for network, optimizer in zip((plain, forked), optimizers, strict=True):
        steps(network, optimizer, half)
    return plain, forked


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_it_trains_as_torch_does(name: str, half: bool) -> None:
    plain, forked = both(name, half)
    assert any(isinstance(module, ForkedConv2d) for module in forked.modules())
    assert plain.state_dict().keys() == forked.state_dict().keys()
    for (key, expected), found in zip(plain.state_dict().items(), forked.state_dict().values(), strict=True):
        scale = float(expected.float().abs().max()) or 1.0
        torch.testing.assert_close(found, expected, rtol=0, atol=(0.03 if half else 1e-5) * scale, msg=key)


def gradients(network: nn.Module, fork_it: bool) -> list[Tensor]:
    optimizer = torch.optim.SGD(network.parameters(), 0.0)
    if fork_it:
        fork(network, optimizer, None)
    steps(network, optimizer, half=False, count=1)
    return [p.grad for p in network.parameters() if p.grad is not None]


def test_frozen_layers_have_no_gradient() -> None:
    torch.manual_seed(0)
    network = build("cifar_resnet8", num_classes=5)
    for part in (network.conv1, network.bn1, network.layer1):
        part.requires_grad_(requires_grad=False)
    expected, found = gradients(copy.deepcopy(network), fork_it=False), gradients(network, fork_it=True)
    assert len(expected) == len(found) < len(list(network.parameters()))
    for a, b in itertools.zip_longest(expected, found):
        torch.testing.assert_close(a, b)


def test_new_weights_are_used_at_once() -> None:
    """A checkpoint changes weights between two steps."""
    torch.manual_seed(0)
    network = build("cifar_resnet8", num_classes=5).train()
    fork(network, torch.optim.SGD(network.parameters(), 0.1), torch.bfloat16)
    other = build("cifar_resnet8", num_classes=5).train()
    images = torch.randn(4, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        expected = copy.deepcopy(other)(images)
        network.load_state_dict(other.state_dict())
        torch.testing.assert_close(network(images), expected, rtol=0.02, atol=0.02)


def test_a_copy_can_be_tested() -> None:
    network, forked = both("cifar_resnet8-C", half=False)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(copy.deepcopy(forked).eval()(images), forked.eval()(images))
    torch.testing.assert_close(forked(images), network.eval()(images), rtol=1e-4, atol=1e-4)
