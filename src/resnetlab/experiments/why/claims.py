"""Shared by the studies: scales, claims held against measurements, colours and styles of networks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from resnetlab.experiments.depth import SHORT, SMALL
from resnetlab.experiments.experiment import Experiment, Scale
from resnetlab.experiments.learning_curves import COLOURS, SPARE
from resnetlab.experiments.summary import trained
from resnetlab.networks.architecture import Architecture
from resnetlab.report.record import Figure, Line, Record, Table
from resnetlab.runs.finished import FinishedRun

GUESSING = 0.75  # of the error of guessing
HOLDS, NOT, OPEN = "holds", "does not hold", "cannot be told from these runs"


@dataclass(frozen=True)
class Claim:
    """A claim of a paper and what is measured here; `holds` is None if these runs cannot tell."""

    text: str
    source: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """Whether it holds, in words."""
        return {True: HOLDS, False: NOT, None: OPEN}[self.holds]


def claim_tables(claims: Iterable[Claim], note: str) -> tuple[Table, ...]:
    """A table with one row per claim; none without claims, e.g. where the networks to compare are missing."""
    rows = tuple((claim.text, claim.source, claim.measured, claim.verdict) for claim in claims)
    header = ("claim", "by", "measured here", "verdict")
    return (Table(header, rows, note, "Claims and measurements"),) if rows else ()


def study_record(
    experiment: Experiment,
    runs: Sequence[FinishedRun],
    sentence: str,
    tables: Sequence[Table],
    figures: Sequence[Figure],
    claims: Sequence[Claim] = (),
    note: str = "",
) -> Record:
    """The record of a study: its tables, and last the table of claims with its note."""
    if untrained := [run for run in runs if near_guessing(run)]:
        claims = [replace(claim, holds=None) for claim in claims]
        few = f"{', '.join(map(title, untrained))} hardly learned anything, so no claim is judged; train longer."
        sentence = f"{sentence} {few}"
    sentences = tuple(filter(None, (sentence, summary_sentence(claims))))
    made_from = tuple(run.to_json() for run in runs)
    tables = (*tables, *claim_tables(claims, note))
    return Record(experiment.name, experiment.title, sentences, tables, tuple(figures), made_from)


def summary_sentence(claims: Sequence[Claim]) -> str:
    """How many of the claims hold here."""
    told = [claim for claim in claims if claim.holds is not None]
    count = sum(bool(claim.holds) for claim in told)
    return f"{count} of {len(told)} claims hold on these networks." if told else ""


def networks(*names: str) -> Mapping[str, Scale]:
    """The scales of a study of these CIFAR networks, e.g. `plain20`."""
    chosen = tuple(f"cifar_{name}" for name in names)
    few = tuple(name for name in chosen if not name.endswith("110"))
    return {"digits": SMALL.of(*chosen), "short": SHORT.of(*few)}


def style(architecture: Architecture, *, points: bool = False) -> str:
    """Plain networks are dashed, residual ones solid."""
    kind = "residual" if architecture.is_residual else "plain"
    return f"{kind} points" if points else kind


def colour(architecture: Architecture) -> str:
    """One colour per depth in every figure."""
    return COLOURS.get(architecture.depth, SPARE[architecture.depth // 6 % len(SPARE)])


def line(
    run: FinishedRun, x: Sequence[int | float], y: Sequence[float], label: str | None = None, *, points: bool = False
) -> Line:
    """A line in the colour and style of a run's network."""
    row = run.architecture
    return Line(
        tuple(map(float, x)), tuple(y), title(run) if label is None else label, colour(row), style(row, points=points)
    )


def band(
    run: FinishedRun, x: Sequence[int | float], values: Sequence[Sequence[float]], label: str | None = None
) -> Line:
    """The mean at each place, with a band from the lowest to the highest value."""
    drawn = line(run, x, [mean(several) for several in values], label)
    return replace(drawn, low=tuple(map(min, values)), high=tuple(map(max, values)))


def numbers(count: int) -> tuple[float, ...]:
    """1, 2, ..., count: places on an axis."""
    return tuple(float(k) for k in range(1, count + 1))


def name(architecture: Architecture) -> str:
    """The network's title, with its width if it is not the paper's."""
    return architecture.title + (f" of 1/{architecture.narrow} width" if architecture.narrow > 1 else "")


def title(run: FinishedRun) -> str:
    """The network's name, with the seed if it is not 0."""
    return name(run.architecture) + (f", seed {run.seed}" if run.seed else "")


def near_guessing(run: FinishedRun) -> bool:
    """Whether a network hardly learned anything, so that what is seen in it says nothing about trained networks."""
    classes = max(2, len(run.config["data"].get("classes", ())))
    return run.final("test") > GUESSING * 100 * (1 - 1 / classes)


def measured(run: FinishedRun) -> Mapping[str, Any]:
    """What was measured on a run's network."""
    assert run.measured is not None  # noqa: S101 -- an inspection came before
    return run.measured


def data_note(runs: Sequence[FinishedRun], split: str = "test") -> str:
    """Data, number of images and training of the networks."""
    return f"Data: {runs[0].data}, {measured(runs[0])['images']:,} {split} images. {trained(runs)}"


def subtitle(runs: Sequence[FinishedRun]) -> str:
    """The data set and the length of the training."""
    return f"{runs[0].data}, {runs[0].recipe['iterations']:,} iterations"


def of(runs: Sequence[FinishedRun], *, residual: bool) -> list[FinishedRun]:
    """The residual or the plain networks among the runs, shallow before deep."""
    chosen = [run for run in runs if run.architecture.is_residual == residual]
    return sorted(chosen, key=lambda run: (run.architecture.depth, run.seed))


def deepest(runs: Sequence[FinishedRun]) -> FinishedRun | None:
    """The deepest network, the first seed of it."""
    return max(runs, key=lambda run: (run.architecture.depth, -run.seed), default=None)


def pair(runs: Sequence[FinishedRun]) -> tuple[FinishedRun, FinishedRun] | None:
    """The deepest plain network and the residual one of the same depth."""
    for plain in reversed(of(runs, residual=False)):
        for residual in of(runs, residual=True):
            if residual.architecture.depth == plain.architecture.depth:
                return plain, residual
    return None


def listed(runs: Sequence[FinishedRun], tell: Callable[[FinishedRun], str]) -> str:
    """`ResNet-20 1.2, ResNet-56 0.8`."""
    return ", ".join(f"{title(run)} {tell(run)}" for run in runs)
