"""Expected calibration error and reliability, against sums written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.calibration import BINS, bins, expected_calibration_error


def answers(shares: np.ndarray, right: np.ndarray) -> Answers:
    """Two classes, of which the first is taken with these probabilities."""
    logits = torch.from_numpy(np.stack([np.log(shares), np.log1p(-shares)], 1))
    return Answers.of_logits(logits, torch.from_numpy((~right).astype(np.int64)), ("a", "b"))


def test_by_hand() -> None:
    """Ten images at 0.95 of which 8 are right, and ten at 0.65 of which 7 are: (0.15 + 0.05) / 2."""
    shares = np.array([0.95] * 10 + [0.65] * 10)
    right = np.array([True] * 8 + [False] * 2 + [True] * 7 + [False] * 3)
    found = answers(shares, right)
    assert expected_calibration_error(found) == pytest.approx(10.0)
    low, high = bins(found)
    assert (low.images, low.confidence, low.accuracy) == pytest.approx((10, 0.65, 0.7))
    assert (high.images, high.confidence, high.accuracy) == pytest.approx((10, 0.95, 0.8))


@given(st.integers(1, 80), st.integers(0, 2**20))
def test_against_a_loop_over_images(images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shares, right = random.uniform(0.5001, 0.9999, images), random.random(images) < 0.7
    total = 0.0
    for k in range(BINS):
        mine = [i for i in range(images) if k / BINS < shares[i] <= (k + 1) / BINS]
        if mine:
            gap = abs(sum(shares[i] for i in mine) / len(mine) - sum(right[i] for i in mine) / len(mine))
            total += len(mine) / images * gap
    assert expected_calibration_error(answers(shares, right)) == pytest.approx(100 * total)


def test_as_sure_as_right_has_none_and_the_ends_have_a_place() -> None:
    shares = np.array([0.75] * 4 + [1.0 - 1e-12])
    assert expected_calibration_error(answers(shares, np.array([True, True, True, False, True]))) < 1e-6
    assert sum(each.images for each in bins(answers(shares, np.ones(5, bool)))) == 5
