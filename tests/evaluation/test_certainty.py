"""Intervals and paired tests, against published examples, scikit-learn and sums written out."""

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.certainty import Paired, error_in_words, interval_of_error


def answers(logits: torch.Tensor, labels: torch.Tensor) -> Answers:
    return Answers.of_logits(logits, labels, tuple("abcdefgh"[: logits.shape[1]]))


def right_on(right: list[bool]) -> Answers:
    """Answers of two classes that are right on these images, all of the first class."""
    logits = torch.tensor([[1.0, 0.0] if each else [0.0, 1.0] for each in right])
    return answers(logits, torch.zeros(len(right), dtype=torch.int64))


@pytest.mark.parametrize(
    ("errors", "images", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18)],
)
def test_wilsons_interval_is_as_published(errors: int, images: int, low: float, high: float) -> None:
    """Newcombe (1998), Table I, method 3."""
    found = interval_of_error(errors, images)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)


def test_an_error_in_words() -> None:
    few = right_on([True] * 46 + [False] * 4)
    assert error_in_words(few, "test ") == (
        "test error 8.00 %, accuracy 92.00 % (4 errors of 50 test images; 95 % interval 3.2 to 18.8 %, Wilson)"
    )
    one = right_on([False] + [True] * 9_999)
    assert error_in_words(one) == "error 0.01 %, accuracy 99.99 % (1 error of 10,000 images)"


@given(st.integers(2, 6), st.integers(2, 60), st.integers(0, 2**20))
def test_means_over_classes_are_scikit_learns(classes: int, images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = torch.from_numpy(random.integers(0, classes, images))
    found = answers(torch.from_numpy(random.normal(size=(images, classes))), labels)
    predicted = found.ranked[:, 0]
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    recalls = [float((predicted[labels == k] == k).mean()) for k in np.unique(labels)]
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))
    if set(predicted) <= set(labels.tolist()):
        assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))


@given(st.integers(4, 60), st.integers(0, 2**20))
def test_the_area_of_two_classes_is_scikit_learns(images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = torch.from_numpy(random.integers(0, 2, images))
    logits = torch.from_numpy(random.normal(size=(images, 2)))
    found = answers(logits, labels)
    if len(set(labels.tolist())) == 1:
        assert found.auc is None
    else:
        assert found.auc == pytest.approx(roc_auc_score(labels, logits.softmax(1)[:, 1]))
    assert answers(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])).auc is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_mcnemars_test_is_the_sum_of_binomials(right: list[tuple[bool, bool]]) -> None:
    first, second = (right_on([pair[k] for pair in right]) for k in (0, 1))
    found = Paired.of(first, second)
    b = sum(x and not y for x, y in right)
    c = sum(y and not x for x, y in right)
    assert (found.only_first, found.only_second, found.images) == (b, c, len(right))
    assert found.difference == pytest.approx(second.error - first.error)
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.interval.low <= found.difference <= found.interval.high
    mirrored = Paired.of(second, first)
    assert mirrored.p_value == pytest.approx(found.p_value)
    assert mirrored.interval.low == pytest.approx(-found.interval.high)


def test_the_intervals_width_is_that_of_paired_counts() -> None:
    """b = 20, c = 8, n = 200: sqrt(28 - 144 / 200) / 200 = 2.612 points."""
    found = Paired(150, 20, 8, 22)
    assert found.difference == pytest.approx(6.0)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (6 - 1.96 * 2.6115, 6 + 1.96 * 2.6115), abs=0.01
    )


def test_verdicts() -> None:
    assert "do not differ beyond chance: error of the second -4.00" in Paired(80, 3, 7, 10).in_words("A", "B")
    assert Paired(80, 1, 14, 5).in_words("A", "B").startswith("B is better than A beyond chance")
    assert Paired(80, 14, 1, 5).in_words("A", "B").startswith("A is better than B beyond chance")
    assert Paired(9, 0, 0, 1).in_words("A", "B") == "A and B are right and wrong on the same images."
    assert Paired(9, 0, 0, 1).p_value == 1.0


def test_other_labels_are_refused() -> None:
    one = right_on([True, True])
    other = answers(torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(ResnetlabError, match="the true classes of the images differ"):
        Paired.of(one, other)
