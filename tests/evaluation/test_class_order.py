"""Labels are matched by the names of classes."""

import pytest
import torch

from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.class_order import by_name

LABELS = torch.tensor([0, 1, 2, 1])


def test_same_names() -> None:
    labels, remark = by_name(LABELS, ("a", "b", "c"), ("a", "b", "c"))
    assert (labels.tolist(), remark) == ([0, 1, 2, 1], "")


def test_another_order_and_fewer_classes() -> None:
    labels, remark = by_name(LABELS, ("c", "a", "x"), ("a", "b", "c", "x"))
    assert (labels.tolist(), remark) == ([2, 0, 3, 0], "")


def test_numbers_are_no_names() -> None:
    labels, remark = by_name(LABELS, ("0", "1", "2"), ("a", "b", "c"))
    assert labels.tolist() == LABELS.tolist()
    assert "the data has no names of classes" in remark
    assert "the model has no names of classes" in by_name(LABELS, ("a", "b", "c"), ("0", "1", "2"))[1]


def test_classes_that_the_model_has_not() -> None:
    with pytest.raises(ResnetlabError, match=r"of the data's 3 classes, 2 are not among the model's 3 \(d, e\)"):
        by_name(LABELS, ("a", "d", "e"), ("a", "b", "c"))
