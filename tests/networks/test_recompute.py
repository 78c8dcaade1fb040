"""Recomputed activations against kept ones."""

import copy

import pytest
import torch
from torch import nn

from resnetlab.networks.recompute import recomputed
from resnetlab.networks.resnet import build


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
    kept = build(name, num_classes=5, narrow=4).train()
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
