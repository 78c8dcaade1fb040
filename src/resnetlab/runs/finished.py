"""Read finished runs from their folders or from a record: configuration, result, curves."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import Architecture, from_fields, parse
from resnetlab.runs.configuration import check_form
from resnetlab.runs.stored import CONFIG, METRICS, RESULT, Line, read_config, read_curve, read_result
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.tasks.task import Metric

T = TypeVar("T")


@dataclass(frozen=True)
class FinishedRun:
    """One finished run. `tested` is the result of a test protocol, `measured` that of a study, if any.

    A point of the curve that was lost and measured again has no metric of training: it is NaN.
    """

    config: Line
    curve: tuple[Line, ...]
    result: Line
    tested: Line | None = None
    measured: Line | None = None

    @property
    def architecture(self) -> Architecture:
        """The trained network with its options, outputs and channels."""
        said = self.config["network"]
        return from_fields({**vars(parse(said["name"])), **said})

    @property
    def metric(self) -> Metric:
        """The headline metric of its task."""
        said = self.config.get("task")
        return CLASSIFICATION.headline if said is None else Metric(**said["metrics"][0])

    def metric_on(self, split: str) -> Metric:
        """The metric that is shown of a split: the headline, or what its training tallies."""
        said = self.config.get("task", {}).get("training") if split == "train" else None
        return self.metric if said is None else Metric(**said)

    @property
    def seed(self) -> int:
        """The seed of initialisation, order and augmentation."""
        return int(self.config["seed"])

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.config["data"]["name"])

    @property
    def recipe(self) -> Line:
        """The recipe's fields."""
        return dict(self.config["recipe"])

    def final(self, split: str) -> float:
        """The metric of the saved network on the training, validation or test split; see `metric_on`."""
        key = f"{split}_{self.metric_on(split).name}"
        return float(self.result.get(key, math.nan) if split == "train" else self.result[key])

    def at(self, split: str) -> tuple[float, ...]:
        """The metric at each point of the curve; see `metric_on`."""
        key = f"{split}_{self.metric_on(split).name}"
        return tuple(point.get(key, math.nan) if split == "train" else point[key] for point in self.curve)

    def to_json(self) -> Line:
        """The run as it is stored in a record."""
        said = {"network": self.config["network"]["name"], "seed": self.config.get("seed", 0)}
        said |= {"config": self.config, "result": self.result, "curve": list(self.curve)}
        optional = {"tested": self.tested, "measured": self.measured}
        return said | {key: value for key, value in optional.items() if value is not None}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "FinishedRun":
        """Read a run from a record."""
        config, optional = {"seed": said["seed"], **said["config"]}, (said.get("tested"), said.get("measured"))
        return cls(config, tuple(said["curve"]), said["result"], *optional)


def finished_runs(folders: Iterable[Path]) -> dict[Path, FinishedRun]:
    """The finished runs among these folders.

    Raises:
        ResnetlabError: a file of one is damaged.
    """
    return {
        folder: _checked(FinishedRun(read_config(folder), tuple(read_curve(folder)), result), folder)
        for folder in folders
        if (result := read_result(folder)) is not None
    }


def checked_configuration(run: FinishedRun, folder: Path) -> FinishedRun:
    """A run whose configuration has what is read of it.

    Raises:
        ResnetlabError: names the file.
    """
    _check(folder / CONFIG, lambda: _configuration(run))
    return run


def _checked(run: FinishedRun, folder: Path) -> FinishedRun:
    """A run whose parts are what they should be.

    Raises:
        ResnetlabError: names the file.
    """
    checked_configuration(run, folder)
    _check(folder / RESULT, lambda: _numbers(run))
    _check(folder / METRICS, lambda: _curves(run))
    return run


def checked_run(said: Mapping[str, Any], record: Path) -> FinishedRun:
    """A run of a record, if its parts are what they should be.

    Raises:
        ResnetlabError: names the record's file.
    """

    def read() -> FinishedRun:
        run = FinishedRun.from_json(said)
        check_form(record, run.config)
        _configuration(run)
        _numbers(run)
        _curves(run)
        return run

    return _check(record, read)


def _configuration(run: FinishedRun) -> object:
    return run.architecture, run.metric, run.seed, run.data, dict(run.recipe)


def _splits(run: FinishedRun) -> set[str]:
    return {name.partition("_")[0] for name in run.result} & {"train", "validation", "test"} | {"test"}


def _numbers(run: FinishedRun) -> object:
    return [run.final(split) for split in _splits(run)], run.result.get("environment", {}).get("cpu")


def _curves(run: FinishedRun) -> object:
    return int(run.curve[-1]["step"]), [run.at(split) for split in _splits(run)]


def _check(file: Path, read: Callable[[], T]) -> T:
    """What `read` gives.

    Raises:
        ResnetlabError: what is to be read is not there, or of another form.
    """
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ResnetlabError(f"{file} is damaged: {error!r}") from None
