"""Figures of any numbers are drawn without a word."""

import json
import warnings
from pathlib import Path

import pytest

from resnetlab.report.figures import rendered
from resnetlab.report.record import Record

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
