"""Tasks by name, with their options from the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnetlab.choices import TaskName
from resnetlab.detection.options import PRESETS, DetectorOptions, from_json, parse_options
from resnetlab.errors import ResnetlabError
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.tasks.task import Task

DETECTION = "detection"
USUAL_PRESET = {"detection-voc": "paper", "detection-coco": "coco", "digit-scenes": "few-objects"}
"""The detector's preset by recipe; otherwise `small`."""


def task_named(name: TaskName, assignments: Sequence[str] = (), recipe: str = "") -> Task:
    """A task; `assignments` are its own options, as texts `option=value`, and `recipe` decides their defaults.

    Raises:
        ResnetlabError: an unknown option or value, options of another task, or a package that is not installed.
    """
    if name == CLASSIFICATION.name:
        if assignments:
            raise ResnetlabError(f"`detector={' '.join(assignments)}` takes no effect with the task {name}")
        return CLASSIFICATION
    given = parse_options(assignments)
    is_preset = any(text.startswith("preset=") for text in assignments)
    usual = {} if is_preset else PRESETS[USUAL_PRESET.get(recipe, "small")]
    options = DetectorOptions(**{**usual, **given})
    options.refuse_unused(given)
    return detection_task(options)


def task_of_run(config: Mapping[str, Any]) -> Task:
    """The task of a run, from its configuration; an unknown one counts as classification."""
    said = config.get("task", {})
    return detection_task(from_json(said["options"])) if said.get("name") == DETECTION else CLASSIFICATION


def detection_task(options: DetectorOptions) -> Task:
    """The task of detection.

    Raises:
        ResnetlabError: a package that it needs is not installed.
    """
    try:
        from resnetlab.tasks.detection import detection
    except ModuleNotFoundError as error:
        raise ResnetlabError(
            f"detection needs the package {error.name}; install `resnetlab[detection]`, or in a clone run "
            "`uv run --extra detection ...`"
        ) from None
    return detection(options)
