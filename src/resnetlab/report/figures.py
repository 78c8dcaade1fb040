"""Draw figures as PNG and SVG, reproducibly."""

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter, MaxNLocator, MultipleLocator

from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing
from resnetlab.report.record import Figure, Line, Panel

FONT = "DejaVu Sans"
STYLES: dict[str, dict[str, Any]] = {
    "training": {"linestyle": (0, (4, 2)), "linewidth": 0.8},
    "test": {"linestyle": "-", "linewidth": 1.8},
    "validation": {"linestyle": (0, (1, 1)), "linewidth": 1.2},
    "paper": {"linestyle": "-", "linewidth": 3.5, "alpha": 0.25},
    "paper plain": {"linestyle": (0, (2, 0.6)), "linewidth": 3.5, "alpha": 0.25},
    "reference": {"linestyle": (0, (4, 2)), "linewidth": 0.8},
    "points": {"linestyle": "", "marker": "o", "markersize": 5},
    "open points": {"linestyle": "", "marker": "o", "markersize": 5, "markerfacecolor": "white"},
    "residual": {"linestyle": "-", "linewidth": 1.6},
    "plain": {"linestyle": (0, (5, 1.5)), "linewidth": 1.3},
    "residual points": {"linestyle": "-", "linewidth": 1.6, "marker": "o", "markersize": 3.5},
    "plain points": {"linestyle": (0, (5, 1.5)), "linewidth": 1.3, "marker": "s", "markersize": 3.5},
    "dotted": {"linestyle": (0, (1, 1.5)), "linewidth": 1.4},
}
GRID: dict[str, Any] = {"axis": "y", "linestyle": (0, (1, 3)), "color": "grey", "linewidth": 0.6}
PERCENT = "%"
LONGEST = 60  # letters of a label or tick
LETTERS_PER_INCH = 13  # of a title
FEW = 20.0  # percent; axes up to here have a tick every 5


PLAIN: dict[Any, Any] = {"text.parse_math": False}
"""For pictures with names of classes and files, which are no formulas."""
SETTINGS = PLAIN | {"font.family": FONT, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "resnetlab"}


