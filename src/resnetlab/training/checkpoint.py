"""Checkpoints: tensors as safetensors and the rest as JSON, in one folder that is written atomically.

Both have checksums, and the metrics until then have one. A damaged checkpoint is never used; the one before it is,
and the caller is told.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as save_tensors
from torch import Tensor

from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular, read_text, replacing
from resnetlab.models import tensorfile
from resnetlab.training.loop import State

KEPT = 2
SHOWN = 3  # names of tensors in a message


@dataclass(frozen=True)
class Restored:
    """What was restored: the number of lines of the metrics then, and what is wrong with newer checkpoints.

    The metrics are not `sound` if lines are missing or were changed, and no older checkpoint can do without them.
    """

    metrics_lines: int = 0
    damaged: tuple[str, ...] = ()
    sound: bool = True


@dataclass(frozen=True)
class Record:
    """What a checkpoint says beside its tensors; the hashes are empty in those of earlier versions."""

    step: int
    warmed_up_at: int | None
    metrics_lines: int
    tensors_hash: str = ""
    metrics_hash: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields, and their checksum."""
        return {**vars(self), "hash": _hash(json.dumps(vars(self)).encode())}

    @classmethod
    def read(cls, path: Path) -> "Record":
        """The record in a file.

        Raises:
            OSError, ValueError: it cannot be read, or says what cannot be.
        """
        said = json.loads(read_text(path))
        if not isinstance(said, dict):
            raise ValueError(f"{path.name} is no record")
        kept = said.pop("hash", None)
        try:
            record = cls(**said)
        except TypeError as error:
            raise ValueError(f"{path.name}: {error}") from None
        if kept is not None and _hash(json.dumps(said).encode()) != kept:
            raise ValueError(f"{path.name} was changed: its checksum is another")
        counts = (record.step, record.metrics_lines, *([] if record.warmed_up_at is None else [record.warmed_up_at]))
        if any(type(count) is not int or count < 0 for count in counts) or (record.warmed_up_at or 0) > record.step:
            raise ValueError(f"{path.name} has impossible numbers: {said}")
        if f"step-{record.step:08d}" != path.parent.name:
            raise ValueError(f"{path.name} is of step {record.step}")
        return record

    def fits(self, metrics: Sequence[bytes]) -> bool:
        """Whether these lines of the metrics begin with those that there were."""
        return len(metrics) >= self.metrics_lines and self.metrics_hash in (
            "",
            _hash(b"\n".join(metrics[: self.metrics_lines])),
        )


def save(folder: Path, state: State, metrics: Sequence[bytes] = ()) -> None:
    """Write `folder/step-<n>` and remove all but the newest two checkpoints; `metrics` are the lines until now."""
    path = folder / f"step-{state.step:08d}"
    if path.exists():  # unreadable, otherwise the run would have resumed from it
        shutil.rmtree(path)
    with replacing(path) as temporary:
        temporary.mkdir(parents=True)
        data = save_tensors({key: value.cpu().contiguous() for key, value in _tensors(state).items()})
        (temporary / "tensors.safetensors").write_bytes(data)
        record = Record(state.step, state.warmed_up_at, len(metrics), _hash(data), _hash(b"\n".join(metrics)))
        (temporary / "state.json").write_text(json.dumps(record.to_json()) + "\n")
    for old in newest_first(folder)[KEPT:]:
        shutil.rmtree(old)


def restore(
    folder: Path, state: State, iterations: int | None = None, metrics: Sequence[bytes] | None = None
) -> Restored:
    """Restore `state` from the newest sound checkpoint, if any; `iterations` is the last step that can be.

    One whose lines of the `metrics` are missing or were changed is only used if no other is sound.

    Raises:
        ResnetlabError: there are checkpoints, but none can be used.
    """
    problems: list[str] = []
    without_metrics: tuple[Record, dict[str, Tensor], tuple[str, ...]] | None = None
    for path in newest_first(folder):
        try:
            record = Record.read(path / "state.json")
            if iterations is not None and record.step > iterations:
                raise ValueError(f"it is of step {record.step:,} of {iterations:,}")
            tensors = _read(path / "tensors.safetensors", record)
            _check(state, tensors)
            if metrics is not None and not record.fits(metrics):
                without_metrics = without_metrics or (record, tensors, tuple(problems))
                raise ValueError("metrics.jsonl has lost lines of before it, or was changed")
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            problems.append(f"{path}: {error}")
            continue
        return _restored(state, record, tensors, problems)
    if without_metrics is not None:
        return replace(_restored(state, *without_metrics), sound=False)
    if problems:
        raise ResnetlabError(f"no checkpoint can be read ({'; '.join(problems)}); remove {folder} to start again")
    return Restored()


def _read(path: Path, record: Record) -> dict[str, Tensor]:
    """
    Raises:
        OSError, SafetensorError, ValueError: it cannot be read, or was changed.
    """
    data = read_regular(path, most=tensorfile.MOST)
    if record.tensors_hash and _hash(data) != record.tensors_hash:
        raise ValueError(f"{path.name} was changed: its checksum is another")
    return tensors_of(data)


def _restored(state: State, record: Record, tensors: dict[str, Tensor], problems: Sequence[str]) -> Restored:
    _apply(state, tensors)
    state.step, state.warmed_up_at = record.step, record.warmed_up_at
    return Restored(record.metrics_lines, tuple(problems))


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _tensors(state: State) -> dict[str, Tensor]:
    """All tensors of a state, by name; without momentum before the first step."""
    tensors = {f"network.{key}": value for key, value in state.network.state_dict().items()}
    for name, parameter in state.network.named_parameters():
        if momentum := state.optimizer.state[parameter]:
            tensors[f"momentum.{name}"] = momentum["momentum_buffer"]
    if state.average is not None:
        tensors |= {f"average.{key}": value for key, value in state.average.state_dict().items()}
    return tensors | {"tally": state.tally, "window": state.window}


def _check(state: State, tensors: Mapping[str, Tensor]) -> None:
    """Check that a checkpoint has exactly the tensors of this state, in their shapes; momentum only where it is.

    Raises:
        ValueError: names those that are missing, unexpected, or of another shape or type.
    """

    def form(tensor: Tensor) -> tuple[torch.Size, bool]:
        return tensor.shape, tensor.is_floating_point()

    expected = {key: form(value) for key, value in _tensors(state).items() if not key.startswith("momentum.")}
    momentum = {f"momentum.{name}": form(parameter) for name, parameter in state.network.named_parameters()}
    found = {key: form(value) for key, value in tensors.items()}
    known = momentum | expected
    for what, names in (
        ("missing", [key for key in expected if key not in found]),
        ("unexpected", [key for key in found if key not in known]),
        ("of another shape or type", [key for key in found if key in known and found[key] != known[key]]),
    ):
        if names:
            raise ValueError(f"{len(names)} tensors are {what}: {', '.join(names[:SHOWN])}")


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
