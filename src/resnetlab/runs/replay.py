"""Repeat the training of a run up to some steps, to look at the network on the way; the numbers are the run's."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnetlab.data.dataset import Dataset
from resnetlab.data.named import DataSource
from resnetlab.errors import ResnetlabError
from resnetlab.models.modelfile import Model
from resnetlab.networks.resnet import fresh
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import Line, mean_file, read_config, read_settings
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.batches import Reading, choose_preprocessing, prepare
from resnetlab.training.loop import Stepped, launched, objective, start, train
from resnetlab.training.recipe import Recipe

Load = Callable[[DataSource, bool], Dataset]
"""Loads a data set, in memory or as files."""


def spec_of(folder: Path, model: Model, source: str | None = None) -> RunSpec:
    """The specification of a finished run; `start` is only the name of the file that it started from.

    `model` is the run's, and `source` is where its data is now, if it was moved.

    Raises:
        ResnetlabError: it is not a run of classification.
    """
    config, settings = read_config(folder), read_settings(folder)
    if (task := config.get("task", {}).get("name", CLASSIFICATION.name)) != CLASSIFICATION.name:
        raise ResnetlabError(f"{folder} is a run of {task}; expected {CLASSIFICATION.name}")
    try:
        recipe = Recipe(**{key: _tuple(value) for key, value in config["recipe"].items()})
    except (KeyError, TypeError, ValueError) as error:
        raise ResnetlabError(f"{folder / 'config.json'} is damaged: {error}") from None
    height, width = model.preprocessing.fit.crop  # image files in memory were scaled to squares of this size
    square = height if recipe.resident and height == width else None
    data = DataSource(source or settings["source"], Path(settings["data_dir"]), square, "skip")
    data = data.divided_as(config["data"])
    start = Path(config["start"]["file"]) if "start" in config else None
    return RunSpec(model.network.architecture, data, recipe, int(config["seed"]), start)


def data_of(folder: Path, spec: RunSpec, load: Load = DataSource.load) -> Dataset:
    """The data that a run was trained on.

    Raises:
        ResnetlabError: it cannot be read, or is no longer the same.
    """
    try:
        dataset = spec.chosen(load(spec.data, spec.recipe.resident))
    except ResnetlabError as error:
        raise ResnetlabError(f"the data of {folder}: {error}. If it was moved, say where it is with `data`") from None
    trained_on: Line = read_config(folder)["data"]
    if dataset.fingerprint() != trained_on["fingerprint"]:
        raise ResnetlabError(
            f"{spec.data.name} is not the data that {folder} was trained on: its fingerprint is "
            f"{dataset.fingerprint()}, not {trained_on['fingerprint']}; restore the data, or train again"
        )
    return dataset


def replay(
    folder: Path, spec: RunSpec, dataset: Dataset, device: torch.device, steps: Sequence[int]
) -> Iterator[tuple[int, nn.Module]]:
    """Train again and yield the network after each of these steps; do not change it.

    Weights are those of the run up to rounding, and equal bit for bit on the device and with the threads of the run.

    Raises:
        ResnetlabError: the run did not start from random weights.
    """
    if not steps:
        return
    if spec.start:
        raise ResnetlabError(f"{folder} started from given weights; only a run from random weights can be repeated")
    state = start(fresh(spec.architecture, spec.seed), spec.recipe, device)
    preprocessing = choose_preprocessing(dataset, spec.recipe, None, mean_file(folder))
    batches = prepare(dataset, spec.recipe, spec.seed, device, preprocessing, Reading())
    loss = spec.task.loss(spec.recipe, dataset, device)
    forward = objective(state.network, spec.recipe, device, loss, spec.task.sums)
    step = launched(batches.training, forward, spec.recipe)
    try:
        for event in train(state, step, spec.recipe, spec.task.means):
            if isinstance(event, Stepped) and event.step in steps:
                yield event.step, state.network
                state.network.train()
                if event.step == max(steps):
                    return
    finally:
        batches.training.close()


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
