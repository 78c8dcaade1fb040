"""Why depth overfits so little: errors over depth, number of images and label noise, and the capacity in use."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from resnetlab.analysis import capacity
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.depth import SHORT, SMALL
from resnetlab.experiments.experiment import Experiment, Inspection
from resnetlab.experiments.summary import trained
from resnetlab.experiments.why.claims import (
    Claim,
    colour,
    measured,
    name,
    study_record,
    style,
    subtitle,
)
from resnetlab.networks.architecture import Architecture
from resnetlab.report.record import Figure, Line, Panel, Record, Table
from resnetlab.runs.finished import FinishedRun

NETWORKS = ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110")
VARIANTS: tuple[Mapping[str, Any], ...] = (
    {},
    {"images": 648},
    {"images": 324},
    {"images": 162},
    {"label_noise": 0.2},
    {"label_noise": 0.5},
)
USUAL = "the usual view of capacity"
Group = list[FinishedRun]
"""Runs of one network under one variant, by seed."""


def _images(run: FinishedRun) -> int:
    return int(run.recipe.get("images", 0))


def _noise(run: FinishedRun) -> float:
    return float(run.recipe.get("label_noise", 0.0))


def _groups(runs: Sequence[FinishedRun]) -> dict[tuple[Architecture, int, float], Group]:
    found: dict[tuple[Architecture, int, float], Group] = {}
    for run in sorted(
        runs, key=lambda run: (run.architecture.depth, -(_images(run) or 10**9), _noise(run), run.seed)
    ):
        found.setdefault((run.architecture, _images(run), _noise(run)), []).append(run)
    return found


def _error(group: Group, split: str) -> float:
    return mean(run.final(split) for run in group)


def _spread(group: Group, split: str) -> str:
    values = [run.final(split) for run in group]
    return f"{mean(values):.2f}" + (f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else "")


def _record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    figures = [_capacity_figure(runs)]
    if len(_groups(runs)) > 1:
        figures.insert(0, _figure(runs, experiment.title))
    tables, note = (
        (_table(runs), _capacity_table(runs)),
        "Worse: by more than one point of test error; memorises more: by more than one point of training error.",
    )
    return study_record(experiment, runs, _sentence(runs), tables, figures, _claims(runs), note)


def _table(runs: Sequence[FinishedRun]) -> Table:
    rows = []
    for (row, images, noise), group in _groups(runs).items():
        cells = (name(row), f"{images:,}" if images else "all", f"{100 * noise:.0f} %")
        rows.append((*cells, _spread(group, "train"), _spread(group, "test"), f"{len(group)}"))
    note = (
        "Label noise: the share of training labels replaced by another class; training errors are against the labels "
        f"as trained. {trained(runs)}"
    )
    return Table(
        ("network", "training images", "label noise", "training error %", "test error %", "runs"),
        tuple(rows),
        note,
        "Errors",
    )


def _plain(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """One run per network on all images, without noise."""
    found = {key[0]: group[0] for key, group in _groups(runs).items() if not key[1] and not key[2]}
    return list(found.values())


def _capacity_table(runs: Sequence[FinishedRun]) -> Table:
    rows = []
    for (row, images, noise), group in _groups(runs).items():
        found = measured(group[0])["blocks"]
        kept = [block for block in found if block["distance"] is not None]
        cells = (name(row), f"{images:,}" if images else "all", f"{100 * noise:.0f} %")
        ranks = (f"{mean(block[key] for block in found):.1f}" for key in ("rank_in", "rank_function"))
        distance = f"{mean(block['distance'] for block in kept):.3f}"
        rows.append(
            (
                *cells,
                *ranks,
                f"{found[-1]['rank_in']:.1f}",
                distance,
                f"{sum(block['distance'] for block in kept):.1f}",
            )
        )
    header = (
        "network",
        "training images",
        "label noise",
        "rank of x",
        "rank of F(x)",
        "rank, last block",
        "distance from the identity",
        "sum of distances",
    )
    note = (
        f"On {measured(runs[0])['images']} test images, first seed. Effective rank: exponential of the entropy of "
        "the normalised singular values of features averaged over positions, mean over blocks. Distance: norm of a "
        "block's output minus its input over that of its input, mean over the blocks that keep the shape."
    )
    return Table(header, tuple(rows), note, "Capacity in use")


def _figure(runs: Sequence[FinishedRun], heading: str) -> Figure:
    groups = _groups(runs)
    networks = list(dict.fromkeys(key[0] for key in groups))
    depth_lines = list[Line]()
    for residual in (False, True):
        clean = [groups[key] for key in groups if not any(key[1:]) and key[0].is_residual == residual]
        depths = tuple(float(group[0].architecture.depth) for group in clean)
        for split, kind in (("test", "residual points"), ("train", "plain points")) if clean else ():
            shade = "#222222" if residual else "#888888"
            depth_lines.append(Line(depths, tuple(_error(group, split) for group in clean), "", shade, kind))
    sizes, noises = list[Line](), list[Line]()
    for row in networks:
        fewer = {float(measured(g[0])["trained_on"]): g for key, g in groups.items() if key[0] == row and not key[2]}
        noisy = {100 * key[2]: g for key, g in groups.items() if key[0] == row and not key[1]}
        for found, lines in ((fewer, sizes), (noisy, noises)):
            x = tuple(sorted(found))
            for split, kind in (("test", "residual points"), ("train", "plain points")):
                label = name(row) if split == "test" and lines is sizes else ""
                lines.append(Line(x, tuple(_error(found[at], split) for at in x), label, colour(row), kind))
    legend = (("test", "#888888", "residual points"), ("training", "#888888", "plain points"))
    panels = (
        Panel("over depth", "layers", "error (%)", tuple(depth_lines), legend=legend),
        Panel("over training images", "training images", "error (%)", tuple(sizes)),
        Panel("over label noise", "replaced labels (%)", "error (%)", tuple(noises)),
    )
    claim = "Open question: why do networks of many layers overfit a small data set so little?"
    return Figure(f"{heading}\n{claim}\n{subtitle(runs)}", panels, share=False, size=(3.6, 3.8), below=True)


def _capacity_figure(runs: Sequence[FinishedRun]) -> Figure:
    chosen = _plain(runs) or runs
    panels = []
    for key, what in (
        ("distance", "distance of a block from the identity"),
        ("rank_function", "effective rank of F(x)"),
        ("rank_in", "effective rank of x"),
    ):
        lines = list[Line]()
        for run in chosen:
            found = measured(run)["blocks"]
            known = [(k / len(found), block[key]) for k, block in enumerate(found, 1) if block[key] is not None]
            x, y = zip(*known, strict=True)
            label = name(run.architecture) if key == "distance" else ""
            lines.append(Line(tuple(x), tuple(y), label, colour(run.architecture), style(run.architecture)))
        panels.append(
            Panel(what, "share of the blocks", "relative norm" if key == "distance" else "rank", tuple(lines))
        )
    claim = "Claim: in deeper networks each block does less, so the function grows little with depth"
    return Figure(
        f"Capacity in use\n{claim}\n{subtitle(runs)}", tuple(panels), share=False, size=(3.6, 3.8), below=True
    )


def _sentence(runs: Sequence[FinishedRun]) -> str:
    groups = _groups(runs)
    told = [
        f"{name(row)} training {_error(group, 'train'):.2f} %, test {_error(group, 'test'):.2f} %"
        for (row, images, noise), group in groups.items()
        if not images and not noise
    ]
    return f"On all images without noise: {'; '.join(told)}." if told else ""


def _compared(
    groups: Mapping[tuple[Architecture, int, float], Group],
    shallow: Architecture,
    deep: Architecture,
    text: str,
    source: str,
    *,
    images: int = 0,
    noise: float = 0.0,
) -> list[Claim]:
    """The claim that the deeper network has the higher test error under a variant; none if one of them is missing."""
    pair = [groups[row, images, noise] for row in (shallow, deep) if (row, images, noise) in groups]
    if len(pair) < 2:
        return []
    a, b = (_error(group, "test") for group in pair)
    return [Claim(text, source, f"test error: {name(shallow)} {a:.2f} %, {name(deep)} {b:.2f} %", b > a + 1)]


def _claims(runs: Sequence[FinishedRun]) -> list[Claim]:
    groups, claims = _groups(runs), list[Claim]()
    networks = [row for row in dict.fromkeys(key[0] for key in groups) if row.is_residual]
    if len({row.depth for row in networks}) < 2:
        return claims
    shallow, deep = networks[0], networks[-1]
    few = min((images for _, images, _ in groups if images), default=0)
    noisy = max(noise for _, _, noise in groups)
    wrong = f"{100 * noisy:.0f} % wrong labels"
    title = "the deepest network overfits: its test error is higher"
    claims += _compared(groups, shallow, deep, title, "He et al., 2015, Section 4.2, of 1202 layers")
    if few:
        title = f"with only {few} images the deeper network is worse"
        claims += _compared(groups, shallow, deep, title, USUAL, images=few)
    if noisy:
        title = f"with {wrong} the deeper network is worse"
        claims += _compared(groups, shallow, deep, title, USUAL, noise=noisy)
        pair = [groups[row, 0, noisy] for row in (shallow, deep) if (row, 0, noisy) in groups]
        if len(pair) == 2:
            a, b = (_error(group, "train") for group in pair)
            told = f"training error with {wrong}: {name(shallow)} {a:.1f} %, {name(deep)} {b:.1f} %"
            title = "the deeper network memorises more wrong labels"
            claims.append(Claim(title, "Zhang et al., 2017", told, b < a - 1))
    ends = [run for run in _plain(runs) if run.architecture in (shallow, deep)]
    if len(ends) == 2:
        means = [
            mean(block["distance"] for block in measured(run)["blocks"] if block["distance"] is not None)
            for run in ends
        ]
        told = ", ".join(f"{name(run.architecture)} {value:.3f}" for run, value in zip(ends, means, strict=True))
        claims.append(
            Claim(
                "each block of the deeper network is closer to the identity",
                "He et al., 2015, Section 4.2",
                told,
                means[1] < means[0],
            )
        )
    return claims


EXPERIMENTS = (
    Experiment(
        "overfit",
        "Why depth overfits so little",
        {
            "digits": replace(SMALL.of(*NETWORKS), variants=VARIANTS),
            "short": replace(SHORT.of(*NETWORKS[:2]), variants=({}, {"images": 5000}, {"label_noise": 0.2})),
        },
        _record,
        inspection=Inspection(capacity.measure),
        planned=True,
    ),
)
