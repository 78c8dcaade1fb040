"""Counting errors, against a literal count."""

import pytest
import torch
from torch import nn

from resnetlab.data import Preprocessing
from resnetlab.data.images import ImageSet
from resnetlab.evaluation.metrics import Counts, count
from resnetlab.evaluation.views import single_view
from resnetlab.networks import build


@pytest.mark.parametrize("batch_size", [1, 5, 16, 100])
def test_counts_do_not_depend_on_batches(tiny: ImageSet, batch_size: int) -> None:
    network = build("cifar_resnet8", num_classes=4).train()
    mean = torch.rand(3, 8, 8)
    found = single_view(network, tiny.test, Preprocessing.of_mean_image(mean), batch_size)
    assert network.training
    network.eval()
    wrong, loss = 0, 0.0
    for pixels, label in zip(tiny.test.pixels, tiny.test.labels, strict=True):
        with torch.no_grad():
            scores = network((pixels.permute(2, 0, 1) / 255 - mean)[None])[0].log_softmax(0)
        wrong += int(scores.argmax() != label)
        loss -= float(scores[label])
    assert (found.errors, found.images) == (wrong, 16)
    assert found.loss == pytest.approx(loss / 16, rel=1e-4)


def test_any_callable_will_do() -> None:
    batches = [(torch.zeros(3, 1), torch.tensor([0, 1, 1])), (torch.zeros(1, 1), torch.tensor([1]))]
    found = count(lambda x: torch.tensor([[0.0, 1.0]]).expand(len(x), 2), batches)
    assert (found.errors, found.images, found.error) == (1, 4, 25.0)


def test_the_mode_is_put_back_after_a_failure(tiny: ImageSet) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 4)).train()
    with pytest.raises(RuntimeError):
        single_view(network, tiny.test, Preprocessing.of_mean_image(torch.zeros(3, 8, 8)))
    assert network.training


def test_percent() -> None:
    assert Counts(875, 10_000, 0.0).error == 8.75
