"""What run folders hold, read for tables and figures: networks, seeds, curves, results."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from resnetlab.experiments.cell import curve
from resnetlab.networks.resnet import Architecture, architecture
from resnetlab.training.run import read_config, read_result


@dataclass(frozen=True)
class Record:
    """One finished run."""

    network: str
    seed: int
    data: str
    config: dict[str, Any]
    curve: list[dict[str, Any]]
    result: dict[str, Any]

    @property
    def row(self) -> Architecture:
        """The network that was trained, with its options."""
        said = {**asdict(architecture(self.network)), **self.config["network"]}
        return Architecture(**{**said, "blocks": tuple(said["blocks"])})


@dataclass(frozen=True)
class Summary:
    """One network over its seeds: errors in percent, of the last iteration."""

    row: Architecture
    train_errors: tuple[float, ...]
    test_errors: tuple[float, ...]

    @property
    def network(self) -> str:
        """Its name."""
        return self.row.name

    @property
    def residual(self) -> bool:
        """Whether the network has shortcuts."""
        return self.row.shortcut != "none"


def finished(folders: Iterable[Path]) -> list[Record]:
    """The records of those run folders that hold a result."""
    records = []
    for folder in folders:
        if (result := read_result(folder)) is not None:
            config = read_config(folder)
            name, data = config["network"]["name"], config["data"]["name"]
            records.append(Record(name, config["seed"], data, config, curve(folder), result))
    return records


def by_network(records: Iterable[Record]) -> list[Summary]:
    """One summary a network and option, plain ones first, shallow before deep."""
    groups: dict[Architecture, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        groups.setdefault(record.row, []).append(record)
    summaries = [
        Summary(
            row,
            tuple(record.result["train_error"] for record in group),
            tuple(record.result["test_error"] for record in group),
        )
        for row, group in groups.items()
    ]
    return sorted(summaries, key=lambda summary: (summary.residual, summary.row.depth, summary.row.title))


def mean_and_spread(values: tuple[float, ...], digits: int = 2) -> str:
    """`8.75`, or over several runs `6.61 ± 0.16`: the mean and the standard deviation of one run (n-1)."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
