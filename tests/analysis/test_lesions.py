"""Lesions against networks whose answer is known, and path lengths against all paths counted one by one."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import kendalltau
from torch import nn
from torch.nn import functional as F

from resnetlab.analysis.block_deletion import (
    kendall_tau,
    measure,
    middle_range,
    on_path,
    path_lengths,
    permutations,
    single_deletions,
    without,
)
from resnetlab.analysis.blocks import blocks
from resnetlab.analysis.subject import Subject, error
from resnetlab.errors import ResnetlabError
from resnetlab.networks.resnet import build


def test_a_block_that_does_nothing_can_be_deleted(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet20")
    network, idle = found.network, blocks(found.network)[4]
    nn.init.zeros_(idle.module.bn2.weight)
    nn.init.zeros_(idle.module.bn2.bias)
    before = error(network, found.test)
    assert without(network, [idle], found.test) == before
    rows = single_deletions(network, found.test, found.train, list)
    assert [row["block"] for row in rows] == [block.name for block in blocks(network)]
    assert rows[4]["error"] == before


def test_what_a_plain_network_cannot_lose_is_said(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_plain14")
    rows = single_deletions(found.network, found.test, found.train, list)
    assert [row["block"] for row in rows if row["error"] is None] == ["layer2.0", "layer3.0"]


def test_re_estimated_statistics_are_those_of_the_shorter_network(subject: Callable[..., Subject]) -> None:
    """Deleting a plain block and re-estimating is the shallower network with exact statistics."""
    from resnetlab.networks.statistics import set_exact_statistics

    found = subject("cifar_plain14")
    deleted = blocks(found.network)[1]
    error_without = without(found.network, [deleted], found.test, found.train)
    shorter = build("cifar_plain14", num_classes=4)
    shorter.load_state_dict(found.network.state_dict())
    shorter.layer1[1] = nn.Identity()
    set_exact_statistics(shorter, (x for x, _ in found.train.batches()))
    assert error_without == error(shorter, found.test)


def test_exchanges_keep_the_network_and_tau_is_scipys(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet20")
    before = error(found.network, found.test)
    rows = permutations(found.network, [1, 5], found.test, 3, list)
    assert [row["count"] for row in rows] == [1, 5]
    assert all(-1 <= tau < 1 for row in rows for tau in row["taus"])
    assert error(found.network, found.test) == before
    order = [3, 0, 2, 1, 4]
    assert kendall_tau([order]) == pytest.approx(kendalltau(range(5), order).statistic)
    assert permutations(build("cifar_resnet8", num_classes=4), [1], found.test, 1, list) == []


def test_the_gradient_is_the_sum_over_all_paths(subject: Callable[..., Subject]) -> None:
    """Of the 2^3 paths of ResNet-8: linear in the choices, because values and ReLUs stay the same."""
    found = subject("cifar_resnet8")
    network, (x, labels) = found.network, found.test.batch(8)
    kept = blocks(network)

    def gradient() -> torch.Tensor:
        h = start = F.relu(network.bn1(network.conv1(x))).detach().requires_grad_()
        for stage in network.stages():
            h = stage(h)
        logits = network.fc(network.avgpool(h).flatten(1))
        return torch.autograd.grad(F.cross_entropy(logits, labels), start)[0]

    whole, total = gradient(), torch.zeros(8, 16, 8, 8)
    for chosen in itertools.product((False, True), repeat=3):
        with on_path(kept, {k for k, through in enumerate(chosen) if through}):
            total += gradient()
    torch.testing.assert_close(total, whole, rtol=1e-3, atol=1e-6)
    for block in kept:
        h = torch.randn(2, block.module.conv1.in_channels, 8, 8)
        assert torch.equal(block.module(h), F.relu(block.module.residual(h) + block.module.downsample(h)))


def test_paths_are_binomial_and_shares_add_up(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet20")
    paths = path_lengths(found.network, found.test.batch(16), 2, list)
    assert paths["binomial"] == pytest.approx([math.comb(9, k) / 2**9 for k in range(10)])
    assert sum(paths["share"]) == pytest.approx(1)
    assert paths["share"][3] / paths["share"][6] == pytest.approx(paths["norms"][3] / paths["norms"][6])
    assert (paths["binomial_low"], paths["binomial_high"]) == (4, 14)
    assert middle_range([1.0, 8.0, 1.0], 0.8) == (0, 1)
    assert middle_range([0.0, 1.0, 0.0], 0.9) == (1, 1)


def test_a_whole_measurement_of_a_bottleneck_network(subject: Callable[..., Subject]) -> None:
    with pytest.raises(ResnetlabError, match="40 training images for this; a lesion study needs at least 100"):
        measure(subject("cifar_resnet8", train=40), list)
    found = measure(subject("cifar_resnet8"), list)
    assert found["paths"] is not None
    assert found["deleted"][0]["count"] == 1
    assert measure(subject("cifar_plain8"), list)["paths"] is None


def test_paths_through_bottlenecks_have_three_layers_a_block() -> None:
    network = build("resnet50-narrow8", num_classes=4).eval()
    batch = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    paths = path_lengths(network, batch, 1, list)
    assert (paths["blocks"], paths["layers_per_block"]) == (16, 3)
