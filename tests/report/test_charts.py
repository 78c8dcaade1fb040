"""Curves for the page: fewer points without losing extremes, names, and numbers that JSON has."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from resnetlab.report.charts import MOST_POINTS, chart, thinned, values
from resnetlab.report.figures import rendered
from resnetlab.report.record import Bar, Figure, Line, Panel
from tests.report.pages import figure

VALUES = st.lists(st.floats(allow_infinity=True, allow_nan=True), min_size=1, max_size=300)


@given(VALUES, st.integers(4, 40))
def test_extremes_and_ends_are_kept(values: list[float], most: int) -> None:
    kept = thinned(values, most)
    assert kept == sorted(set(kept))
    assert len(kept) <= max(most, len(values) if len(values) <= most else most)
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    if finite := [value for value in values if math.isfinite(value)]:
        assert {min(finite), max(finite)} <= {values[k] for k in kept}


def test_few_points_are_all_kept() -> None:
    assert thinned([1.0] * MOST_POINTS) == list(range(MOST_POINTS))
    assert len(thinned([float(k % 7) for k in range(100_000)])) <= MOST_POINTS


def test_names_come_from_labels_and_legends() -> None:
    found = chart(figure("t", "ResNet-56"))
    assert found is not None
    left, right = found["panels"]
    assert [series["name"] for series in left["series"]] == ["ResNet-56, test", "deep, training"]
    assert [series["name"] for series in right["series"]] == ["ResNet-56"]
    assert right["series"][0]["notes"] == ["here", "ResNet-56"]
    assert left["yRange"] == [0.0, 90.0]
    assert right["yRange"] == [0.0, 90.0]  # shared


def test_a_network_in_the_colour_of_the_legend() -> None:
    line = Line((0.0, 1.0), (1.0, 2.0), "", "#888888", "test")
    legend = (("ResNet-8", "#888888", "test"), ("test", "#888888", "test"))
    found = chart(Figure("", (Panel("", "x", "y", (line,), legend=legend),)))
    assert found is not None
    assert found["panels"][0]["series"][0]["name"] == "ResNet-8"


def test_names_of_another_panel() -> None:
    plain, residual = (Line((0.0, 1.0), (1.0, 2.0), "", "#d62728", style) for style in ("plain", "residual"))
    labelled = [
        Line((0.0, 1.0), (1.0, 2.0), label, "#d62728", style)
        for label, style in (("plain-56", "plain points"), ("ResNet-56", "residual points"))
    ]
    found = chart(Figure("", (Panel("", "x", "y", tuple(labelled)), Panel("", "x", "y", (residual, plain)))))
    assert found is not None
    assert [series["name"] for series in found["panels"][1]["series"]] == ["ResNet-56", "plain-56"]


def test_json_has_no_nan_and_x_once_and_sorted() -> None:
    line = Line((3.0, 1.0, 2.0, 2.0), (3.0, math.nan, 5.0, 6.0))
    found = chart(Figure("", (Panel("", "x", "y", (line,)),)))
    assert found is not None
    (series,) = found["panels"][0]["series"]
    assert (series["x"], series["y"]) == ([1.0, 2.0, 3.0], [None, 6.0, 3.0])
    json.dumps(found, allow_nan=False)


def test_limits_that_are_no_numbers() -> None:
    panel = Panel("", "x", "y", (Line((0.0, 1.0), (1.0, 2.0)),), right=math.inf, top=math.nan)
    json.dumps(chart(Figure("", (panel,))), allow_nan=False)


def test_what_is_not_made_of_curves_stays_a_picture() -> None:
    line = Line((0.0, 1.0), (1.0, 2.0))
    for panel in (
        Panel("", "x", "y", bars=(Bar(0.0, 1.0, "a", "#000000"),)),
        Panel("", "x", "y", (line,), ticks=("a", "b")),
        Panel("", "x", "y", (line,), grid=((1.0, 2.0), (3.0, 4.0))),
        Panel("", "x", "y", (Line((1.0, 1.0), (1.0, 2.0), style="points"),)),
        Panel("", "x", "y"),
    ):
        assert chart(Figure("", (panel,))) is None


def test_names_in_pictures_are_no_formulas() -> None:
    line = Line((1.0, 2.0), (1e-9, 1e3), "$a_b$")
    drawn = rendered(Figure("50 $ and $x^2$", (Panel("", "x", "y", (line,), log=True),)), "svg").decode()
    assert ">$a_b$<" in drawn
    assert "50 $ and $x^2$" in drawn
    assert "mathdefault" not in drawn
    assert ">1e−0" in drawn


def test_bars_have_a_table_of_their_values() -> None:
    bars = (Bar(-0.2, 50.0, "AP50", "#000000"), Bar(0.8, 40.5, "AP50", "#000000"))
    points = Line((0.0,), (51.0,), "seeds", style="points")
    (table,) = values(Figure("", (Panel("t", "network", "AP", (points,), bars, ticks=("a", "b")),)))
    assert table.header == ("network", "what", "AP")
    assert table.rows == (("a", "AP50", "50"), ("b", "AP50", "40.5"), ("a", "seeds", "51"))
