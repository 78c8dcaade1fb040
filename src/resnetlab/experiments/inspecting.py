"""Measure the networks of finished runs, and keep the measurements in the run folders."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from resnetlab.analysis.subject import Images, Subject
from resnetlab.data.counter import permutation
from resnetlab.data.dataset import Split
from resnetlab.data.named import DataSource
from resnetlab.data.reading import fitted_batches
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.experiment import Experiment, Listener
from resnetlab.experiments.options import Options
from resnetlab.models.modelfile import Model, load
from resnetlab.networks.resnet import fresh
from resnetlab.report.record import Record
from resnetlab.runs.finished import FinishedRun, finished_runs
from resnetlab.runs.replay import Load, data_of, replay, spec_of
from resnetlab.runs.settings import choose_device, crowded
from resnetlab.runs.stored import Line, read_config, read_measurements, write_measurements

IMAGES = 2000
FORMAT = 1
"""Increased when a measurement changes its meaning, so that kept ones are made again."""
T = TypeVar("T")


def inspected(
    experiment: Experiment,
    runs: Mapping[Path, FinishedRun],
    options: Options,
    listener: Listener,
    *,
    replays: bool = True,
) -> list[FinishedRun]:
    """Finished runs with what the experiment measures on their networks; measured once for the same options.

    Raises:
        ResnetlabError: the data of a run is gone or has changed, or it does not suit the study.
    """
    load_once = functools.cache(DataSource.load)
    return [
        replace(run, measured=_measured(experiment, folder, run, load_once, options, listener, replays))
        for folder, run in runs.items()
    ]


def _set_threads(options: Options, listener: Listener) -> None:
    """The threads that are asked for; by default one, from then on, if other processes keep the cores busy."""
    if options.settings.threads:
        torch.set_num_threads(options.settings.threads)
    elif crowded(options.settings):
        torch.set_num_threads(1)
        listener.say("Other processes keep the cores busy, so one thread measures; `threads` decides otherwise")


def _measured(
    experiment: Experiment,
    folder: Path,
    run: FinishedRun,
    load: Load,
    options: Options,
    listener: Listener,
    replays: bool,
) -> Line:
    """What the experiment measures on one network, or measured on it before."""
    inspection = experiment.inspection
    assert inspection is not None  # noqa: S101 -- the caller chooses such experiments
    count = (options.images or IMAGES) if inspection.subject is None else 0
    shares = inspection.replays if replays else ()
    asked = {name: getattr(options, name) for name in sorted(inspection.takes)}
    settings: Line = {"format": FORMAT, "images": count, "replays": list(shares), **asked}
    if (kept := read_measurements(folder, experiment.name, settings)) is not None:
        return kept
    what = f"{experiment.name}, {run.architecture.title}"

    def watch(items: Sequence[T]) -> Iterable[T]:
        return listener.watched(items, what, len(items))

    _set_threads(options, listener)
    listener.say(f"measuring {experiment.name} on {run.architecture.title}, seed {run.seed}")
    read = inspection.subject
    subject = subject_of(folder, load, options, shares) if read is None else read(folder, options)
    if text := inspection.announce(subject, options):
        listener.say(text)
    given = {name: value for name, value in asked.items() if value is not None}
    measured = dict(inspection.measure(subject, watch, **given))
    write_measurements(folder, experiment.name, settings, measured)
    return measured


def analyse(experiment: Experiment, folders: Sequence[Path], options: Options, listener: Listener) -> Record:
    """The experiment's record of these finished runs alone.

    Raises:
        ResnetlabError: see `inspected`; or the runs were trained on different data.
    """
    runs = {folder: finished(folder) for folder in folders}
    if len({run.config["data"]["fingerprint"] for run in runs.values()}) > 1:
        raise ResnetlabError(
            f"the runs have different data: {', '.join(run.data for run in runs.values())}; analyse each alone"
        )
    return experiment.record(experiment, inspected(experiment, runs, options, listener, replays=False), [])


def finished(folder: Path) -> FinishedRun:
    """The run in a folder.

    Raises:
        ResnetlabError: it has not finished.
    """
    found = finished_runs([folder])
    if folder not in found:
        read_config(folder)  # raises if it is no run folder
        raise ResnetlabError(f"{folder} has not finished; the command that started it continues it")
    return found[folder]


def subject_of(folder: Path, load_data: Load, options: Options, shares: Sequence[float] = ()) -> Subject:
    """The network of a finished run on the device, and images of its data, in random order.

    `shares` of its training are those after which the snapshots are taken.

    Raises:
        ResnetlabError: its data cannot be read, or is no longer the same.
    """
    model, device = load(folder), choose_device(options.settings.device)
    spec = spec_of(folder, model, options.data)
    dataset = data_of(folder, spec, load_data)
    count, workers = options.images or IMAGES, options.settings.workers
    train, test = (_images(split, count, model, workers, device) for split in (dataset.train, dataset.test))
    network = model.network.to(device).to(memory_format=torch.channels_last)
    begun = (
        None if spec.start else fresh(spec.architecture, spec.seed).to(device).to(memory_format=torch.channels_last)
    )
    steps = sorted({max(1, round(share * spec.recipe.iterations)) for share in shares})
    snapshots = lambda: replay(folder, spec, dataset, device, steps)
    return Subject(str(folder), network, train, test, len(dataset.train), begun, snapshots)


def _images(split: Split, count: int, model: Model, workers: int | None, device: torch.device) -> Images:
    """At most `count` random images of a split, always the same ones, as the model is given them."""
    chosen = split[permutation(len(split), seed=0, epoch=0, device=torch.device("cpu"))[:count]]
    read = list(fitted_batches(chosen, model.preprocessing.fit, min(count, 500), workers, "skip"))
    if not read:
        raise ResnetlabError("none of the images can be read")
    pixels, labels = (torch.cat(parts) for parts in zip(*read, strict=True))
    return Images(pixels, labels, model.preprocessing, device)
