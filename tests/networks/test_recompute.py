"""Recomputed activations against kept ones."""

import copy

import pytest
import torch
from torch import nn

from resnetlab.networks import build
from resnetlab.networks.measure import set_exact_statistics
from resnetlab.networks.recompute import recomputed


def kept_bytes(network: nn.Module, images: torch.Tensor) -> int:
    """Memory of what the forward pass keeps for the backward pass, each storage once."""
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    return sum(size for pointer, size in seen.items() if pointer not in parameters)


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_plain32", "resnet18", "resnet50"])
def test_gradients_and_statistics_are_the_same(name: str) -> None:
    kept = build(name, num_classes=5).train()
    again = recomputed(copy.deepcopy(kept)).train()
    assert list(again.state_dict()) == list(kept.state_dict())
    for seed in range(3):
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        for network in (kept, again):
            network.zero_grad()
            network(images).square().mean().backward()
        for (key, p), q in zip(kept.named_parameters(), again.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-5, atol=1e-7, msg=key)
        for (key, a), b in zip(kept.named_buffers(), again.buffers(), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6, msg=key)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(images), kept.eval()(images), rtol=1e-4, atol=1e-5)


def test_memory_grows_with_the_root_of_depth() -> None:
    images = torch.randn(2, 3, 32, 32)
    found = {depth: kept_bytes(recomputed(build(f"cifar_resnet{depth}")).train(), images) for depth in (56, 218)}
    kept = {depth: kept_bytes(build(f"cifar_resnet{depth}").train(), images) for depth in (56, 218)}
    assert kept[218] > 3.5 * kept[56]
    assert found[218] < 2.5 * found[56]
    assert found[218] < kept[218] / 20  # and, in the backward pass, one piece of 6 of 36 blocks at a time


def test_exact_statistics_are_those_of_all_images() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train()
    batches = [torch.randn(8, 3, 4, 4) * k + k for k in (1.0, 2.0, 3.0)]
    network(torch.randn(8, 3, 4, 4))
    set_exact_statistics(network, batches)
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variance = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    torch.testing.assert_close(network[0].running_mean, expected)
    torch.testing.assert_close(network[0].running_var, variance)
    assert network.training
    assert [norm.momentum for norm in (network[0], network[2])] == [0.1, 0.1]
