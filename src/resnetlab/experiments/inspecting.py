"""Measure the networks of finished runs, and keep the measurements in the run folders."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from resnetlab.analysis.subject import Images, Subject
from resnetlab.data.counter import permutation
from resnetlab.data.dataset import Split
from resnetlab.data.reading import fitted_batches
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.experiment import Experiment, Listener
from resnetlab.experiments.options import Options
from resnetlab.models.modelfile import Model, load
from resnetlab.report.record import Record
from resnetlab.runs.finished import FinishedRun, finished_runs
from resnetlab.runs.folder import Line, read_config, read_measurements, write_measurements
from resnetlab.runs.replay import data_of, initial, replay, spec_of
from resnetlab.runs.settings import choose_device, crowded

IMAGES = 2000
FORMAT = 1
"""Increased when a measurement changes its meaning, so that kept ones are made again."""
T = TypeVar("T")


def inspected(
    experiment: Experiment, folder: Path, options: Options, listener: Listener, *, replays: bool = True
) -> FinishedRun:
    """A finished run with what the experiment measures on its network; measured once for the same options.

    Raises:
        ResnetlabError: the run has not finished, its data is gone or has changed, or it does not suit the study.
    """
    inspection = experiment.inspection
    assert inspection is not None  # noqa: S101 -- the caller chooses such experiments
    found = finished(folder)
    count, shares = options.images or IMAGES, inspection.replays if replays else ()
    settings: Line = {"format": FORMAT, "images": count, "replays": list(shares)}
    settings |= {name: getattr(options, name) for name in sorted(inspection.takes)}
    measured = read_measurements(folder, experiment.name, settings)
    if measured is None:
        what = f"{experiment.name}, {found.architecture.title}"

        def watch(items: Sequence[T]) -> Iterable[T]:
            return listener.watched(items, what, len(items))

        if options.settings.threads:
            torch.set_num_threads(options.settings.threads)
        if busy := crowded(options.settings):
            listener.say(busy)
        listener.say(f"measuring {experiment.name} on {found.architecture.title}, seed {found.seed}")
        subject = subject_of(folder, options, shares)
        if text := inspection.announce(subject, options):
            listener.say(text)
        measured = dict(inspection.measure(subject, watch, options))
        write_measurements(folder, experiment.name, settings, measured)
    return replace(found, measured=measured)


def analyse(experiment: Experiment, folders: Sequence[Path], options: Options, listener: Listener) -> Record:
    """The experiment's record of these finished runs alone.

    Raises:
        ResnetlabError: see `inspected`; or the runs were trained on different data.
    """
    runs = [finished(folder) for folder in folders]
    if len({run.config["data"]["fingerprint"] for run in runs}) > 1:
        raise ResnetlabError(
            f"the runs have different data: {', '.join(run.data for run in runs)}; analyse each alone"
        )
    runs = [inspected(experiment, folder, options, listener, replays=False) for folder in folders]
    return experiment.record(experiment, runs, [])


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


def subject_of(folder: Path, options: Options, shares: Sequence[float] = ()) -> Subject:
    """The network of a finished run on the device, and images of its data, in random order.

    `shares` of its training are those after which the snapshots are taken.

    Raises:
        ResnetlabError: its data cannot be read, or is no longer the same.
    """
    model, device = load(folder), choose_device(options.settings.device)
    spec = spec_of(folder, model.preprocessing.fit.crop, options.data)
    dataset = data_of(folder, spec)
    count, workers = options.images or IMAGES, options.settings.workers
    train, test = (_images(split, count, model, workers, device) for split in (dataset.train, dataset.test))
    network = model.network.to(device).to(memory_format=torch.channels_last)
    steps = sorted({max(1, round(share * spec.recipe.iterations)) for share in shares})
    fitted = replace(spec, architecture=model.network.architecture)
    begun = None if spec.start else initial(fitted).to(device).to(memory_format=torch.channels_last)
    snapshots = lambda: replay(folder, fitted, dataset, device, steps)
    return Subject(str(folder), network, train, test, len(dataset.train), begun, snapshots)


def _images(split: Split, count: int, model: Model, workers: int | None, device: torch.device) -> Images:
    """At most `count` random images of a split, always the same ones, as the model is given them."""
    chosen = split[permutation(len(split), seed=0, epoch=0, device=torch.device("cpu"))[:count]]
    read = list(fitted_batches(chosen, model.preprocessing.fit, min(count, 500), workers, "skip"))
    if not read:
        raise ResnetlabError("none of the images can be read")
    pixels, labels = (torch.cat(parts) for parts in zip(*read, strict=True))
    return Images(pixels, labels, model.preprocessing, device)
