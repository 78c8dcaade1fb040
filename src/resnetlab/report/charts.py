"""Figures as data for the page's charts: curves with few points, the name of each, how it is drawn."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from resnetlab.report.record import Figure, Line, Panel, Table

MOST_POINTS = 400
DIGITS = 6
DASHES: dict[str, list[int]] = {
    "training": [4, 3],
    "validation": [2, 2],
    "plain": [6, 3],
    "plain points": [6, 3],
    "paper plain": [8, 3],
    "reference": [4, 3],
    "dotted": [2, 3],
}
WIDTHS = {"test": 2, "residual": 2, "residual points": 2, "paper": 5, "paper plain": 5, "points": 0, "open points": 0}
SCATTERED = "points", "open points"
POINTS = (*SCATTERED, "residual points", "plain points")
NAMED_BY_STYLE = ("training", "test", "validation", "paper")


def chart(figure: Figure) -> dict[str, Any] | None:
    """The data of a figure's panels, as JSON without NaN; None if it is not made of curves alone."""
    if not all(map(_is_of_curves, figure.panels)):
        return None
    top = max((panel.top for panel in figure.panels if panel.top is not None), default=None)
    labels = _labels(figure)
    panels = [_panel(panel, top if figure.share else panel.top, labels) for panel in figure.panels]
    return {"title": figure.title, "panels": panels}


def values(figure: Figure) -> list[Table]:
    """The values of bars, and of points and curves beside them, for figures that are no charts."""
    found = []
    for panel in figure.panels:
        rows = [(_place(panel, bar.place), bar.label, f"{bar.height:.4g}") for bar in panel.bars]
        rows += [
            (_place(panel, x), line.label, f"{y:.4g}")
            for line in panel.lines
            for x, y in zip(line.x, line.y, strict=True)
        ]
        if rows:
            found.append(Table((panel.x or "place", "what", panel.y or "value"), tuple(rows), "", panel.title))
    return found


def _place(panel: Panel, place: float) -> str:
    """The label of a position on the x axis: its tick if there is one near, or the number."""
    tick = round(place)
    return panel.ticks[tick] if 0 <= tick < len(panel.ticks) else f"{place:.4g}"


def _is_of_curves(panel: Panel) -> bool:
    others = panel.bars or panel.grid or panel.ticks
    scattered = any(len(set(line.x)) < len(line.x) for line in panel.lines if line.style in SCATTERED)
    return bool(panel.lines) and not others and not scattered


def _labels(figure: Figure) -> dict[tuple[str, str], str]:
    """The labels of lines by colour and style: a figure often has a legend in one of its panels."""
    lines = [line for panel in figure.panels for line in panel.lines if line.label]
    by_colour = {(line.colour, ""): line.label for line in lines}
    return by_colour | {(line.colour, _kind(line)): line.label for line in lines}


def _kind(line: Line) -> str:
    return line.style.removesuffix(" points")


def _panel(panel: Panel, top: float | None, labels: dict[tuple[str, str], str]) -> dict[str, Any]:
    """One plot: its axes and its series."""
    bottom = panel.bottom if panel.bottom is not None or panel.log else 0.0
    left = panel.left if panel.left is not None or panel.right is None else 0.0
    named = _names(panel, labels)
    return {
        "title": panel.title,
        "x": panel.x,
        "y": panel.y,
        "log": panel.log,
        "xRange": [_limit(left), _limit(panel.right)],
        "yRange": [_limit(bottom), _limit(top)],
        "series": [_series(line, name) for line, name in zip(panel.lines, named, strict=True)],
    }


def _names(panel: Panel, labels: dict[tuple[str, str], str]) -> list[str]:
    """A name for each line: its label, or what the legends say of its colour and style."""
    networks = {colour: label for label, colour, style in reversed(panel.legend) if style == "test"}  # the first
    several = len({line.style for line in panel.lines}) > 1
    found = []
    for number, line in enumerate(panel.lines, 1):
        elsewhere = labels.get((line.colour, _kind(line))) or labels.get((line.colour, ""), "")
        style = line.style if line.style in NAMED_BY_STYLE and several else ""
        network = networks.get(line.colour, elsewhere)
        found.append(line.label or ", ".join(filter(None, (network, style))) or f"curve {number}")
    return found


def _series(line: Line, name: str) -> dict[str, Any]:
    """A line's points by x, each x once."""
    order = sorted(dict(zip(line.x, range(len(line.x)), strict=True)).values(), key=lambda k: line.x[k])
    kept = [order[k] for k in thinned([line.y[k] for k in order])]

    def pick(values: Sequence[float]) -> list[float | None]:
        return [_number(values[k]) for k in kept] if values else []

    return {
        "name": name,
        "colour": line.colour,
        "dash": DASHES.get(line.style, []),
        "width": WIDTHS.get(line.style, 1),
        "faint": line.style.startswith("paper"),
        "points": line.style in POINTS or len(line.x) == 1,
        "x": pick(line.x),
        "y": pick(line.y),
        "low": pick(line.low),
        "high": pick(line.high),
        "notes": [line.notes[k] if k < len(line.notes) else "" for k in kept] if line.notes else [],
    }


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """The numbers of at most `most` of the points: the first, the last, the lowest and highest of each interval."""
    count = len(values)
    if count <= most:
        return list(range(count))
    numbers = np.array(values, dtype=float)
    kept = {0, count - 1}
    for part in np.array_split(np.arange(count), (most - 2) // 2):
        finite = part[np.isfinite(numbers[part])]
        if len(finite):
            kept |= {int(finite[numbers[finite].argmin()]), int(finite[numbers[finite].argmax()])}
    return sorted(kept)


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _limit(value: float | None) -> float | None:
    return None if value is None else _number(value)
