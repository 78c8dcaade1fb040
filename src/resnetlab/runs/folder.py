"""Write a run: configuration, metrics, checkpoints, result. The names of its files are in stored.py."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path

import filelock

from resnetlab.errors import ResnetlabError
from resnetlab.files import holds_others, read_lines, replacing, sync, write_json
from resnetlab.models.modelfile import MODEL_FILE
from resnetlab.networks.architecture import Architecture
from resnetlab.runs.stored import (
    CHECKSUM,
    CONFIG,
    EXECUTION,
    LOCK,
    LOG,
    METRICS,
    RESULT,
    Line,
    checksum,
    is_sound,
    is_started,
    mean_file,
    read_config,
    read_result,
    read_settings,
    sample_file,
)
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training import checkpoint
from resnetlab.training.distributed import wait_for_all
from resnetlab.training.loop import State
from resnetlab.training.recipe import Recipe

SAVE_EVERY_SECONDS = 60.0
WAIT_FOR_LOCK_SECONDS = 5.0  # time for a run that is stopping to save
SHOWN_DIFFERENCES = 5
ENDED = "a schedule of the learning rate that has ended is not continued"


class RunFolder:
    """One run on disk. Metrics are identical for equal runs; times are in the log.

    Only one process `writes`; in the others, all writing methods do nothing.
    """

    def __init__(self, path: Path, config: Line, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.config = config
        self._lines = 0
        self._saved_at = time.monotonic()
        self._saved_step = 0

    @classmethod
    def follow(cls, path: Path, config: Line) -> "RunFolder":
        """The run that rank 0 opened, for use in the other processes."""
        return cls(path, config, writes=False)

    @classmethod
    @contextmanager
    def open(cls, path: Path, config: Line) -> Iterator["RunFolder"]:
        """Create or reopen the run with this configuration at `path`, and lock it against other processes.

        Raises:
            ResnetlabError: `path` holds another run or other files, or is in use.
        """
        if path.exists() and not path.is_dir():
            raise ResnetlabError(f"{path} is a file; give another folder with `out`")
        known = path / CONFIG
        if not known.exists() and holds_others(path):
            raise ResnetlabError(f"{path} is not empty and not a run folder; give another folder with `out`")
        made = [each for each in (path, *path.parents) if not each.exists()]
        is_new, before = not known.exists(), set(path.iterdir()) if path.exists() else set()
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / LOCK, timeout=WAIT_FOR_LOCK_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ResnetlabError(
                f"{path} is in use by another process; wait for it, or give another folder with `out`"
            ) from None
        try:
            if known.exists():
                found = read_config(path)
                _refuse_another_run(path, _with_defaults(found, config), config)
            else:
                write_json(known, config)
            yield cls(path, config)
        except FileNotFoundError:
            _refuse_removed(path)
            raise
        except ResnetlabError:
            if is_new and not (path / LOG).exists():  # refused before the first step: leave nothing behind
                _remove(path, made, before)
            raise
        finally:
            lock.release()

    @property
    def mean_file(self) -> Path:
        """The file of the mean training image."""
        return mean_file(self.path)

    @property
    def sample_file(self) -> Path:
        """The picture of the first training images."""
        return sample_file(self.path)

    @property
    def settings(self) -> Line:
        """How the run is executed (not part of its identity); empty before its first start."""
        return read_settings(self.path) if is_started(self.path) else {}

    def set_settings(self, settings: Line) -> None:
        """Save how the run is executed, for later starts."""
        if self.writes:
            write_json(self.path / EXECUTION, settings)

    @property
    def result(self) -> Line | None:
        """The result of a finished run."""
        return read_result(self.path)

    def resume(self, state: State) -> list[str]:
        """Restore the last sound checkpoint into a new state, and drop metrics that were written after it.

        Returns what is to be said of damaged checkpoints and lost metrics.
        """
        iterations = int(self.config["recipe"]["iterations"])
        metrics = self.path / METRICS
        lines = read_lines(metrics)
        restored = checkpoint.restore(self.path / "checkpoints", state, iterations, lines)
        self._saved_step = state.step
        messages = [f"{problem}; the checkpoint before it is used" for problem in restored.damaged]
        kept = lines[: restored.metrics_lines]
        if not restored.sound:
            kept = _readable(kept, state.step)
            lost = restored.metrics_lines - len(kept)
            messages.append(f"{metrics} was changed, or has lost lines; the curves lack {lost:,} of its lines")
        self._lines = len(kept)
        wait_for_all()  # all have chosen the same checkpoint by the same lines
        if self.writes:
            with replacing(metrics) as temporary:
                temporary.write_bytes(b"".join(line + b"\n" for line in kept))
        return messages

    def add_metrics(self, line: Line) -> None:
        """Append a line to the metrics."""
        if not self.writes:
            return
        _append(self.path / METRICS, line)
        self._lines += 1

    def log(self, event: str, **details: object) -> None:
        """Append an event to the log, which has everything that depends on machine and time."""
        if not self.writes:
            return
        _append(self.path / LOG, {"event": event, "time": round(time.time(), 3), **details})

    def save(self, state: State) -> None:
        """Write a checkpoint, unless this step has one.

        Raises:
            DivergedError: a weight is not finite; the last checkpoint stays.
        """
        if not self.writes:
            return
        if self._saved_step != state.step:
            _refuse_removed(self.path)
            state.check_finite()
            if self._lines:
                sync(self.path / METRICS)
            checkpoint.save(self.path / "checkpoints", state, read_lines(self.path / METRICS)[: self._lines])
        self._saved_at, self._saved_step = time.monotonic(), state.step

    def save_if_due(self, state: State) -> None:
        """Write a checkpoint if the last one is at least a minute old."""
        if time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS:
            self.save(state)

    def model_file(self, best: bool = False) -> Path:
        """The run's model file, or that of its best network so far."""
        return self.path / ("best.safetensors" if best else MODEL_FILE)

    def keep_best_model(self) -> None:
        """Make the best network the run's model."""
        if self.writes:
            with replacing(self.model_file()) as temporary:
                temporary.write_bytes(self.model_file(best=True).read_bytes())

    def finish(self, result: Line) -> None:
        """Write the result, which marks the run as finished."""
        if self.writes:
            write_json(self.path / RESULT, result | {CHECKSUM: checksum(result)})


