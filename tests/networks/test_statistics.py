"""Exact batch-norm statistics against a second implementation, layer by layer."""

import copy
from collections.abc import Collection, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from resnetlab.errors import ResnetlabError
from resnetlab.networks.recompute import recomputed
from resnetlab.networks.resnet import build
from resnetlab.networks.statistics import equal_parts, set_exact_statistics
from resnetlab.training.distributed import AcrossProcesses, synchronise


def norms_of(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


def expected_statistics(
    network: nn.Module, batches: Sequence[Tensor], frozen: Collection[str] = ()
) -> dict[str, tuple[Tensor, Tensor]]:
    """For every layer in turn: all inputs that it is given when layers normalise by the batch, put together."""
    found = {}
    for name in norms_of(network):
        trained = copy.deepcopy(network).train()
        for inner in frozen:
            trained.get_submodule(inner).training = network.get_submodule(inner).training
        inputs: list[Tensor] = []
        norms_of(trained)[name].register_forward_hook(
            lambda module, given, output, kept=inputs: kept.append(given[0].double())
        )
        with torch.no_grad():
            for batch in batches:
                trained(batch)
        values = torch.cat([part.transpose(0, 1).flatten(1) for part in inputs], 1)
        found[name] = values.mean(1), values.var(1, correction=1)
    return found


def batches_of(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, 3, 8, 8, generator=generator) * (k + 1) + k for k, size in enumerate(sizes)]


def check(network: nn.Module, batches: Sequence[Tensor], frozen: Collection[str] = ()) -> None:
    for name, (mean, variance) in expected_statistics(network, batches, frozen).items():
        if name in frozen:
            continue
        norm = norms_of(network)[name]
        torch.testing.assert_close(norm.running_mean, mean.float(), rtol=1e-5, atol=1e-6, msg=name)
        torch.testing.assert_close(norm.running_var, variance.float(), rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("sizes", [(6,), (4, 4, 4), (8, 3, 1)])
@pytest.mark.parametrize("kind", ["as it is", "synchronised", "recomputed"])
def test_every_layer_has_the_statistics_of_all_images(kind: str, sizes: tuple[int, ...]) -> None:
    network = build("cifar_resnet8", shortcut="B", narrow=4)
    if kind == "recomputed":
        recomputed(network)
    network.train()(torch.randn(4, 3, 8, 8))  # running averages that are not those of the batches
    if kind == "synchronised":
        synchronise(network)
        assert all(type(norm) is AcrossProcesses for norm in norms_of(network).values())
    network.layer1.eval()
    modes = [module.training for module in network.modules()]
    before = [(norm.momentum, int(norm.num_batches_tracked)) for norm in norms_of(network).values()]
    set_exact_statistics(network, batches_of(*sizes))
    check(network, batches_of(*sizes))
    assert [module.training for module in network.modules()] == modes
    assert [(norm.momentum, int(norm.num_batches_tracked)) for norm in norms_of(network).values()] == before
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_large_mean_loses_no_digits() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    batches = [batch * 1e-2 + 1e3 for batch in batches_of(5, 4, 3)]
    set_exact_statistics(network, batches)
    check(network, batches)


def test_frozen_layers_keep_their_mode_and_statistics() -> None:
    network = build("cifar_resnet8", narrow=4).train()
    frozen = [network.bn1, network.layer2]
    network.layer2.eval()  # the other one stays in training mode
    before = copy.deepcopy(network.state_dict())
    set_exact_statistics(network, batches_of(4, 4), frozen=frozen)
    inside = {name for name, module in network.named_modules() for part in frozen if module in set(part.modules())}
    for name, norm in norms_of(network).items():
        is_kept = torch.equal(norm.running_mean, before[f"{name}.running_mean"])
        assert is_kept == (name in inside), name
        assert int(norm.num_batches_tracked) == 0
    assert (network.bn1.training, network.layer2[0].bn1.training) == (True, False)
    check(network, batches_of(4, 4), inside)  # the frozen stage normalises as in evaluation, which the next one sees


def test_nothing_changes_where_there_is_nothing_to_see() -> None:
    network = build("cifar_resnet8", narrow=4)
    network.train()(torch.randn(4, 3, 8, 8))
    network.eval()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ResnetlabError, match="no images"):
        set_exact_statistics(network, [])
    with pytest.raises(ResnetlabError, match="inputs of bn1 are not finite"):
        set_exact_statistics(network, [torch.full((4, 3, 8, 8), torch.nan)])
    with pytest.raises(RuntimeError, match="channels"):
        set_exact_statistics(network, [*batches_of(4), torch.randn(4, 2, 8, 8)])
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not network.training


@given(count=st.integers(0, 500), at_most=st.integers(1, 60))
def test_equal_parts(count: int, at_most: int) -> None:
    parts = equal_parts(count, at_most)
    assert [k for part in parts for k in range(part.start, part.stop)] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert len(sizes) == -(-count // at_most)
    assert not sizes or (max(sizes) <= at_most and min(sizes) >= max(1, max(sizes) - 1))


def test_parts_that_cannot_be() -> None:
    with pytest.raises(ResnetlabError, match="parts of at most 0"):
        equal_parts(3, 0)
