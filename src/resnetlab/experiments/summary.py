"""Summaries of runs over seeds, and descriptions of their training and testing."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from resnetlab.data.class_names import CIFAR10, imagenet
from resnetlab.networks.architecture import Architecture
from resnetlab.networks.measure import parameter_count
from resnetlab.runs.finished import FinishedRun
from resnetlab.tasks.named import task_of_run
from resnetlab.tasks.task import Metric
from resnetlab.training.named_recipes import CIFAR, PAPER_IMAGENET, RECIPES
from resnetlab.training.resolve import has_effect

END_OF_FIGURE_4 = 550_000  # iterations; the text says up to 600,000


@dataclass(frozen=True)
class Summary:
    """One network over its seeds: the headline metric in training and in tests."""

    architecture: Architecture
    seeds: tuple[int, ...]
    train: tuple[float, ...]
    test: tuple[float, ...]
    count: int = 0
    """Number of parameters."""

    @property
    def residual(self) -> bool:
        """Whether the network has shortcuts."""
        return self.architecture.is_residual

    @property
    def parameters(self) -> str:
        """Number of parameters in millions."""
        return f"{self.count / 1e6:.2f}M"


def by_network(runs: Iterable[FinishedRun]) -> list[Summary]:
    """One summary per network and option, plain before residual, shallow before deep; see `tested_error`."""
    groups: dict[Architecture, list[FinishedRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        groups.setdefault(run.architecture, []).append(run)
    summaries = [
        Summary(
            architecture,
            tuple(run.seed for run in group),
            tuple(run.final("train") for run in group),
            tuple(tested_error(run) for run in group),
            parameters_of(group[0]),
        )
        for architecture, group in groups.items()
    ]
    return sorted(summaries, key=lambda s: (s.residual, s.architecture.depth, s.architecture.title))


def parameters_of(run: FinishedRun) -> int:
    """The number of parameters of the trained network, or detector."""
    import torch

    with torch.device("meta"):
        return parameter_count(task_of_run(run.config).network(run.architecture, 0))


def tested_error(run: FinishedRun) -> float:
    """The test metric under the run's test protocol, if any, otherwise of its saved network."""
    return run.final("test") if run.tested is None else float(run.tested["top1_error"])


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """`8.75`, or over several runs `6.61 ± 0.16`: the mean and the standard deviation of one run (n-1)."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def in_words(metric: Metric, split: str = "") -> str:
    """The title of a column, e.g. `test error %`."""
    return " ".join(filter(None, (split, metric.name, metric.unit)))


def is_the_papers(run: FinishedRun) -> bool:
    """Whether a run has the paper's data (ImageNet), length and width."""
    classes, lengths = run.config["data"].get("classes", ()), (PAPER_IMAGENET.iterations, END_OF_FIGURE_4)
    wide = run.architecture.narrow == 1
    return tuple(classes) == tuple(imagenet()) and run.recipe["iterations"] in lengths and wide


def beside_paper(runs: Sequence[FinishedRun]) -> bool:
    """Whether these runs have the paper's data and length, so that its numbers and curves are comparable."""
    on_cifar = all(run.data == "cifar10" and run.recipe["iterations"] == CIFAR.iterations for run in runs)
    return on_cifar or all(map(is_the_papers, runs))


def by_share_of_schedule(runs: Sequence[FinishedRun]) -> bool:
    """Whether these runs are the paper's CIFAR-10 experiment by a shorter schedule of the same proportions.

    Their curves can be drawn beside the paper's by the share of the schedule; their numbers cannot be compared.
    """
    return not beside_paper(runs) and all(
        set(run.config["data"].get("classes", ())) == set(CIFAR10)
        and [drop / run.recipe["iterations"] for drop in run.recipe.get("drops", ())]
        == [drop / CIFAR.iterations for drop in CIFAR.drops]
        for run in runs
    )


def protocol(runs: Sequence[FinishedRun]) -> str:
    """The protocol of the numbers: data, split, views, seeds, iteration, hardware."""
    first = runs[0]
    data = first.config["data"]
    return (
        f"Data: {data['name']}, {data['split']} ({first.result['test_images']:,} test images). "
        f"Test: {first.result['protocol']}. {trained(runs)}"
    )


def trained(runs: Sequence[FinishedRun]) -> str:
    """How and on which hardware the networks were trained, and what the training metric is."""
    first = runs[0]
    recipe, metric = first.recipe, first.metric_on("train").name
    seeds = sorted({run.seed for run in runs})
    machines = sorted({_machine(run.result["environment"]) for run in runs})
    last = [0, 0, *(point["step"] for point in first.curve)][-2:]
    return (
        f"Training {metric}: augmented batches of the last {last[1] - last[0]:,} iterations. "
        f"Recipe: {_recipe(recipe)}, {recipe['iterations']:,} iterations of "
        f"{recipe['batch_size']} images, {recipe['precision']}. "
        f"{'Seed' if len(seeds) == 1 else 'Seeds'}: {', '.join(map(str, seeds))}. Trained on: {', '.join(machines)}."
    )


def _machine(environment: dict[str, Any]) -> str:
    processes = environment.get("processes", 1)
    return str(environment["device"]) + (f" in {processes} processes" if processes > 1 else "")


def _recipe(fields: dict[str, Any]) -> str:
    """The recipe's name and its changed fields."""
    name: str = fields["name"]
    if name not in RECIPES:  # of another version
        return name
    named = json.loads(json.dumps(asdict(RECIPES[name].scaled(fields["iterations"]))))
    changed = [
        f"{field} {value}"
        for field, value in fields.items()
        if field in named and value != named[field] and field != "report_every" and has_effect(field, fields)
    ]
    return name + (f" with {', '.join(changed)}" if changed else "")
