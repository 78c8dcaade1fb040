"""Gradients against known answers: growth per layer, the square root of depth, shattering, finite differences."""

import math
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnetlab.analysis.blocks import blocks
from resnetlab.analysis.gradient_norms import (
    at_initialisation,
    exponent,
    growth,
    layer_norms,
    measure,
    norms,
    random_batch,
    shattering,
    without_batch_norm,
)
from resnetlab.analysis.subject import Subject
from resnetlab.networks.architecture import parse
from resnetlab.networks.resnet import ResNet, build

CPU = torch.device("cpu")


def test_in_a_wide_plain_network_gradients_grow_by_1_21_a_layer() -> None:
    """sqrt(pi / (pi - 1)) with batch normalisation and ReLU, in the limit of wide layers (Yang et al., 2019)."""
    layers = list[nn.Module]()
    for _ in range(16):
        linear = nn.Linear(1024, 1024, bias=False)
        nn.init.kaiming_normal_(linear.weight)
        layers += [linear, nn.BatchNorm1d(1024), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(1024, 10))
    watched = [layer for layer in network if isinstance(layer, nn.BatchNorm1d)]
    x, labels = torch.randn(1024, 1024), torch.randint(10, (1024,))
    signals, gradients = norms(network, watched, x, lambda logits: F.cross_entropy(logits, labels))
    assert growth(gradients) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.015)
    assert signals == pytest.approx([1.0] * 16, rel=1e-3)


def test_plain_gradients_explode_and_residual_ones_hardly_do() -> None:
    batch = random_batch(3, 16, 10, 64, CPU)
    plain, residual = (at_initialisation(parse(f"cifar_{kind}56"), batch) for kind in ("plain", "resnet"))
    assert 1.1 < plain["growth"] < 1.22
    assert plain["gradient"][0] > 1000 * plain["gradient"][-1]
    assert residual["gradient"][0] < 100 * residual["gradient"][-1]
    bare = at_initialisation(parse("cifar_plain56"), batch, batch_norm=False)
    assert bare["growth"] < 1


def test_the_residual_branch_shrinks_with_the_square_root_of_depth() -> None:
    """The variance of x grows by about that of F(x), which batch normalisation keeps at 1, in every block."""
    found = at_initialisation(parse("cifar_resnet110"), random_batch(3, 8, 10, 64, CPU))
    assert -0.65 < exponent(found["branches"][3:18], first=4) < -0.45
    assert found["branches"][17] == pytest.approx(1 / math.sqrt(18), rel=0.2)


def test_the_exponent_of_a_power_law_is_found() -> None:
    assert exponent([3 / math.sqrt(k) for k in range(4, 19)], first=4) == pytest.approx(-0.5)


def test_gradients_of_neighbours_decorrelate_in_plain_networks() -> None:
    x, _ = random_batch(3, 8, 10, 2, CPU)
    found = {name: shattering(parse(f"cifar_{name}"), x) for name in ("plain8", "plain32", "resnet8", "resnet32")}
    assert found["plain8"] > 5 * found["plain32"]
    assert found["resnet32"] > 0.5 * found["resnet8"]


def test_norms_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(OrderedDict(a=nn.Linear(3, 4), b=nn.Tanh(), c=nn.Linear(4, 1))).double()
    x, y = torch.randn(1, 3, dtype=torch.float64), None
    signals, gradients = norms(network, [network.a], x, lambda out: out.sum())
    y = network.a(x).detach()
    assert signals[0] == pytest.approx(float(y.square().mean().sqrt()))
    step = 1e-6
    slopes = []
    for k in range(4):
        up, down = y.clone(), y.clone()
        up[0, k] += step
        down[0, k] -= step
        slopes.append(float((network.c(network.b(up)) - network.c(network.b(down))).detach()) / (2 * step))
    assert gradients[0] == pytest.approx(math.hypot(*slopes), rel=1e-6)


def test_the_network_is_as_before(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet8")
    before = {key: value.clone() for key, value in found.network.state_dict().items()}
    points = measure(found)["points"]
    assert [point["step"] for point in points] == [None]  # neither the start nor snapshots are known
    assert len(points[0]["gradient"]) == 7
    assert len(points[0]["branches"]) == len(blocks(found.network))
    assert all(torch.equal(value, before[key]) for key, value in found.network.state_dict().items())
    assert all(parameter.grad is None for parameter in found.network.parameters())


def test_batch_norm_is_removed_everywhere() -> None:
    network = without_batch_norm(build("resnet18", narrow=8))
    assert isinstance(network, ResNet)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert layer_norms(network, random_batch(3, 32, 10, 4, CPU))["growth"] > 0
    assert math.isnan(growth([math.inf, 1.0]))