def draw(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg.

    Raises:
        ResnetlabError: it has colours, styles or limits that cannot be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _possible(figure), _drawn(figure) as canvas:
        for form in ("png", "svg"):
            with replacing(path.with_name(f"{path.name}.{form}")) as temporary:
                _save(canvas, temporary, form)


def rendered(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """The content of a figure's PNG or SVG file.

    Raises:
        ResnetlabError: it has colours, styles or limits that cannot be.
    """
    buffer = io.BytesIO()
    with _possible(figure), _drawn(figure) as canvas:
        _save(canvas, buffer, form)
    return buffer.getvalue()


@contextmanager
def _possible(figure: Figure) -> Iterator[None]:
    """Turn what Matplotlib raises for figures of damaged records, which can be anything, into one error."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        name = figure.title.partition("\n")[0]
        raise ResnetlabError(f"the figure {name!r} cannot be drawn: {error!r}") from error


def _save(canvas: Canvas, target: Path | io.BytesIO, form: str) -> None:
    canvas.savefig(target, format=form, **({"dpi": 160} if form == "png" else {"metadata": {"Date": None}}))


@contextmanager
def _drawn(figure: Figure) -> Iterator[Canvas]:
    """All panels of a figure, drawn, with the settings under which they are saved."""
    with mpl.rc_context(SETTINGS), np.errstate(all="ignore"):  # limits can be any numbers
        width, height = figure.size
        canvas = Canvas(figsize=(width * len(figure.panels) + 0.4, height), layout="constrained")
        axes = canvas.subplots(1, len(figure.panels), sharey=figure.share, squeeze=False)[0]
        handles: dict[str, Artist] = {}
        for k, (axis, panel) in enumerate(zip(axes, figure.panels, strict=True)):
            entries = _panel(axis, panel, named=k == 0 or not figure.share)
            handles |= {str(entry.get_label()): entry for entry in entries}
            if entries and not figure.below:
                columns = 1 + (len(entries) > 7 and not panel.bars)
                axis.legend(handles=entries, fontsize=8, framealpha=0.9, ncols=columns)
        if figure.below and handles:
            columns = max(1, int(width * len(figure.panels) / 1.7))
            canvas.legend(handles=list(handles.values()), loc="outside lower center", ncols=columns, fontsize=8)
        letters = int(LETTERS_PER_INCH * width * len(figure.panels))
        title = "\n".join(part for line in figure.title.splitlines() for part in textwrap.wrap(line, letters))
        canvas.suptitle(title, fontsize=10)
        yield canvas


def _panel(axis: Axes, panel: Panel, named: bool) -> list[Artist]:
    """Draw a panel and return the entries of its legend."""
    handles: list[Artist] = []
    for line in panel.lines:
        _line(axis, line)
        if line.label:
            handles.append(Line2D([], [], color=line.colour, label=_short(line.label), **STYLES[line.style]))
    handles += [Line2D([], [], color=c, label=_short(label), **STYLES[style]) for label, c, style in panel.legend]
    patches: dict[str, Artist] = {}
    bottoms: dict[float, float] = {}
    for bar in panel.bars:
        bottom = bottoms.get(bar.place, 0.0)
        axis.bar(bar.place, bar.height, bar.width, bottom, color=bar.colour, edgecolor="white", linewidth=0.3)
        bottoms[bar.place] = bottom + bar.height
        patches.setdefault(bar.label, Patch(color=bar.colour, label=_short(bar.label)))
    handles += reversed(patches.values())
    if panel.ticks:
        axis.set_xticks(range(len(panel.ticks)), list(map(_short, panel.ticks)), fontsize=8)
    axis.grid(**GRID)
    axis.set_axisbelow(True)
    axis.set_title(panel.title, fontsize=9)
    axis.set_xlabel(panel.x)
    if named:
        axis.set_ylabel(panel.y)
    if panel.grid:
        _contours(axis, panel)
        return handles
    if panel.right is not None:
        axis.set_xlim(*_apart(panel.left or 0.0, panel.right))
    if panel.lines and all(float(x).is_integer() for line in panel.lines for x in line.x):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.log and axis.dataLim.ymax > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(LogFormatter())  # the usual one writes formulas
        axis.yaxis.set_minor_formatter(LogFormatter())
        if panel.bottom is not None or panel.top is not None:
            positive = (limit if limit and limit > 0 else None for limit in (panel.bottom, panel.top))
            axis.set_ylim(*_apart(*positive))
        return handles
    axis.set_ylim(*_apart(panel.bottom or 0.0, panel.top if panel.top is not None else 1.1 * axis.dataLim.ymax))
    if panel.top is not None and PERCENT in panel.y:
        axis.yaxis.set_major_locator(MultipleLocator(5 if panel.top <= FEW else 10))
    return handles


def _apart(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """The limits of an axis; apart from each other also if they are one number, as of curves that are all 0."""
    return (low, high) if low is None or low != high else (low, low + max(1.0, abs(low)))


def _contours(axis: Axes, panel: Panel) -> None:
    """Filled contours at levels that grow by a constant factor, with a bar that explains them."""
    values = np.array(panel.grid)
    low, high = max(values.min(), 1e-6), max(values.max(), 2e-6)
    x, y = (
        np.linspace(panel.left or 0, panel.right or 1, values.shape[1]),
        np.linspace(panel.bottom or 0, panel.top or 1, values.shape[0]),
    )
    levels = np.geomspace(low, high * 1.0001, 13)
    drawn = axis.contourf(x, y, values.clip(low, high), levels, norm=LogNorm(low, high))
    axis.contour(x, y, values.clip(low, high), levels, colors="white", linewidths=0.3)
    bar = axis.figure.colorbar(drawn, ax=axis, shrink=0.8, ticks=levels[::3])
    bar.ax.set_yticklabels([f"{level:.3g}" for level in levels[::3]])


def _line(axis: Axes, line: Line) -> None:
    if line.low:
        axis.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.12, linewidth=0)
    alone = {"marker": "o", "markersize": 4} if len(line.x) == 1 else {}
    behind = line.style.startswith("paper")
    axis.plot(line.x, line.y, color=line.colour, zorder=1 if behind else 2, **{**alone, **STYLES[line.style]})
    for x, y, note in zip(line.x, line.y, line.notes, strict=False):
        beside: dict[str, Any] = {"xytext": (-5, 4), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        axis.annotate(_short(note), (x, y), fontsize=8, **beside)


def _short(text: str) -> str:
    """A text that leaves room for the curves."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
