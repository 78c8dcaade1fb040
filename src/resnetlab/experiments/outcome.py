"""What a run comes to: errors, the better of its networks, the model file, the result."""

import time
from typing import Any

import torch
from torch import nn

from resnetlab.evaluation.views import counted
from resnetlab.experiments.material import Material
from resnetlab.files import replacing
from resnetlab.models import Model, save
from resnetlab.networks.measure import set_exact_statistics
from resnetlab.networks.resnet import ResNet
from resnetlab.training.loop import State
from resnetlab.training.provenance import environment
from resnetlab.training.recipe import Recipe
from resnetlab.training.run import RunFolder

PROTOCOL = {"last": "single view, last iteration", "best": "single view, best on validation"}
Line = dict[str, Any]


def best(points: list[Line]) -> Line | None:
    """The first report with the least validation error."""
    validated = [point for point in points if "validation_error" in point]
    return min(validated, key=lambda point: point["validation_error"], default=None)


def ended_early(points: list[Line], recipe: Recipe) -> bool:
    """Whether the recipe's patience with the validation error is at its end."""
    found = best(points)
    return bool(recipe.patience and found and len(points) - 1 - points.index(found) >= recipe.patience)


def save_model(record: RunFolder, state: State, found: Material, name: str, point: Line) -> None:
    """Write the network that is tested, as it is now, as a model file of this name in the run folder."""
    if not record.writes:
        return
    finished = {
        "step": point["step"],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(next(state.network.parameters()).device),
    }
    provenance = {key: record.config[key] for key in ("data", "recipe", "seed", "start") if key in record.config}
    network = state.tested
    assert isinstance(network, ResNet)  # noqa: S101 -- for the type checker
    classes = tuple(record.config["data"]["classes"])
    save(Model(network, found.preprocessing, classes, provenance | finished), record.path / name)


def finish(record: RunFolder, state: State, found: Material, points: list[Line], images: int) -> None:
    """Write the model file and the result, which marks the run as finished."""
    recipe, found_best, chosen = record.config["recipe"], best(points), points[-1]
    protocol = PROTOCOL[recipe["keep"]]
    if recipe["exact_statistics"]:
        with torch.compiler.set_stance("force_eager"):
            set_exact_statistics(state.tested, found.calibration())
            chosen = chosen | test_all(state.tested, found)
        protocol += ", exact batch-norm statistics"
    if recipe["keep"] == "best" and found_best is not None:
        chosen = found_best
        if record.writes:
            with replacing(record.path / "model.safetensors") as temporary:
                temporary.write_bytes((record.path / "best.safetensors").read_bytes())
    else:
        save_model(record, state, found, "model.safetensors", chosen)
    on_validation = {key: found_best[key] for key in ("step", "validation_error", "test_error")} if found_best else {}
    skipped = sorted(found.waiting.skipped) if found.waiting else []
    record.finish(
        {
            "protocol": protocol,
            **{key: value for key, value in chosen.items() if key.endswith(("_error", "_loss"))},
            **({"best_on_validation": on_validation} if on_validation else {}),
            **({"ended_at": state.step} if state.step < recipe["iterations"] else {}),
            **({"unreadable": skipped} if skipped else {}),
            "test_images": images,
            "warmed_up_at": state.warmed_up_at,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "environment": environment(next(state.network.parameters()).device),
        }
    )
    record.log("finished")


def test_all(network: nn.Module, found: Material) -> dict[str, float]:
    """Error and loss of each split."""
    errors: dict[str, float] = {}
    for name, prepared in found.tests.items():
        counts = counted(network, prepared())
        errors |= {f"{name}_error": counts.error, f"{name}_loss": counts.loss}
    return errors
