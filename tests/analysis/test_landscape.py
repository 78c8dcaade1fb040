"""The landscape against a quadratic with a known spectrum, and directions against their definition."""

from collections.abc import Callable

import pytest
import torch

from resnetlab.analysis.loss_landscape import (
    along_lines,
    curvature,
    filter_normalised,
    largest_eigenvalue,
    measure,
    moved,
    on_surface,
    places,
)
from resnetlab.analysis.subject import Subject, error_and_loss


@pytest.mark.parametrize("spectrum", [(5.0, 3.0, 1.0), (1.0, -7.0, 2.0)])
def test_the_eigenvalue_of_a_quadratic_is_found(spectrum: tuple[float, ...]) -> None:
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    matrix = rotation @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ rotation.T
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    found = largest_eigenvalue(lambda: 0.5 * x @ matrix @ x, [x])
    assert found["value"] == pytest.approx(max(spectrum, key=abs), rel=5e-3)
    assert found["converged"]


def test_curvature_is_the_largest_eigenvalue_of_the_full_hessian() -> None:
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    x, labels = torch.randn(20, 1, 2, 2), torch.randint(2, (20,))
    parameters = dict(network.named_parameters())

    def loss(*values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(parameters, values, strict=True))
        return torch.nn.functional.cross_entropy(torch.func.functional_call(network, named, (x,)), labels)

    blocks = torch.autograd.functional.hessian(loss, tuple(parameters.values()))
    sizes = [p.numel() for p in parameters.values()]
    rows = [torch.cat([b.reshape(m, -1) for b in row], 1) for row, m in zip(blocks, sizes, strict=True)]
    hessian = torch.cat(rows)
    values = torch.linalg.eigvalsh(hessian.double())
    assert curvature(network, (x, labels))["value"] == pytest.approx(float(values[values.abs().argmax()]), rel=0.02)


def test_directions_are_normalised_by_filter(subject: Callable[..., Subject]) -> None:
    network = subject("cifar_resnet8").network
    for weight, part in zip(network.parameters(), filter_normalised(network, 0), strict=True):
        if weight.ndim <= 1:
            assert not part.any()
        else:
            torch.testing.assert_close(part.flatten(1).norm(dim=1), weight.detach().flatten(1).norm(dim=1))
    pairs = zip(filter_normalised(network, 0), filter_normalised(network, 1), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_the_network_comes_back_bit_for_bit(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet8", train=120)
    before = [p.clone() for p in found.network.parameters()]
    with moved(found.network, [(0.3, filter_normalised(found.network, 0))]):
        assert not all(torch.equal(a, b) for a, b in zip(found.network.parameters(), before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found.network.parameters(), before, strict=True))
    lines = along_lines(found.network, found.train, 2, 5, list)
    assert lines["places"] == places(5) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    own = error_and_loss(found.network, found.train)[1]
    assert [line[2] for line in lines["losses"]] == pytest.approx([own, own])
    surface = on_surface(found.network, found.train, 3, list)
    assert surface["losses"][1][1] == pytest.approx(own)
    assert [row[1] for row in surface["losses"]] == pytest.approx([lines["losses"][0][k] for k in (0, 2, 4)])
    assert surface["losses"][1] == pytest.approx([lines["losses"][1][k] for k in (0, 2, 4)])
    assert "surface" not in measure(found, list)
    assert measure(found, list, 3)["surface"] == surface
