"""Curves in the characters of a terminal: each has 2 x 4 dots (braille patterns)."""

import math
from collections.abc import Sequence
from itertools import pairwise

from rich.text import Text

COLOURS = ("red", "cyan", "yellow", "magenta", "green", "blue", "bright_red", "bright_cyan")
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a braille pattern, by row and column."""
EMPTY = 0x2800
Curve = Sequence[tuple[float, float]]


def text_chart(curves: Sequence[Curve], width: int, height: int) -> Text:
    """Curves of (x, y) from 0 upwards, in so many columns and lines, with the axes' ends; the last is on top.

    The y axis leaves out what is above twice the 75th percentile, so that a steep start does not flatten the rest.
    """
    points = [[(x, y) for x, y in curve if math.isfinite(y)] for curve in curves]
    values = sorted(y for curve in points for _, y in curve)
    if not values:
        return Text("no test so far", "dim")
    top = min(values[-1], 2 * values[3 * len(values) // 4]) or values[-1] or 1.0
    right = max(x for curve in points for x, _ in curve) or 1.0
    bits = [[0] * width for _ in range(height)]
    owner = [[0] * width for _ in range(height)]
    for number, curve in enumerate(points):
        for column, row in _dots(curve, right, top, 2 * width - 1, 4 * height - 1):
            bits[row // 4][column // 2] |= DOTS[row % 4][column % 2]
            owner[row // 4][column // 2] = number
    drawn = Text()
    for k, (line, numbers) in enumerate(zip(bits, owner, strict=True)):
        drawn.append(f"{top:7.1f} ┤" if k == 0 else f"{0:7.1f} ┤" if k == height - 1 else "        │", "dim")
        for bit, number in zip(line, numbers, strict=True):
            drawn.append(chr(EMPTY + bit) if bit else " ", COLOURS[number % len(COLOURS)])
        drawn.append("\n")
    return drawn.append(" " * 8 + "0" + f"{right:,.0f}".rjust(width), "dim")


def _dots(curve: Curve, right: float, top: float, columns: int, rows: int) -> set[tuple[int, int]]:
    """The dots of a curve: a straight line between its points, one dot or more in each column."""
    places = [(columns * x / right, rows * (1 - y / top)) for x, y in curve]
    found = {(round(x), round(y)) for x, y in places}
    for (x, y), (x2, y2) in pairwise(places):
        steps = max(1, math.ceil(max(abs(x2 - x), min(abs(y2 - y), 2 * rows))))
        found |= {(round(x + (x2 - x) * k / steps), round(y + (y2 - y) * k / steps)) for k in range(steps)}
    return {(x, y) for x, y in found if 0 <= x <= columns and 0 <= y <= rows}
