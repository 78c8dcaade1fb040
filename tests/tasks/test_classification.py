"""The loss and the errors of mixed images."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from resnetlab.data.dataset import Dataset
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.named_recipes import CIFAR

CPU = torch.device("cpu")


@pytest.mark.parametrize("balance", ["none", "loss"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_images_is_the_mixture_of_their_losses(
    tiny: Dataset, balance: str, smoothing: float
) -> None:
    """Class weights included: each label's share of the loss has the weight of its class."""
    tiny.train.labels[:20] = 1
    loss = CLASSIFICATION.loss(replace(CIFAR, balance=balance, label_smoothing=smoothing), tiny, CPU)
    logits, labels, others = torch.randn(12, 4), torch.randint(0, 4, (12,)), torch.randint(0, 4, (12,))
    share = torch.rand(12)
    soft = F.one_hot(labels, 4) * share[:, None] + F.one_hot(others, 4) * (1 - share[:, None])
    each = [torch.stack([loss(logits[k : k + 1], y[k : k + 1]) for k in range(12)]) for y in (labels, others)]
    expected = (share * each[0] + (1 - share) * each[1]).mean()
    torch.testing.assert_close(loss(logits, soft), expected)
    torch.testing.assert_close(loss(logits, F.one_hot(labels, 4).float()), loss(logits, labels))


def test_errors_of_mixed_images_are_against_the_larger_share() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    soft = torch.tensor([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.3, 0.7]])
    assert CLASSIFICATION.sums(logits, soft).tolist() == [1.0, 3.0]
    assert CLASSIFICATION.sums(logits, torch.tensor([0, 1, 2])).tolist() == [1.0, 3.0]
