"""Finished runs tested by a protocol, once: the scores are kept in the run folder."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resnetlab.data.reading import OnBad
from resnetlab.evaluation.evaluate import evaluate, images_for
from resnetlab.evaluation.protocol import ProtocolName, protocol
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.execution import Device, choose_device
from resnetlab.models import load
from resnetlab.training.distributed import World, joined, led
from resnetlab.training.run import read_execution

Watch = Callable[[Iterable[Any], int], Iterable[Any]]


def scores_of_run(
    folder: Path,
    name: ProtocolName,
    device: Device = "auto",
    workers: int | None = None,
    on_bad: OnBad = "stop",
    watch: Watch = lambda items, total: items,
) -> Scored:
    """Scores of a finished run's network on its own test images, in `folder`/scores-<protocol>.safetensors.

    `watch` wraps what is read, of so many images, for progress.

    Raises:
        ResnetlabError: the run has not finished, or its images cannot be read.
    """
    kept = folder / f"scores-{name}.safetensors"
    if kept.exists():
        return Scored.load(kept)
    model, execution = load(folder), read_execution(folder)
    images = images_for(model, execution["source"], Path(execution["data_dir"]), "test", on_bad, workers)
    here = World.here()
    place = here.device(choose_device(device).type)
    total = -(-len(images) // here.size)
    with joined(place):
        way = protocol(name, model.preprocessing.fit)
        about = {"model": folder.name}
        found, _ = evaluate(model, images, way, place, watch=lambda items: watch(items, total), about=about)
        led(here, lambda: found.save(kept))
    return found
