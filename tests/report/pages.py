"""Pages and figures with all that they can have."""

from pathlib import Path

import numpy as np
from PIL import Image

from resnetlab.report.record import Bar, Figure, Line, Panel, Record, Table
from resnetlab.report.webpage import Overview, Page, Picture, Row, Section

HOSTILE = "</script></style><img src=x onerror=alert(1)><svg onload=alert(2)>\"'`&{{7*7}}<!-- ]]>\u2028"


def figure(title: str = "A figure", label: str = "net", log: bool = False) -> Figure:
    """Two panels of curves: with a band, notes, several styles, and a NaN."""
    x = tuple(float(k) for k in range(1, 21))
    y = tuple(90 / k for k in x)
    low, high = tuple(v * 0.8 for v in y), tuple(v * 1.2 for v in y)
    first = Line(x, y, "", "#d62728", "test", low, high)
    second = Line(x, (float("nan"), *(v / 2 for v in y[1:])), "", "#222222", "training")
    third = Line((2.0, 9.0), (40.0, 8.0), label, "#2ca02c", "plain points", notes=("here", label))
    legend = ((label, "#d62728", "test"), ("deep", "#222222", "test"), ("training", "#888888", "training"))
    left = Panel("left", "iteration", "error (%)", (first, second), legend=legend, right=20.0, top=90.0)
    return Figure(title, (left, Panel("right", "iteration", "error (%)", (third,), log=log)))


def page(folder: Path, text: str = "text", runs: int = 1, points: int = 20) -> Page:
    """A page with all that a page can have; `text` is in every string."""
    numbers = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(numbers).save(folder / "picture.png")
    bars = Panel("bars", "x", "y", bars=(Bar(0.0, 2.0, text, "#4c72b0"),), ticks=(text,))
    table = Table((text, "value"), ((text, "1.5"), ("b", "2.5 ± 0.1")), text, text)
    figures = (figure(text, text, log=True), Figure(text, (bars,)))
    record = Record("figure6", text, (text,), (table,), figures)
    pictures = (Picture(text, folder / "picture.png"),)
    full = Section("record-1", record, pictures, {text: text}, text, (Record("inner", text, (text,)),))
    x = tuple(map(float, range(points)))
    curve = Panel("", "iteration", "error (%)", (Line(x, tuple(50 + 40 * np.sin(x)), text),))
    many = tuple(
        Section(f"run-{k}", Record(f"run{k}", f"{text} {k}", (), (table,), (Figure(text, (curve,)),)), pictures)
        for k in range(runs)
    )
    rows = (Row((text, text, "1", "2", "3"), "record-1"), Row(("b", text, "-", "-", "-"), "", text))
    overview = Overview(("table or figure", "state", "here", "in the paper", text), rows, text)
    return Page(text, (text,), overview, {text: (full,), "Runs": many}, figure(text, text), text)
