"""Checkpoints: tensors as safetensors and the rest as JSON, in one folder that is written atomically."""

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing
from resnetlab.training.loop import State

KEPT = 2


def save(folder: Path, state: State, metrics_lines: int) -> None:
    """Write `folder/step-<n>` and remove all but the newest two checkpoints."""
    tensors = {f"network.{key}": value for key, value in state.network.state_dict().items()}
    for name, parameter in state.network.named_parameters():
        if momentum := state.optimizer.state[parameter]:
            tensors[f"momentum.{name}"] = momentum["momentum_buffer"]
    if state.average is not None:
        tensors |= {f"average.{key}": value for key, value in state.average.state_dict().items()}
    tensors |= {"tally": state.tally, "window": state.window}
    path = folder / f"step-{state.step:08d}"
    if path.exists():  # unreadable, otherwise the run would have resumed from it
        shutil.rmtree(path)
    with replacing(path) as temporary:
        temporary.mkdir(parents=True)
        data = save_tensors({key: value.cpu().contiguous() for key, value in tensors.items()})
        (temporary / "tensors.safetensors").write_bytes(data)
        record = {"step": state.step, "warmed_up_at": state.warmed_up_at, "metrics_lines": metrics_lines}
        (temporary / "state.json").write_text(json.dumps(record) + "\n")
    for old in newest_first(folder)[KEPT:]:
        shutil.rmtree(old)


def restore(folder: Path, state: State) -> int:
    """Restore `state` from the newest readable checkpoint, if any. Returns its number of metrics lines.

    Raises:
        ResnetlabError: there are checkpoints, but none can be read.
    """
    problems = []
    for path in newest_first(folder):
        try:
            tensors = load_file(path / "tensors.safetensors")
            record = json.loads((path / "state.json").read_text())
        except (OSError, SafetensorError, ValueError) as error:
            problems.append(f"{path}: {error}")
            continue
        _apply(state, tensors)
        state.step, state.warmed_up_at = record["step"], record["warmed_up_at"]
        return int(record["metrics_lines"])
    if problems:
        raise ResnetlabError(f"no checkpoint can be read ({'; '.join(problems)}); remove {folder} to start again")
    return 0


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def _apply(state: State, tensors: dict[str, torch.Tensor]) -> None:
    for prefix, network in (("network.", state.network), ("average.", state.average)):
        if network is not None:
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            network.load_state_dict(found)
    for name, parameter in state.network.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            buffer = torch.empty_like(parameter, requires_grad=False)  # the parameter's memory format
            state.optimizer.state[parameter]["momentum_buffer"] = buffer.copy_(momentum)
    state.tally.copy_(tensors["tally"])
    state.window.copy_(tensors["window"])
