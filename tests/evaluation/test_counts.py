"""Errors are counted once over all batches, and a test leaves the network as it was."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from resnetlab.data.dataset import Dataset, Pixels
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.networks.resnet import ResNet, build
from resnetlab.tasks.classification import CLASSIFICATION

Batch = tuple[Tensor, Tensor]


def batches(dataset: Dataset, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
    assert isinstance(dataset.test, Pixels)
    for k in range(0, len(dataset.test), size):
        part = dataset.test[k : k + size]
        yield preprocessing(part.pixels), part.labels


def in_two_modes() -> tuple[ResNet, list[bool]]:
    """A network in training whose first stage is not, and the modes of its parts."""
    network = build("cifar_resnet8", num_classes=4).train()
    network.layer1.eval()
    return network, [module.training for module in network.modules()]


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_counts_do_not_depend_on_batches(tiny: Dataset, size: int) -> None:
    network, modes = in_two_modes()
    mean = torch.rand(3, 8, 8)
    found = CLASSIFICATION.test(network, batches(tiny, Preprocessing.of_mean_image(mean), size))
    assert [module.training for module in network.modules()] == modes
    network.eval()
    wrong, loss = 0, 0.0
    for pixels, label in zip(tiny.test.pixels, tiny.test.labels, strict=True):
        with torch.no_grad():
            scores = network((pixels.permute(2, 0, 1) / 255 - mean)[None])[0].log_softmax(0)
        wrong += int(scores.argmax() != label)
        loss -= float(scores[label])
    assert 0 < wrong < 16
    assert (found.metrics["error"], found.images) == (100 * wrong / 16, 16)
    assert found.metrics["loss"] == pytest.approx(loss / 16, rel=1e-4)


def test_batches_of_different_sizes_count_by_image() -> None:
    network = nn.Linear(1, 2)
    nn.init.zeros_(network.weight)
    network.bias.data = torch.tensor([0.0, 1.0])
    given = [(torch.zeros(3, 1), torch.tensor([0, 1, 1])), (torch.zeros(1, 1), torch.tensor([1]))]
    found = CLASSIFICATION.test(network, given)
    assert (found.metrics["error"], found.images) == (25.0, 4)


def test_modes_are_put_back_after_a_failure(tiny: Dataset) -> None:
    network, modes = in_two_modes()
    grey = Preprocessing.of_mean_image(torch.zeros(1, 8, 8))
    few: list[Batch] = [*batches(tiny, Preprocessing.of_mean_image(torch.zeros(3, 8, 8)), 8)]
    with pytest.raises(RuntimeError, match="channels"):
        CLASSIFICATION.test(network, [*few, (grey.mean[None], torch.tensor([0]))])
    assert [module.training for module in network.modules()] == modes


def test_nothing_to_test() -> None:
    found = CLASSIFICATION.test(nn.Linear(1, 2), [])
    assert (found.metrics, found.images) == ({}, 0)


def test_percent() -> None:
    assert CLASSIFICATION.means([5_000.0, 875.0, 10_000.0]) == {"error": 8.75, "loss": 0.5}
