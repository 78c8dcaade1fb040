"""What comes of a network's answers, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score
from torch import nn

from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.chance import likely_cause

CLASSES = tuple("abcdefgh")


def some(count: int = 200) -> tuple[Answers, np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (count,), generator=generator)  # the last class has no images
    logits = torch.randn(count, 8, generator=generator) + 2 * nn.functional.one_hot(labels, 8)
    logits[:, 5] = -100.0  # which is never predicted
    return Answers.of_logits(logits, labels, CLASSES), logits.numpy(), labels.numpy()


def test_against_scikit_learn() -> None:
    found, logits, labels = some()
    predicted = logits.argmax(1)
    assert np.array_equal(found.confusion(), confusion_matrix(labels, predicted, labels=range(8)))
    assert found.error == pytest.approx(100 * (1 - (predicted == labels).mean()))
    top5 = top_k_accuracy_score(labels, logits, k=5, labels=range(8))
    assert found.top5_error == pytest.approx(100 * (1 - top5))
    theirs = precision_recall_fscore_support(labels, predicted, labels=range(8), zero_division=0)
    for row, precision, recall, f1, images in zip(found.by_class(), *theirs, strict=True):
        assert (row.precision or 0.0, row.recall or 0.0, row.f1 or 0.0) == pytest.approx((precision, recall, f1))
        assert row.images == images


def test_shares_of_nothing_are_none() -> None:
    rows = some()[0].by_class()
    assert rows[7].recall is None
    assert rows[5].precision is None
    assert rows[5].f1 == 0.0


def test_confident_mistakes() -> None:
    found = some()[0]
    worst = found.confident_mistakes(10)
    shares = found.probabilities[worst, 0]
    assert (np.diff(shares) <= 0).all()
    assert all(found.ranked[k, 0] != found.labels[k] for k in worst)
    wrong = found.ranked[:, 0] != found.labels
    assert shares[0] == found.probabilities[wrong, 0].max()


def test_chance_is_called_chance() -> None:
    assert not some()[0].at_chance
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 8, (200,), generator=generator)
    guessed = Answers.of_logits(torch.randn(200, 8, generator=generator), labels, CLASSES)
    assert guessed.at_chance


def test_the_cause_of_chance_is_told_from_the_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 8
    good = torch.rand(400, 8, generator=generator) + 2 * nn.functional.one_hot(labels, 8)
    shifted = Answers.of_logits(good.roll(1, 1), labels, CLASSES)
    assert shifted.at_chance
    assert "classes are in another order: 100% of a is taken for b" in likely_cause(shifted)
    constant = Answers.of_logits(torch.eye(8)[5].expand(400, 8), labels, CLASSES)
    assert "100% of the images are taken for f" in likely_cause(constant)
    guessed = Answers.of_logits(torch.rand(400, 8, generator=generator), labels, CLASSES)
    assert likely_cause(guessed).startswith("Likely causes")
    few = Answers.of_logits(torch.rand(8, 8, generator=generator), torch.arange(8), CLASSES)
    assert "another order:" not in likely_cause(few)  # any answers to one image a class look like an order


def test_guessing_between_two_classes_is_not_taken_for_another_order() -> None:
    labels = torch.arange(40) % 2
    for taken in (torch.zeros(40, dtype=torch.long), (torch.arange(40) // 2) % 2):
        answers = Answers.of_logits(nn.functional.one_hot(taken, 2).float(), labels, ("cat", "dog"))
        assert "another order:" not in likely_cause(answers)


def test_one_answer_for_all_images_is_not_taken_for_another_order() -> None:
    labels, taken = (torch.arange(40) % 10 == 0).long(), torch.ones(40, dtype=torch.long)  # nine in ten are cats
    answers = Answers.of_logits(nn.functional.one_hot(taken, 2).float(), labels, ("cat", "dog"))
    assert answers.at_chance
    assert "100% of the images are taken for dog" in likely_cause(answers)


@pytest.mark.parametrize("count", [2, 3])
def test_a_few_classes_in_another_order_are_told(count: int) -> None:
    labels = torch.arange(60) % count
    logits = nn.functional.one_hot((labels + 1) % count, count).float()
    assert "another order: 100% of c0 is taken for c1" in likely_cause(
        Answers.of_logits(logits, labels, tuple(f"c{k}" for k in range(count)))
    )
