"""Figures 1 and 6 in the paper's style: dashed training error, bold test error, the paper's own curves beneath."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from resnetlab.networks.resnet import Architecture
from resnetlab.paper.curves import paper_curve
from resnetlab.report.records import Record
from resnetlab.report.tables import beside_paper

COLOURS = {18: "#00a5c8", 34: "#d62728", 50: "#2ca02c", 101: "#222222", 152: "#7b3fa0"}  # ImageNet's
COLOURS |= {20: "#c8a200", 32: "#00a5c8", 44: "#2ca02c", 56: "#d62728", 110: "#222222", 1202: "#7b3fa0"}
SPARE = ("#ff7f0e", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#888888")  # for options of one depth
PAPER_TOP = 20.0  # the paper cuts its figures at 20 %
MARGIN = 1.3
FONT = "DejaVu Sans"
STYLES: dict[str, dict[str, Any]] = {
    "train": {"linestyle": (0, (4, 2)), "linewidth": 0.8},
    "test": {"linestyle": "-", "linewidth": 1.8},
    "validation": {"linestyle": (0, (1, 1)), "linewidth": 1.2},
}
LABELS = {"train": "training", "test": "test", "validation": "validation"}


def draw_experiment(records: list[Record], path: Path, title: str) -> None:
    """The figure of an experiment; Figure 1 is told by its file's name, `figure1`."""
    runs = max(sum(other.row == record.row for other in records) for record in records)
    narrow = records[0].row.narrow
    subtitle = records[0].data + (f", networks of 1/{narrow} width" if narrow > 1 else "")
    subtitle += f", mean and range of {runs} runs each" if runs > 1 else ""
    draw_curves(records, path, f"{title}\n{subtitle}", beside_paper(records), train_left=path.stem == "figure1")


def draw_run(record: Record, folder: Path) -> None:
    """`curves.png` and `.svg` of one run, in its folder: all of its curves but their beginning."""
    title = f"{record.row.title} on {record.data}, recipe {record.config['recipe']['name']}"
    splits = [split for split in LABELS if f"{split}_error" in record.curve[-1]]
    shown = [point[f"{split}_error"] for split in splits for point in record.curve[len(record.curve) // 10 :]]
    with drawn(folder / "curves", title, 1) as (axis,):
        _panel(axis, [record], tuple(splits), with_paper=False)
        _scale(axis, min(100.0, 10.0 * math.ceil(max(shown) / 10 + 0.1)))


def draw_curves(records: list[Record], path: Path, title: str, with_paper: bool, train_left: bool = False) -> None:
    """Write `path`.png and `path`.svg: error over iterations, plain networks left, residual right.

    With `train_left`, as in Figure 1: training error left, test error right. Of several seeds the mean is drawn, and
    their range as a band. `with_paper` lays the paper's curves beneath.
    """
    kinds = ("train", "test") if train_left else tuple(dict.fromkeys(_kind(r) for r in sorted(records, key=_order)))
    with drawn(path, title, len(kinds)) as axes:
        for axis, kind in zip(axes, kinds, strict=True):
            shown = records if train_left else [record for record in records if _kind(record) == kind]
            splits = (kind,) if train_left else ("train", "test")
            _panel(axis, sorted(shown, key=_order), splits, with_paper)
            axis.set_title(
                {"train": "training error", "test": "test error"}.get(kind, f"{kind} networks"), fontsize=9
            )
        _scale(axes[0], _top(records))


@contextmanager
def drawn(
    path: Path, title: str, panels: int, *, share: bool = True, size: tuple[float, float] = (4.1, 3.6)
) -> Iterator[list[Axes]]:
    """Panels beside each other, which are written to `path`.png and `path`.svg in the end.

    `share`: they have one y axis. `size` is the width and height of a panel in inches.
    """
    with mpl.rc_context({"font.family": FONT, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "resnetlab"}):
        figure = Figure(figsize=(size[0] * panels + 0.4, size[1]), layout="constrained")
        yield list(figure.subplots(1, panels, sharey=share, squeeze=False)[0])
        figure.suptitle(title, fontsize=10)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path.with_suffix(".png"), dpi=160)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _scale(axis: Axes, top: float) -> None:
    axis.set_ylabel("error (%)")
    axis.set_ylim(0, top)
    axis.yaxis.set_major_locator(MultipleLocator(5 if top <= PAPER_TOP else 10))


def _panel(axis: Axes, records: list[Record], splits: tuple[str, ...], with_paper: bool) -> None:
    last = max(record.curve[-1]["step"] for record in records)
    unit, name = (1e4, "iter. (1e4)") if last >= 1e4 else (1.0, "iteration")
    networks = {record.row: [r for r in records if r.row == record.row] for record in records}
    colours = _colours(list(networks))
    for row, runs in networks.items():
        for split in splits:
            if with_paper and (theirs := paper_curve(row.name, row.shortcut, split)):
                x, y = zip(*theirs, strict=True)
                axis.plot([v * 1e4 / unit for v in x], y, color=colours[row], alpha=0.25, linewidth=3.5, zorder=1)
            _one_curve(axis, runs, split, unit, colours[row])
    handles = [Line2D([], [], color=colours[row], linewidth=1.8, label=row.title) for row in networks]
    if len(splits) > 1:
        handles += [Line2D([], [], color="grey", label=LABELS[split], **STYLES[split]) for split in splits]
    if with_paper:
        handles += [Line2D([], [], color="grey", alpha=0.25, linewidth=3.5, label="the paper's")]
    axis.legend(handles=handles, fontsize=8, framealpha=0.9, ncols=1 + (len(handles) > 7))
    axis.set_xlabel(name)
    axis.set_xlim(0, last / unit)
    axis.grid(axis="y", linestyle=(0, (1, 3)), color="grey", linewidth=0.6)


def _one_curve(axis: Axes, runs: list[Record], split: str, unit: float, colour: str) -> None:
    """The mean over seeds, in a band from the lowest to the highest."""
    steps = [point["step"] / unit for point in runs[0].curve]
    errors = list(zip(*[[point[f"{split}_error"] for point in run.curve] for run in runs], strict=False))
    if len(runs) > 1:
        low, high = [min(e) for e in errors], [max(e) for e in errors]
        axis.fill_between(steps[: len(errors)], low, high, color=colour, alpha=0.12, linewidth=0)
    axis.plot(steps[: len(errors)], [sum(e) / len(e) for e in errors], color=colour, zorder=2, **STYLES[split])


def _top(records: list[Record]) -> float:
    """The paper's 20 %, or what it takes to show where every curve ends."""
    ends: list[float] = [record.curve[-1][f"{split}_error"] for record in records for split in ("train", "test")]
    return min(100.0, max(PAPER_TOP, 10.0 * math.ceil(MARGIN * max(ends) / 10)))


def _kind(record: Record) -> str:
    return "plain" if record.row.shortcut == "none" else "residual"


def _order(record: Record) -> tuple[str, int, str, int]:
    return _kind(record), record.row.depth, record.row.shortcut, record.seed


def _colours(rows: list[Architecture]) -> dict[Architecture, str]:
    """A colour for each depth, as in the paper; where options share a depth, another one for each."""
    found: dict[Architecture, str] = {}
    for row in rows:
        choices = (COLOURS.get(row.depth, "#888888"), *SPARE)
        found[row] = next((colour for colour in choices if colour not in found.values()), choices[-1])
    return found
