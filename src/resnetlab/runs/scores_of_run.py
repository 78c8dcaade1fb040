"""Test finished runs under a protocol and cache the scores in the run folder."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resnetlab.choices import DeviceName, OnBad, ProtocolName
from resnetlab.evaluation.evaluate import evaluate, images_for
from resnetlab.evaluation.protocol import protocol
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import load
from resnetlab.runs.folder import read_settings, scores_file
from resnetlab.runs.settings import choose_device
from resnetlab.training.distributed import World, joined, led

Watch = Callable[[Iterable[Any], int], Iterable[Any]]


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
    model, settings = load(folder), read_settings(folder)
    images = images_for(model, settings["source"], Path(settings["data_dir"]), "test", on_bad, workers)
    here = World.here()
    place = here.device(choose_device(device).type)
    total = -(-len(images) // here.size)
    with joined(place):
        way = protocol(name, model.preprocessing.fit)
        about = {"model": folder.name}
        found, _ = evaluate(model, images, way, place, watch=lambda items: watch(items, total), about=about)
        led(here, lambda: found.save(kept))
    return found
