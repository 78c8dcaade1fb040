"""The form of a run's configuration. It is checked when it is read, from a run folder or from a record."""

from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from resnetlab.files import in_form
from resnetlab.networks.architecture import Architecture
from resnetlab.tasks.task import Metric
from resnetlab.training.recipe import Recipe


def _parts_of(kind: type, *needed: str) -> type[msgspec.Struct]:
    """The types of a dataclass's fields; all but `needed` may be missing, because earlier versions had fewer."""
    hints = get_type_hints(kind)
    some = [(name, hints[name]) for name in needed]
    return msgspec.defstruct(
        kind.__name__, [*some, *((name, hint, None) for name, hint in hints.items() if name not in needed)]
    )


class Data(msgspec.Struct):
    """The data set: its name and hash, and how its images are divided."""

    name: str
    fingerprint: str = ""
    split: str = ""
    classes: list[str] = []
    group_by: str | None = None
    fold: tuple[int, int] | None = None


class Task(msgspec.Struct):
    """The task and its metrics, the headline first."""

    name: str
    metrics: list[Metric]
    training: Metric | None = None
    options: dict[str, Any] | None = None


class Configuration(msgspec.Struct):
    """All of it."""

    data: Data
    network: _parts_of(Architecture, "name")  # type: ignore[valid-type]
    recipe: _parts_of(Recipe, "name", "iterations")  # type: ignore[valid-type]
    seed: int
    task: Task | None = None
    start: dict[str, Any] | None = None


def check_form(file: Path, config: Any) -> None:
    """
    Raises:
        ResnetlabError: a part is missing or has another type; names the file and the part.
    """
    in_form(config, Configuration, f"{file} is damaged")
