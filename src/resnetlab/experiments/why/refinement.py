"""Refinement: what each block adds to the answer, beside boosted trees, which fit residuals stage by stage."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import mean

from resnetlab.analysis import read_outs
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Inspection
from resnetlab.experiments.why.claims import (
    Claim,
    data_note,
    deepest,
    line,
    listed,
    measured,
    networks,
    of,
    study_record,
    subtitle,
    title,
)
from resnetlab.report.record import Figure, Line, Panel, Record, Table
from resnetlab.runs.finished import FinishedRun

NOTE = (
    "Read-out: the network's own classifier after each block, past the remaining residual functions. Probe: a "
    "logistic regression on the block's output, averaged over positions, fitted on training images. Boosted trees: "
    "scikit-learn's HistGradientBoostingClassifier on the pixels of the same training images, one stage per block."
)
LATE = 2 / 3
RULES = (
    "Positive: on average over all blocks and over the last third. Refine: in the last third no block adds more than "
    "two points of error. Better: after at least two thirds of the blocks the error is at most half a point higher."
)


def _record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    figures = (_figure(runs, experiment.title),)
    return study_record(experiment, runs, _sentence(runs), (_table(runs),), figures, _claims(runs), RULES)


def _places(run: FinishedRun) -> list[float]:
    n = len(measured(run)["blocks"])
    return [k / n for k in range(n + 1)]


def _table(runs: Sequence[FinishedRun]) -> Table:
    header = ("network", "after", "read-out, error %", "probe, error %", "boosted trees, error %")
    rows = []
    for run in runs:
        found = measured(run)
        n = len(found["blocks"])
        for k in sorted({0, *(round(n * j / 6) for j in range(1, 7))}):
            after = found["blocks"][k - 1] if k else "first layer"
            read_out = f"{found['read_out'][k]:.1f}" if found["read_out"] else "-"
            trees = f"{found['boosted'][k - 1]:.1f}" if k else "-"
            rows.append((title(run), after, read_out, f"{found['probes'][k]:.1f}", trees))
    trained_on = f"Probes and trees: {measured(runs[0])['train_images']:,} training images."
    return Table(header, tuple(rows), f"{NOTE} {trained_on} {data_note(runs)}", "Error block by block")


def _figure(runs: Sequence[FinishedRun], name: str) -> Figure:
    read_out, probes, cosines = list[Line](), list[Line](), list[Line]()
    for run in runs:
        found, x = measured(run), _places(run)
        probes.append(line(run, x, found["probes"]))
        if found["read_out"]:
            read_out.append(line(run, x, found["read_out"]))
            known = [(x[k + 1], c) for k, c in enumerate(found["cosines"]) if c is not None]
            cosines.append(line(run, [a for a, _ in known], [b for _, b in known], "", points=True))
    deep = deepest(runs)
    assert deep is not None  # noqa: S101 -- a record is of one run at least
    trees = measured(deep)["boosted"]
    boosted = Line(
        tuple((k + 1) / len(trees) for k in range(len(trees))),
        tuple(trees),
        "boosted trees on pixels",
        "#2ca02c",
        "dotted",
    )
    place, error = "share of the blocks", "test error (%)"
    panels = [Panel("linear probe after each block", place, error, (*probes, boosted), top=100.0)]
    if read_out:
        panels.insert(0, Panel("own classifier after each block", place, error, (*read_out, boosted), top=100.0))
        low = min(0.0, *(value for one in cosines for value in one.y))
        panels.append(Panel("update against descent direction", place, "cosine", tuple(cosines), bottom=1.2 * low))
    claim = "Claim: residual blocks refine one answer step by step, as boosting fits residuals"
    return Figure(f"{name}\n{claim}\n{subtitle(runs)}", tuple(panels), share=False, size=(3.6, 3.8), below=True)


def _sentence(runs: Sequence[FinishedRun]) -> str:
    half = listed(runs, lambda run: f"{measured(run)['probes'][len(measured(run)['blocks']) // 2]:.1f}")
    return f"Error in % of a linear probe after half of the blocks: {half}."


def _claims(runs: Sequence[FinishedRun]) -> list[Claim]:
    found, residual = list[Claim](), of(runs, residual=True)
    if residual:
        words, holds = list[str](), list[bool]()
        for run in residual:
            cosines = [c for c in measured(run)["cosines"] if c is not None]
            late = cosines[int(LATE * len(cosines)) :]
            words.append(
                f"{title(run)} {mean(cosines):+.3f}, last third {mean(late):+.3f}; positive in "
                f"{sum(c > 0 for c in cosines)} of {len(cosines)} blocks"
            )
            holds.append(mean(cosines) > 0 and mean(late) > 0)
        text = "updates point down the loss: positive cosine with the negative gradient"
        found.append(Claim(text, "Jastrzębski et al., 2018", "; ".join(words), all(holds)))
        words, holds = [], []
        for run in residual:
            errors = measured(run)["read_out"]
            rest = errors[int(LATE * len(errors)) :]
            words.append(
                f"{title(run)}: {errors[0]:.0f} % after the first layer, {rest[0]:.0f} % after two thirds, "
                f"{errors[-1]:.1f} % at the end"
            )
            holds.append(all(b <= a + 2 for a, b in pairwise(rest)) and rest[0] < errors[0] - 10)
        text = "the last blocks refine: the own classifier gets better block by block"
        found.append(Claim(text, "Jastrzębski et al., 2018", "; ".join(words), all(holds)))
    for chosen, kind in ((of(runs, residual=False), "plain"), (residual, "residual")):
        shares = [_improving(run) for run in chosen]
        if shares:
            told = ", ".join(f"{title(run)} {100 * share:.0f} %" for run, share in zip(chosen, shares, strict=True))
            text = f"in a {kind} network a linear probe reads the class better block by block (share of blocks)"
            found.append(Claim(text, "Alain and Bengio, 2016", told, min(shares) > LATE))
    return found


def _improving(run: FinishedRun) -> float:
    """The share of blocks after which the probe is no more than half a point worse than before."""
    return float(mean(b <= a + 0.5 for a, b in pairwise(measured(run)["probes"])))


EXPERIMENTS = (
    Experiment(
        "refinement",
        "Refinement: what each block adds to the answer",
        networks("plain56", "resnet20", "resnet56"),
        _record,
        inspection=Inspection(read_outs.measure),
    ),
)
