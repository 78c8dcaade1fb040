"""Draw figures as PNG and SVG, reproducibly."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from resnetlab.report.record import Figure, Line, Panel

FONT = "DejaVu Sans"
STYLES: dict[str, dict[str, Any]] = {
    "training": {"linestyle": (0, (4, 2)), "linewidth": 0.8},
    "test": {"linestyle": "-", "linewidth": 1.8},
    "validation": {"linestyle": (0, (1, 1)), "linewidth": 1.2},
    "paper": {"linestyle": "-", "linewidth": 3.5, "alpha": 0.25},
    "reference": {"linestyle": (0, (4, 2)), "linewidth": 0.8},
    "points": {"linestyle": "", "marker": "o", "markersize": 5},
    "open points": {"linestyle": "", "marker": "o", "markersize": 5, "markerfacecolor": "white"},
}
GRID: dict[str, Any] = {"axis": "y", "linestyle": (0, (1, 3)), "color": "grey", "linewidth": 0.6}
PERCENT = "%"
FEW = 20.0  # percent; axes up to here have a tick every 5


def draw(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg."""
    with mpl.rc_context({"font.family": FONT, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "resnetlab"}):
        width, height = figure.size
        canvas = Canvas(figsize=(width * len(figure.panels) + 0.4, height), layout="constrained")
        axes = canvas.subplots(1, len(figure.panels), sharey=figure.share, squeeze=False)[0]
        for k, (axis, panel) in enumerate(zip(axes, figure.panels, strict=True)):
            _panel(axis, panel, named=k == 0 or not figure.share)
        canvas.suptitle(figure.title, fontsize=10)
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path.with_name(path.name + ".png"), dpi=160)
        canvas.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})


def _panel(axis: Axes, panel: Panel, named: bool) -> None:
    handles: list[Artist] = []
    for line in panel.lines:
        _line(axis, line)
        if line.label:
            handles.append(Line2D([], [], color=line.colour, label=line.label, **STYLES[line.style]))
    handles += [Line2D([], [], color=c, label=label, **STYLES[style]) for label, c, style in panel.legend]
    patches: dict[str, Artist] = {}
    bottoms: dict[float, float] = {}
    for bar in panel.bars:
        bottom = bottoms.get(bar.place, 0.0)
        axis.bar(bar.place, bar.height, bar.width, bottom, color=bar.colour, edgecolor="white", linewidth=0.3)
        bottoms[bar.place] = bottom + bar.height
        patches.setdefault(bar.label, Patch(color=bar.colour, label=bar.label))
    handles += reversed(patches.values())
    if panel.ticks:
        axis.set_xticks(range(len(panel.ticks)), list(panel.ticks), fontsize=8)
    axis.grid(**GRID)
    axis.set_axisbelow(True)
    axis.set_title(panel.title, fontsize=9)
    axis.set_xlabel(panel.x)
    if named:
        axis.set_ylabel(panel.y)
    if panel.right is not None:
        axis.set_xlim(0, panel.right)
    axis.set_ylim(0, panel.top if panel.top is not None else 1.1 * axis.dataLim.ymax)
    if panel.top is not None and PERCENT in panel.y:
        axis.yaxis.set_major_locator(MultipleLocator(5 if panel.top <= FEW else 10))
    if handles:
        axis.legend(handles=handles, fontsize=8, framealpha=0.9, ncols=1 + (len(handles) > 7 and not panel.bars))


def _line(axis: Axes, line: Line) -> None:
    if line.low:
        axis.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.12, linewidth=0)
    axis.plot(line.x, line.y, color=line.colour, zorder=1 if line.style == "paper" else 2, **STYLES[line.style])
    for x, y, note in zip(line.x, line.y, line.notes, strict=False):
        axis.annotate(note, (x, y), xytext=(-5, 4), textcoords="offset points", ha="right", va="bottom", fontsize=8)
