"""The paper's recipe to the letter, and its proportions."""

from dataclasses import asdict, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.errors import ResnetlabError
from resnetlab.training.named_recipes import CIFAR, RECIPES
from resnetlab.training.recipe import Recipe
from resnetlab.training.schedule import learning_rate


def test_the_papers_recipe() -> None:
    papers = {
        "name": "cifar",
        "iterations": 64_000,
        "batch_size": 128,
        "learning_rate": 0.1,
        "drops": (32_000, 48_000),
        "momentum": 0.9,
        "weight_decay": 0.0001,
        "warmup_rate": None,
        "warmup_error": 80.0,
        "warmup_window": 100,
        "padding": 4,
        "flip": True,
        "validation": 0,
        "report_every": 1000,
        "precision": "float32",
        "decayed": "all",
        "exact_statistics": False,
        "crop": "padded",
        "normalise": "mean-image",
        "schedule": "drops",
        "ramp_up": 0,
        "label_smoothing": 0.0,
        "ema": 0.0,
        "balance": "none",
        "accumulate": 1,
        "freeze": "none",
        "patience": 0,
        "keep": "last",
    }
    assert asdict(RECIPES["cifar"]) | papers == asdict(RECIPES["cifar"])
    assert RECIPES["cifar-45k"] == replace(CIFAR, name="cifar-45k", validation=5000)
    assert RECIPES["cifar-warmup"] == replace(CIFAR, name="cifar-warmup", warmup_rate=0.01)


def test_the_digits_recipe_has_the_papers_proportions() -> None:
    digits = RECIPES["digits"]
    assert [drop / digits.iterations for drop in digits.drops] == [0.5, 0.75]
    assert (digits.batch_size, digits.momentum, digits.weight_decay) == (128, 0.9, 1e-4)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)],
)
def test_the_papers_schedule(step: int, rate: float) -> None:
    assert learning_rate(CIFAR, step, None) == pytest.approx(rate)


@given(st.integers(0, 63_999), st.none() | st.integers(0, 64_000))
def test_warm_up_changes_nothing_after_it_ended(step: int, warmed_up_at: int | None) -> None:
    warm = RECIPES["cifar-warmup"]
    expected = learning_rate(CIFAR, step, None)
    found = learning_rate(warm, step, warmed_up_at)
    if warmed_up_at is not None and step >= warmed_up_at:
        assert found == expected
    else:
        assert found == min(expected, 0.01)


@given(st.integers(1, 200_000))
def test_scaling_keeps_proportions(iterations: int) -> None:
    scaled = CIFAR.scaled(iterations)
    assert scaled.iterations == iterations
    assert abs(scaled.drops[0] - iterations / 2) <= 1
    assert abs(scaled.drops[1] - iterations * 3 / 4) <= 1
    assert scaled.report_every >= 10


def test_recipes_are_told_apart_by_name() -> None:
    assert all(name == known.name for name, known in RECIPES.items())
    assert isinstance(RECIPES["short"], Recipe)


@given(st.integers(1, 500), st.integers(1, 60))
def test_the_last_report_is_no_short_piece(iterations: int, every: int) -> None:
    recipe = replace(CIFAR, iterations=iterations, report_every=every, drops=())
    steps = [step for step in range(1, iterations + 1) if recipe.reports_at(step)]
    assert steps[-1] == iterations
    pieces = [later - step for step, later in pairwise([0, *steps])]
    assert all(piece == every for piece in pieces[:-1])
    assert every / 2 <= pieces[-1] <= 1.5 * every or len(pieces) == 1


def test_statistics_over_parts_of_the_batch() -> None:
    paper = RECIPES["imagenet-8x32"]
    assert [paper.parts(processes) for processes in (1, 2, 4, 8)] == [8, 4, 2, 1]
    with pytest.raises(ResnetlabError, match="by 16 processes in chunks of 32"):
        paper.parts(16)
    with pytest.raises(ResnetlabError, match="a divisor of batch_size"):
        replace(paper, batch_size=100)
    with pytest.raises(ResnetlabError, match="0 where accumulate is more than 1"):
        replace(paper, accumulate=2)
    assert [CIFAR.parts(2), replace(CIFAR, accumulate=4).parts(2)] == [1, 4]
    with pytest.raises(ResnetlabError, match="by 2 processes with 3 chunks each"):
        replace(CIFAR, batch_size=129, accumulate=3).parts(2)
