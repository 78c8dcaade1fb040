"""Refinement: the ends of the read-out are known, probes and trees are scikit-learn's, cosines of made-up blocks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from resnetlab.analysis.blocks import blocks
from resnetlab.analysis.capacity import by_block, effective_rank
from resnetlab.analysis.read_outs import boosted_errors, cosines, features_by_block, measure, probe_errors, read_out
from resnetlab.analysis.subject import Subject, error


def test_the_last_read_out_is_the_network(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet20")
    errors = read_out(found.network, found.test)
    assert len(errors) == 10
    assert errors[-1] == error(found.network, found.test)
    for block in blocks(found.network)[5:]:
        nn.init.zeros_(block.module.bn2.weight)
        nn.init.zeros_(block.module.bn2.bias)
    assert len(set(read_out(found.network, found.test)[5:])) == 1  # later blocks add nothing


def test_features_and_probes_against_a_second_implementation(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_plain8")
    train, test = (features_by_block(found.network, images) for images in (found.train, found.test))
    x, _ = found.test.batch(220)
    with torch.no_grad():
        last = found.network.features(x).mean((2, 3)).numpy()
    np.testing.assert_allclose(test[-1], last, rtol=1e-4, atol=1e-5)
    assert [rows.shape for rows in test] == [(220, 16), (220, 16), (220, 32), (220, 64)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3))
    probe.fit(train[-1], found.train.labels)
    theirs = 100 * (1 - probe.score(test[-1], found.test.labels))
    ours = probe_errors(train, found.train.labels, test, found.test.labels, list)
    assert ours[-1] == pytest.approx(theirs)
    assert max(ours) < 5  # the classes differ in brightness, which every layer keeps


def test_boosting_gets_better_by_stages(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet8")
    errors = boosted_errors(found.train, found.test, 8)
    assert len(errors) == 8
    assert errors[-1] <= errors[0]


def test_an_update_down_the_gradient_has_cosine_one(subject: Callable[..., Subject]) -> None:
    """The last block is made to add minus the gradient of the loss with respect to its input, exactly."""
    found = subject("cifar_resnet14")
    network, last = found.network, blocks(found.network)[-1]
    network.fc.bias.data.zero_()
    _, labels = found.test.batch(1)

    class Down(type(last.module)):  # type: ignore[misc]
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            inner = h.detach().requires_grad_()
            loss = F.cross_entropy(network.fc(network.avgpool(inner).flatten(1)), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, inner)
            return h - 1e-4 * gradient.detach()

    last.module.__class__ = Down
    values = cosines(network, found.test.first(1))
    assert values[-1] == pytest.approx(1, abs=1e-3)
    assert [value != value for value in values] == [False, False, True, False, True, False]


def test_a_whole_measurement(subject: Callable[..., Subject]) -> None:
    found = measure(subject("cifar_plain8"), list)
    assert found["read_out"] is None
    assert found["cosines"] is None
    assert len(found["probes"]) == 4
    assert len(found["boosted"]) == 3
    residual = measure(subject("cifar_resnet8"), list)
    assert residual["cosines"][1:] == [None, None]


def test_the_effective_rank_of_known_matrices() -> None:
    rows = torch.randn(500, 6)
    q, _ = torch.linalg.qr(rows - rows.mean(0))
    assert effective_rank(q) == pytest.approx(6, rel=1e-5)  # equal singular values
    assert effective_rank(torch.outer(torch.randn(50), torch.randn(6))) == pytest.approx(1, rel=1e-4)
    assert effective_rank(torch.ones(5, 3)) == 1  # constant: no singular value at all, the entropy of nothing


def test_distances_from_the_identity(subject: Callable[..., Subject]) -> None:
    found = subject("cifar_resnet14")
    idle = blocks(found.network)[1]
    nn.init.zeros_(idle.module.bn2.weight)
    nn.init.zeros_(idle.module.bn2.bias)
    rows = by_block(found.network, found.test)
    assert rows[1]["distance"] == rows[1]["branch"] == pytest.approx(0, abs=1e-12)
    assert rows[2]["distance"] is None  # the shape changes
    assert rows[0]["distance"] > 0.01
    x, _ = found.test.batch(220)
    with torch.no_grad():
        h = F.relu(found.network.bn1(found.network.conv1(x)))
        y = found.network.layer1[0](h)
    ratio = (y - h).flatten(1).norm(dim=1) / h.flatten(1).norm(dim=1)
    assert rows[0]["distance"] == pytest.approx(float(ratio.mean()), rel=1e-4)
