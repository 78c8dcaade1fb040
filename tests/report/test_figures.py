"""Figures of any numbers are drawn without a word."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from resnetlab.report.figures import rendered
from resnetlab.report.record import Figure, Line, Panel, Record

VAST = Path(__file__).parents[1] / "faults" / "corpus" / "records" / "17745" / "record.json"


@pytest.mark.parametrize("form", ["png", "svg"])
def test_limits_that_overflow(form: str) -> None:
    """A figure whose y axis ends at 1e308."""
    record = Record.from_json(json.loads(VAST.read_text()))
    assert record.figures[0].panels[0].top == 1e308
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = rendered(record.figures[0], form)  # type: ignore[arg-type]
    assert len(drawn) > 1000


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"top": 0.0},
        {"bottom": 2.0, "top": 2.0},
        {"top": -1.0},
        {"right": 0.0},
        {"left": 5.0, "right": 5.0},
        {"log": True},
        {"log": True, "bottom": 0.0, "top": 0.0},
        {"log": True, "bottom": -1.0, "top": 5.0},
        {"log": True, "bottom": 3.0, "top": 3.0},
        {"grid": ((0.0, 0.0), (0.0, 0.0)), "left": 1.0, "right": 1.0, "top": 0.0},
    ],
)
@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 2.0), (-1.0, -1.0)])
def test_limits_that_leave_no_room(limits: dict[str, Any], values: tuple[float, ...]) -> None:
    """As of curves that are all 0; each is drawn, with axes of some length."""
    lines = () if "grid" in limits else (Line((0.0, 1.0), values, "a", "#111111"),)
    figure = Figure("t", (Panel("p", "x", "y", lines, **limits),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(rendered(figure, "svg")) > 1000
