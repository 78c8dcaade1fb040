"""The outcome of a run: metrics of each split, the best network, the model file, the result."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from resnetlab.data.dataset import Dataset, Pixels, Split
from resnetlab.networks.statistics import set_exact_statistics
from resnetlab.runs.folder import RunFolder
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import Line
from resnetlab.tasks.task import Task
from resnetlab.training.batches import Batches
from resnetlab.training.distributed import gathered, share_buffers, wait_for_all
from resnetlab.training.loop import State
from resnetlab.training.parameters import frozen_parts
from resnetlab.training.provenance import environment

PROTOCOL = {"last": "single view, last iteration", "best": "single view, best on validation"}


def best_point(points: list[Line], task: Task) -> Line | None:
    """The first report with the best headline metric on validation images."""
    key, found = f"validation_{task.headline.name}", None
    for point in points:
        if key in point and (found is None or task.headline.better(point[key], found[key])):
            found = point
    return found


def ended_early(points: list[Line], spec: RunSpec) -> bool:
    """Whether early stopping applies: no better validation metric for `patience` reports."""
    found = best_point(points, spec.task)
    return bool(spec.recipe.patience and found and len(points) - 1 - points.index(found) >= spec.recipe.patience)


def test_all(task: Task, network: nn.Module, batches: Batches) -> dict[str, float]:
    """Metrics of each test split, by rank 0's network."""
    share_buffers(network)
    return {
        f"{split}_{name}": value
        for split, prepared in batches.tests.items()
        for name, value in task.test(network, prepared()).metrics.items()
    }


def save_model(
    spec: RunSpec, record: RunFolder, state: State, batches: Batches, point: Line, best: bool = False
) -> None:
    """Write the current tested network as the run's model file, or as its best one so far."""
    if not record.writes:
        return
    keys = ("data", "recipe", "seed", "start")
    provenance = {key: record.config[key] for key in keys if key in record.config} | {
        "step": point["step"],
        **_stamp(state),
    }
    outputs, count = tuple(record.config["data"]["classes"]), record.config["network"]["num_classes"]
    if len(outputs) != count:
        outputs = tuple(f"{spec.task.name} {k}" for k in range(count))
    spec.task.save(state.tested, batches.preprocessing, outputs, provenance, record.model_file(best))


def finish(
    spec: RunSpec, record: RunFolder, state: State, batches: Batches, dataset: Dataset, points: list[Line]
) -> Iterator[str]:
    """Write the model file, and the result, which marks the run as finished. Yields messages for the user."""
    recipe, best, chosen = spec.recipe, best_point(points, spec.task), points[-1]
    protocol, headline = PROTOCOL[recipe.keep], spec.task.headline
    if recipe.exact_statistics:
        yield "computing exact batch-norm statistics from training images, and testing with them"
        with torch.compiler.set_stance("force_eager"):
            frozen = frozen_parts(state.tested, recipe)
            set_exact_statistics(state.tested, batches.calibration(), frozen=frozen)
            chosen = chosen | test_all(spec.task, state.tested, batches)
        protocol += ", exact batch-norm statistics"
        exact = f"{chosen[f'test_{headline.name}']:.2f} {headline.unit}".strip()
        yield f"with exact batch-norm statistics the test {headline.name} is {exact}"
    if recipe.keep == "best" and best is not None:
        chosen = best
        record.keep_best_model()
    else:
        save_model(spec, record, state, batches, chosen)
    if spec.task.complete is not None:
        wait_for_all()  # for the model file
        device = next(state.network.parameters()).device
        yield from spec.task.complete(record.model_file(), batches, len(dataset.train), device)
    if state.step < recipe.iterations:
        reason = f"{recipe.patience} reports without a better validation {headline.name}"
        yield f"ended early at step {state.step:,}: {reason}"
    skipped = sorted(gathered(batches.waiting.skipped))
    if skipped:
        files = f"{len(skipped):,} unreadable file{'s' * (len(skipped) > 1)}"
        yield f"{files} skipped, {skipped[0]}{' among them' * (len(skipped) > 1)}"
    result = {"protocol": protocol, **_numbers(spec.task, chosen, best)}
    result |= {"ended_at": state.step} if state.step < recipe.iterations else {}
    result |= {"unreadable": skipped} if skipped else {}
    result |= {"test_images": _readable(dataset.test, set(skipped)), "warmed_up_at": state.warmed_up_at}
    record.finish(result | _stamp(state))
    record.log("finished")


def _numbers(task: Task, chosen: Line, best: Line | None) -> Line:
    """All metrics of the chosen point, and the best point on validation images."""
    names = [*(metric.name for metric in (*task.metrics, *task.tallied)), "loss"]
    found = {key: value for key, value in chosen.items() if key.partition("_")[2] in names}
    if best is not None:
        keys = ("step", f"validation_{task.headline.name}", f"test_{task.headline.name}")
        found["best_on_validation"] = {key: best[key] for key in keys}
    return found


def _readable(split: Split, skipped: set[str]) -> int:
    if isinstance(split, Pixels):
        return len(split)
    return sum(file.path not in skipped for file in split.files)


def _stamp(state: State) -> dict[str, Any]:
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(next(state.network.parameters()).device),
    }