def _refuse_removed(path: Path) -> None:
    """
    Raises:
        ResnetlabError: the run is no longer in its folder.
    """
    if not (path / CONFIG).exists():
        raise ResnetlabError(f"{path} was removed or moved while it was trained, so nothing more is saved in it")


def _remove(path: Path, made: list[Path], before: set[Path]) -> None:
    """Remove what a run wrote before it was refused, and the folders that it made; `before` was there."""
    for each in set(path.iterdir()) - before:
        each.unlink()
    for folder in made:
        if any(folder.iterdir()):  # another run's is beside it
            break
        folder.rmdir()


def _readable(lines: list[bytes], step: int) -> list[bytes]:
    """The lines that are sound and of before this step; the last point of a run is measured again."""
    found = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            point = json.loads(line)
            if is_sound(point) and point["step"] < step:
                found.append(line)
    return found


def _append(path: Path, line: Line) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _refuse_another_run(path: Path, found: Line, asked: Line) -> None:
    differences = [f"{name} is {old!r} there and {new!r} here" for name, old, new in _differences(found, asked)]
    if differences:
        more = len(differences) - SHOWN_DIFFERENCES
        listed = "; ".join(differences[:SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        longer = ""
        if read_result(path) is not None and found["recipe"]["iterations"] != asked["recipe"]["iterations"]:
            longer = f". It is finished, and {ENDED}; `from_={path}` starts from its weights"
        raise ResnetlabError(f"{path} holds another run: {listed}{longer}. Give another folder with `out`")


def _with_defaults(found: Line, asked: Line) -> Line:
    """Add fields that are newer than this configuration, at the defaults that it ran with."""
    network = {field.name: field.default for field in fields(Architecture) if field.default is not MISSING}
    said = {"recipe": asdict(Recipe()), "network": network, "task": CLASSIFICATION.description}
    defaults = json.loads(json.dumps(said))
    found = {"task": defaults["task"]} | found
    if found.get("recipe", {}).get("name") == "modern" and "mixup" not in found["recipe"]:
        found = found | {"recipe": found["recipe"] | {"name": "modern-short"}}  # its name in earlier versions
    for part in defaults.keys() & found.keys() & asked.keys():
        added = {key: value for key, value in defaults[part].items() if key in asked[part]}
        found = found | {part: added | found[part]}
    return found


def _differences(a: Line, b: Line, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    for key in {**a, **b}:
        old, new = a.get(key), b.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield prefix + key, old, new
