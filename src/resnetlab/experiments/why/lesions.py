"""Lesions: what happens to trained networks without some of their blocks (Veit, Wilber and Belongie, 2016)."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import mean, median

from resnetlab.analysis import block_deletion
from resnetlab.analysis.block_deletion import kendall_tau
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Inspection
from resnetlab.experiments.summary import mean_and_spread
from resnetlab.experiments.why.claims import (
    Claim,
    band,
    data_note,
    deepest,
    line,
    listed,
    measured,
    networks,
    of,
    pair,
    study_record,
    subtitle,
    title,
)
from resnetlab.report.record import Figure, Line, Panel, Record, Table
from resnetlab.runs.finished import FinishedRun

SOURCE = "Veit et al., 2016"
FEW = 3  # measurements or blocks from which nothing can be told
LITTLE = 5.0  # points of error that count as little harm
WHY_NOT = (
    "A block of a plain network that changes the shape cannot be deleted: nothing else maps its input to its output. "
    "In a residual network its shortcut remains. Only blocks that keep the shape are deleted at random or exchanged."
)
REESTIMATED = (
    "Re-estimated: batch-norm statistics of the network without the block, over "
    f"{block_deletion.STATISTICS_OVER} training images at most."
)
RULES = (
    f"Little harm: the median rise is below {LITTLE:g} points. Smoothly: the order of the errors is nearly that of "
    "the numbers of blocks (Kendall's tau above 0.8), and no step makes half of the rise. Short: less than 60 % of "
    "the layers."
)
SMOOTH = 0.8  # Kendall's tau of the error and the number of deleted blocks


def _rises(run: FinishedRun, key: str = "error", *, keeps_shape: bool | None = None) -> list[float]:
    """The rise of the error in points by each deletable block."""
    single = [block for block in measured(run)["single"] if block[key] is not None]
    chosen = [block for block in single if keeps_shape is None or block["keeps_shape"] == keeps_shape]
    return [block[key] - measured(run)["error"] for block in chosen]


def _record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored]) -> Record:
    tables, figures = [_single_table(runs), *_many_tables(runs)], [_figure(runs, experiment.title)]
    if paths := [run for run in runs if measured(run)["paths"]]:
        tables.append(_path_table(paths))
        figures.append(_path_figure(paths))
    return study_record(experiment, runs, _sentence(runs), tables, figures, _claims(runs), RULES)


def _sentence(runs: Sequence[FinishedRun]) -> str:
    told = listed(runs, lambda run: f"{median(_rises(run)):+.1f}" if _rises(run) else "-")
    return f"Deleting one block changes the test error, at the median over blocks, by these points: {told}."


def _single_table(runs: Sequence[FinishedRun]) -> Table:
    header = (
        "network",
        "error %",
        "deletable",
        "median rise",
        "largest rise",
        "at",
        "median rise, re-estimated",
        "cannot be deleted",
    )
    rows = []
    for run in runs:
        single, rises, reestimated = measured(run)["single"], _rises(run), _rises(run, "error_anew")
        possible = [block for block in single if block["error"] is not None]
        cells = [title(run), f"{measured(run)['error']:.1f}", f"{len(possible)} of {len(single)}"]
        if rises:
            worst = possible[rises.index(max(rises))]["block"]
            cells += [f"{median(rises):+.1f}", f"{max(rises):+.1f}", worst, f"{median(reestimated):+.1f}"]
        else:
            cells += ["-"] * 4
        rows.append((*cells, ", ".join(block["block"] for block in single if block["error"] is None) or "none"))
    note = f"Rises of the test error in points when one block is deleted. {WHY_NOT} {REESTIMATED} {data_note(runs)}"
    return Table(header, tuple(rows), note, "One block deleted")


def _many_tables(runs: Sequence[FinishedRun]) -> list[Table]:
    tables = []
    for key, what, values in (
        ("deleted", "Several blocks deleted at random", "errors"),
        ("deleted", "Several blocks deleted at random, statistics re-estimated", "errors_anew"),
        ("exchanged", "Pairs of blocks exchanged at random", "errors"),
    ):
        counts = sorted({entry["count"] for run in runs for entry in measured(run)[key]})
        rows = []
        for count in counts:
            cells = [f"{count}"]
            for run in runs:
                found = [entry[values] for entry in measured(run)[key] if entry["count"] == count]
                cells.append(mean_and_spread(found[0], 1) if found else "-")
            rows.append(tuple(cells))
        if rows:
            number = "pairs" if key == "exchanged" else "blocks"
            note = "Test error %, mean and standard deviation over random draws." + (
                " Exchanged are blocks of one stage that keep the shape." if key == "exchanged" else ""
            )
            tables.append(Table((number, *map(title, runs)), tuple(rows), note, what))
    return tables


def _figure(runs: Sequence[FinishedRun], name: str) -> Figure:
    single, many, exchanged = list[Line](), list[Line](), list[Line]()
    for run in runs:
        blocks = measured(run)["single"]
        at = [k for k, block in enumerate(blocks, 1) if block["error"] is not None]
        share = [k / len(blocks) for k in at]
        single.append(line(run, share, [blocks[k - 1]["error"] for k in at], points=True))
        for key, lines in (("deleted", many), ("exchanged", exchanged)):
            found = measured(run)[key]
            if found:
                x, y = [entry["count"] for entry in found], [entry["errors"] for entry in found]
                lines.append(band(run, x, y, ""))
    panels = [
        Panel(
            "one block deleted", "place of the block (0 first, 1 last)", "test error (%)", tuple(single), top=100.0
        ),
        Panel("blocks deleted at random", "blocks", "test error (%)", tuple(many), top=100.0),
    ]
    if exchanged:
        panels.append(Panel("pairs exchanged at random", "pairs", "test error (%)", tuple(exchanged), top=100.0))
    claim = "Claim: residual networks lose little with a block, plain networks all; errors rise smoothly"
    return Figure(
        f"{name}\n{claim}\n{subtitle(runs)}; bands: range over random draws",
        tuple(panels),
        size=(3.6, 3.9),
        below=True,
    )


def _path_figure(runs: Sequence[FinishedRun]) -> Figure:
    counted, norms, shares = list[Line](), list[Line](), list[Line]()
    for run in runs:
        found = measured(run)["paths"]
        x = [length * found["layers_per_block"] for length in found["lengths"]]
        counted.append(line(run, x, found["binomial"]))
        norms.append(line(run, x, found["norms"], ""))
        shares.append(line(run, x, found["share"], ""))
    length = "path length (layers)"
    panels = (
        Panel("paths of this length", length, "share of all paths", tuple(counted)),
        Panel("gradient along one path", length, "norm at the first block", tuple(norms), log=True),
        Panel("gradient along all paths of this length", length, "share of the gradient", tuple(shares)),
    )
    claim = "Claim: the gradient comes from paths much shorter than the network"
    return Figure(
        f"Gradients by path length\n{claim}\n{subtitle(runs)}", panels, share=False, size=(3.6, 3.7), below=True
    )


def _path_table(runs: Sequence[FinishedRun]) -> Table:
    header = ("network", "layers in blocks", "90 % of paths, layers", "90 % of the gradient, layers")
    rows = []
    for run in runs:
        found = measured(run)["paths"]
        cells = (title(run), f"{found['blocks'] * found['layers_per_block']}")
        rows.append(
            (*cells, f"{found['binomial_low']} to {found['binomial_high']}", f"{found['low']} to {found['high']}")
        )
    note = (
        "A path goes through some residual functions and past the others. Gradients of single images with respect to "
        "the first block's input, averaged over random paths of each length, running statistics."
    )
    return Table(header, tuple(rows), note, "Path lengths")


def _claims(runs: Sequence[FinishedRun]) -> list[Claim]:
    holds: bool | None
    found, residual, plain = list[Claim](), of(runs, residual=True), of(runs, residual=False)
    if residual:
        within = {id(run): _rises(run, keeps_shape=True) for run in residual}
        told = listed(
            residual, lambda run: f"median {median(within[id(run)]):+.1f}, largest {max(within[id(run)]):+.1f}"
        )
        holds = all(median(rises) < LITTLE for rises in within.values())
        text = f"deleting a residual block that keeps the shape does little harm (median below {LITTLE:g} points)"
        found.append(Claim(text, SOURCE, told, holds))
        changing = [(run, _rises(run, keeps_shape=False)) for run in residual]
        if all(rises for _, rises in changing):
            told = ", ".join(
                f"{title(run)} {mean(rises):+.1f} against {mean(within[id(run)]):+.1f}" for run, rises in changing
            )
            holds = all(mean(rises) > mean(within[id(run)]) for run, rises in changing)
            found.append(Claim("blocks that change the shape matter more", SOURCE, told, holds))
    if plain:
        told = listed(
            plain,
            lambda run: f"median {median(_rises(run)):+.1f}, re-estimated {median(_rises(run, 'error_anew')):+.1f}",
        )
        holds = all(median(_rises(run)) > LITTLE for run in plain)
        found.append(
            Claim(
                "deleting one layer of a plain network destroys it (theirs had no batch norm; these have)",
                SOURCE,
                told,
                holds,
            )
        )
    if (both := pair(runs)) is not None:
        ours, theirs = (median(_rises(run, "error_anew")) for run in both)
        told = f"{title(both[0])} {ours:+.1f}, {title(both[1])} {theirs:+.1f} with statistics re-estimated"
        found.append(
            Claim(
                "that is the shortcuts' doing, not stale batch statistics", "a control", told, ours > theirs + LITTLE
            )
        )
    run = deepest([run for run in residual if measured(run)["deleted"]])
    if run is not None:
        entries = measured(run)["deleted"]
        errors = [mean(entry["errors"]) for entry in entries]
        counts = ", ".join(f"{entry['count']}" for entry in entries)
        shown = ", ".join(f"{value:.0f}" for value in errors)
        told = f"{title(run)}: without {counts} blocks {shown} %"
        tau = kendall_tau([sorted(range(len(errors)), key=errors.__getitem__)])
        most = max((b - a for a, b in pairwise(errors)), default=0.0)
        smooth = tau > SMOOTH and most < (errors[-1] - errors[0]) / 2
        holds = smooth if len(errors) > FEW else None
        found.append(Claim("the error rises smoothly with the number of deleted blocks", SOURCE, told, holds))
    run = deepest([run for run in residual if measured(run)["paths"]])
    if run is not None:
        paths = measured(run)["paths"]
        depth = paths["blocks"] * paths["layers_per_block"]
        told = f"{title(run)}: 90 % of the gradient on paths of {paths['low']} to {paths['high']} of {depth} layers"
        short = paths["high"] < paths["binomial_high"] and paths["high"] < 0.6 * depth
        holds = short if paths["blocks"] > 2 * FEW else None
        found.append(Claim("effective paths are short: 10 to 34 layers in ResNet-110", SOURCE, told, holds))
    return found


EXPERIMENTS = (
    Experiment(
        "lesions",
        "Lesions: trained networks without some of their blocks",
        networks("plain56", "resnet56", "resnet110"),
        _record,
        inspection=Inspection(block_deletion.measure),
    ),
)
