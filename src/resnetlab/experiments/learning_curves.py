"""Error over iterations in the paper's style: training dashed, test bold, the paper's curves in the background."""

import math
from collections.abc import Sequence

from resnetlab.experiments.summary import beside_paper, by_share_of_schedule, in_words
from resnetlab.networks.architecture import Architecture
from resnetlab.paper.curves import paper_curve
from resnetlab.report.record import Figure, Line, Panel
from resnetlab.runs.finished import FinishedRun
from resnetlab.training.named_recipes import CIFAR

COLOURS = {18: "#00a5c8", 34: "#d62728", 50: "#2ca02c", 101: "#222222", 152: "#7b3fa0"}  # ImageNet's
COLOURS |= {20: "#c8a200", 32: "#00a5c8", 44: "#2ca02c", 56: "#d62728", 110: "#222222", 1202: "#7b3fa0"}
SPARE = ("#ff7f0e", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#888888")  # for options of one depth
GREY = "#888888"
PAPER_TOP = 20.0  # the paper cuts its figures at 20 %
MARGIN = 1.3
SPLITS = {"train": "training", "test": "test", "validation": "validation"}


def experiment_figure(runs: Sequence[FinishedRun], title: str, by_split: bool = False) -> Figure:
    """Plain networks left, residual right; with `by_split`, as in Figure 1, training error left, test error right.

    Several seeds are drawn as their mean, with a band for their range.
    """
    ordered = sorted(runs, key=_order)
    most = max(sum(other.architecture == run.architecture for other in runs) for run in runs)
    narrow = runs[0].architecture.narrow
    subtitle = runs[0].data + (f", networks of 1/{narrow} width" if narrow > 1 else "")
    subtitle += f", mean and range of {most} runs each" if most > 1 else ""
    paper, top = 1.0 if beside_paper(runs) else None, _top(runs)
    if by_share_of_schedule(runs):
        paper = max(run.recipe["iterations"] for run in runs) / CIFAR.iterations
    if by_split:
        panels = [_panel(ordered, (split,), f"{SPLITS[split]} error", top, paper) for split in ("train", "test")]
    else:
        kinds = {kind: [run for run in ordered if _kind(run) == kind] for kind in dict.fromkeys(map(_kind, ordered))}
        panels = [_panel(group, ("train", "test"), f"{kind} networks", top, paper) for kind, group in kinds.items()]
    return Figure(f"{title}\n{subtitle}", tuple(panels), size=(4.1, 4.0), below=True)


def run_figure(run: FinishedRun) -> Figure:
    """All curves of one run, with a plot of its own for the loss where training has another metric than tests.

    The y axis ignores the first tenth.
    """
    title = f"{run.architecture.title} on {run.data}, recipe {run.recipe['name']}"
    splits = tuple(split for split in SPLITS if f"{split}_{run.metric.name}" in run.curve[-1])
    several = (splits,) if run.metric_on("train") == run.metric else (splits, ("train",))
    return Figure(title, tuple(_panel([run], each, "", _highest(run, each)) for each in several), share=False)


def _highest(run: FinishedRun, splits: Sequence[str]) -> float:
    """The top of the y axis of these splits."""
    values = [value for split in splits for value in run.at(split)[len(run.curve) // 10 :] if math.isfinite(value)]
    highest = max(values, default=0.0)
    in_percent = run.metric_on(splits[0]).unit == "%"
    return min(100.0, 10.0 * math.ceil(highest / 10 + 0.1)) if in_percent else 1.1 * highest


def _panel(
    runs: Sequence[FinishedRun], splits: tuple[str, ...], title: str, top: float, paper: float | None = None
) -> Panel:
    """One plot; the paper's curves beside it have their iterations multiplied by `paper`."""
    last = max(run.curve[-1]["step"] for run in runs)
    unit, name = (1e4, "iter. (1e4)") if last >= 1e4 else (1.0, "iteration")
    networks = {run.architecture: [r for r in runs if r.architecture == run.architecture] for run in runs}
    colours, lines = _colours(list(networks)), list[Line]()
    for architecture, group in networks.items():
        for split in splits:
            theirs = paper_curve(architecture.name, architecture.shortcut, split)
            if paper and theirs:
                x, y = zip(*theirs, strict=True)
                lines.append(Line(tuple(v * paper * 1e4 / unit for v in x), y, "", colours[architecture], "paper"))
            lines.append(_mean_curve(group, split, unit, colours[architecture]))
    legend = [(architecture.title, colour, "test") for architecture, colour in colours.items()]
    if len(splits) > 1:
        legend += [(SPLITS[split], GREY, SPLITS[split]) for split in splits]
    if paper:
        whole = "the paper's" if paper == 1 else f"the paper's, {CIFAR.iterations:,} iterations scaled to these"
        legend.append((whole, GREY, "paper"))
    metric = runs[0].metric_on(splits[0])
    label = in_words(metric, SPLITS["train"] if metric != runs[0].metric else "").replace(" %", " (%)")
    return Panel(title, name, label, tuple(lines), legend=tuple(legend), right=last / unit, top=top)


def _mean_curve(runs: Sequence[FinishedRun], split: str, unit: float, colour: str) -> Line:
    """The mean over seeds, with a band from the lowest to the highest."""
    errors = list(zip(*(run.at(split) for run in runs), strict=False))
    steps = tuple(point["step"] / unit for point in runs[0].curve)[: len(errors)]
    low, high = (tuple(map(f, errors)) if len(runs) > 1 else () for f in (min, max))
    means = tuple(sum(e) / len(e) for e in errors)
    return Line(steps, means, "", colour, SPLITS[split], low, high)


def _top(runs: Sequence[FinishedRun]) -> float:
    """The top of the y axis: the paper's 20 %, or enough to show the end of every curve."""
    last = [run.at(split)[-1] for run in runs for split in ("train", "test")]
    highest = max(filter(math.isfinite, last), default=0.0)
    if runs[0].metric.unit != "%":
        return MARGIN * highest
    return min(100.0, max(PAPER_TOP, 10.0 * math.ceil(MARGIN * highest / 10)))


def _kind(run: FinishedRun) -> str:
    return "residual" if run.architecture.is_residual else "plain"


def _order(run: FinishedRun) -> tuple[str, int, str, int]:
    return _kind(run), run.architecture.depth, run.architecture.shortcut, run.seed


def _colours(architectures: list[Architecture]) -> dict[Architecture, str]:
    """A colour per depth, as in the paper; further networks of one depth get other colours."""
    found: dict[Architecture, str] = {}
    for architecture in architectures:
        choices = (COLOURS.get(architecture.depth, GREY), *SPARE)
        found[architecture] = next((colour for colour in choices if colour not in found.values()), choices[-1])
    return found
