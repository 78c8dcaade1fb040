"""Test finished runs under a protocol and cache the scores in the run folder."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab.choices import DeviceName, OnBad, ProtocolName
from resnetlab.evaluation.evaluate import EvaluationSet, evaluate, images_for
from resnetlab.evaluation.protocol import protocol
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import Model, load
from resnetlab.runs.settings import choose_device
from resnetlab.runs.stored import read_settings, scores_file
from resnetlab.training.distributed import World, joined, led

Watch = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class ScoredRun:
    """A finished run's model, its test images, and the scores of the images."""

    model: Model
    images: EvaluationSet
    scored: Scored


def scores_of_run(
    folder: Path,
    name: ProtocolName,
    device: DeviceName = "auto",
    workers: int | None = None,
    on_bad: OnBad = "stop",
    watch: Watch = lambda items, total: items,
) -> Scored:
    """Scores of a finished run's network on its test images, cached in `folder`/scores-<protocol>.safetensors.

    `watch` wraps the iterable of images and gets their number, for progress.

    Raises:
        ResnetlabError: the run has not finished, or its images cannot be read.
    """
    kept = scores_file(folder, name)
    if kept.exists():
        return Scored.load(kept)
    here = World.here()
    with joined(here.device(choose_device(device).type)):
        found = score_run(folder, name, device, workers, on_bad, watch).scored
        led(here, lambda: found.save(kept))
    return found


def score_run(
    folder: Path,
    name: ProtocolName,
    device: DeviceName = "auto",
    workers: int | None = None,
    on_bad: OnBad = "stop",
    watch: Watch = lambda items, total: items,
) -> ScoredRun:
    """Test a finished run's network, in all connected processes together; see `scores_of_run`."""
    model, settings = load(folder), read_settings(folder)
    images = images_for(model, settings["source"], Path(settings["data_dir"]), "test", on_bad, workers)
    total = -(-len(images) // World.connected().size)
    way, place = protocol(name, model.preprocessing.fit), World.here().device(choose_device(device).type)
    about = {"model": folder.name}
    scored, _ = evaluate(model, images, way, place, watch=lambda items: watch(items, total), about=about)
    return ScoredRun(model, images, scored)
