"""The run folder: what is run, the metrics so far, checkpoints, the result. The same command goes on in it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import filelock

from resnetlab.errors import ResnetlabError
from resnetlab.files import read_json_lines, replacing, sync, write_json
from resnetlab.networks.resnet import Architecture
from resnetlab.training import checkpoint
from resnetlab.training.loop import State
from resnetlab.training.recipe import Recipe

SAVE_EVERY_SECONDS = 60.0
WAIT_FOR_LOCK_SECONDS = 5.0  # for a run that is just being saved to end


class RunFolder:
    """One run on disk. `metrics.jsonl` holds nothing that differs between equal runs; times are in `log.jsonl`.

    Of several processes only one `writes`; for the others it is as if they did.
    """

    def __init__(self, path: Path, config: dict[str, Any], writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.config = config
        self._lines = 0
        self._saved_at = time.monotonic()
        self._saved_step = 0

    @classmethod
    def follow(cls, path: Path, config: dict[str, Any]) -> "RunFolder":
        """The run that another process of this one's group has opened."""
        return cls(path, json.loads(json.dumps(config)), writes=False)

    @classmethod
    @contextmanager
    def open(cls, path: Path, config: dict[str, Any]) -> Iterator["RunFolder"]:
        """The run of this configuration at `path`, new or as it was left; no other process can open it meanwhile.

        Raises:
            ResnetlabError: `path` holds another run, or something else, or is in use.
        """
        if path.exists() and not path.is_dir():
            raise ResnetlabError(f"{path} is a file; give another folder with --out")
        known = path / "config.json"
        if path.is_dir() and not known.exists() and any(p.name != ".lock" for p in path.iterdir()):
            raise ResnetlabError(f"{path} is not empty and not a run folder; give another folder with --out")
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / ".lock", timeout=WAIT_FOR_LOCK_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ResnetlabError(f"{path} is in use by another process; wait for it, or give another --out") from None
        try:
            config = json.loads(json.dumps(config))
            if known.exists():
                found = _with_defaults(read_config(path), config)
                _refuse_another_run(path, found, config)
            else:
                write_json(known, config)
            yield cls(path, config)
        finally:
            lock.release()

    @property
    def execution(self) -> dict[str, Any]:
        """How the run is executed, which is no part of what tells runs apart; empty before its first start."""
        return read_execution(self.path) if (self.path / "execution.json").exists() else {}

    def set_execution(self, execution: dict[str, Any]) -> None:
        """Keep how the run is executed, for later starts."""
        if self.writes:
            write_json(self.path / "execution.json", execution)

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a finished run."""
        return read_result(self.path)

    def resume(self, state: State) -> None:
        """Bring a fresh state to where the run was left, and drop metrics that are about to come again."""
        self._lines = checkpoint.restore(self.path / "checkpoints", state)
        self._saved_step = state.step
        if not self.writes:
            return
        metrics = self.path / "metrics.jsonl"
        kept = read_json_lines(metrics)[: self._lines]
        with replacing(metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def add_metrics(self, line: dict[str, Any]) -> None:
        """One more line of metrics."""
        if not self.writes:
            return
        _append(self.path / "metrics.jsonl", line)
        self._lines += 1

    def log(self, event: str, **details: object) -> None:
        """One more line of what depends on the machine and the hour."""
        if not self.writes:
            return
        _append(self.path / "log.jsonl", {"event": event, "time": round(time.time(), 3), **details})

    def save(self, state: State) -> None:
        """Write a checkpoint, if there is none of this step.

        Raises:
            DivergedError: a weight is no longer a finite number; the last checkpoint stays.
        """
        if not self.writes:
            return
        if self._saved_step != state.step:
            state.check_finite()
            if self._lines:
                sync(self.path / "metrics.jsonl")
            checkpoint.save(self.path / "checkpoints", state, self._lines)
        self._saved_at, self._saved_step = time.monotonic(), state.step

    def save_if_due(self, state: State) -> None:
        """Write a checkpoint if the last one is a minute old."""
        if time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS:
            self.save(state)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which marks the run as finished."""
        if self.writes:
            write_json(self.path / "result.json", result)


def read_config(path: Path) -> dict[str, Any]:
    """What a run folder says it runs.

    Raises:
        ResnetlabError: there is none, or it is damaged.
    """
    return _read_json(path / "config.json")


def read_execution(path: Path) -> dict[str, Any]:
    """How and from where a run folder's run was last started.

    Raises:
        ResnetlabError: there is none, or it is damaged.
    """
    return _read_json(path / "execution.json")


def read_result(path: Path) -> dict[str, Any] | None:
    """The result in a run folder, or None where the run has not finished."""
    return _read_json(path / "result.json") if (path / "result.json").exists() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise ResnetlabError(f"{path.parent} is not a run folder: it has no {path.name}") from None
    except ValueError as error:
        raise ResnetlabError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ResnetlabError(f"{path} is damaged: it holds no JSON object")
    return content


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _refuse_another_run(path: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    differences = [f"{name} is {old!r} there and {new!r} here" for name, old, new in _differences(found, asked)]
    if differences:
        raise ResnetlabError(f"{path} holds another run: {'; '.join(differences)}. Give another folder with --out")


def _with_defaults(found: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the fields of recipe and network that were added since, at the defaults it ran with."""
    network = {field.name: field.default for field in fields(Architecture) if field.default is not MISSING}
    defaults = json.loads(json.dumps({"recipe": asdict(Recipe()), "network": network}))
    for part in defaults.keys() & found.keys() & asked.keys():
        added = {key: value for key, value in defaults[part].items() if key in asked[part]}
        found = found | {part: added | found[part]}
    return found


def _differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object, object]]:
    for key in {**a, **b}:
        old, new = a.get(key), b.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield prefix + key, old, new
