"""The run folder: configuration, metrics, checkpoints, result. Only this module knows its file names."""

import json
import os
import shlex
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import filelock

from resnetlab.errors import ResnetlabError
from resnetlab.files import holds_others, read_json_lines, read_lines, read_object, replacing, sync, write_json
from resnetlab.models.modelfile import MODEL_FILE
from resnetlab.networks.architecture import Architecture
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training import checkpoint
from resnetlab.training.distributed import wait_for_all
from resnetlab.training.loop import State
from resnetlab.training.recipe import Recipe

SAVE_EVERY_SECONDS = 60.0
WAIT_FOR_LOCK_SECONDS = 5.0  # time for a run that is stopping to save
SHOWN_DIFFERENCES = 5
CHECKSUM = "checksum"
ENDED = "a schedule of the learning rate that has ended is not continued"
Line = dict[str, Any]


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
        known = path / "config.json"
        if not known.exists() and holds_others(path):
            raise ResnetlabError(f"{path} is not empty and not a run folder; give another folder with `out`")
        made = [each for each in (path, *path.parents) if not each.exists()]
        is_new, before = not known.exists(), set(path.iterdir()) if path.exists() else set()
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / ".lock", timeout=WAIT_FOR_LOCK_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ResnetlabError(
                f"{path} is in use by another process; wait for it, or give another folder with `out`"
            ) from None
        try:
            if known.exists():
                found = read_config(path)
                if lacking := [
                    name for name in ("data", "network", "recipe", "seed") if name in config.keys() - found
                ]:
                    raise ResnetlabError(f"{known} is damaged: it lacks {', '.join(lacking)}")
                _refuse_another_run(path, _with_defaults(found, config), config)
            else:
                write_json(known, config)
            yield cls(path, config)
        except FileNotFoundError:
            _refuse_removed(path)
            raise
        except ResnetlabError:
            if is_new and not (path / "log.jsonl").exists():  # refused before the first step: leave nothing behind
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
            write_json(self.path / "execution.json", settings)

    @property
    def result(self) -> Line | None:
        """The result of a finished run."""
        return read_result(self.path)

    def resume(self, state: State) -> list[str]:
        """Restore the last sound checkpoint into a new state, and drop metrics that were written after it.

        Returns what is to be said of damaged checkpoints and lost metrics.
        """
        iterations = int(self.config["recipe"]["iterations"])
        metrics = self.path / "metrics.jsonl"
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
        _append(self.path / "metrics.jsonl", line)
        self._lines += 1

    def log(self, event: str, **details: object) -> None:
        """Append an event to the log, which has everything that depends on machine and time."""
        if not self.writes:
            return
        _append(self.path / "log.jsonl", {"event": event, "time": round(time.time(), 3), **details})

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
                sync(self.path / "metrics.jsonl")
            checkpoint.save(self.path / "checkpoints", state, read_lines(self.path / "metrics.jsonl")[: self._lines])
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
            write_json(self.path / "result.json", result | {CHECKSUM: _checksum(result)})


def read_config(path: Path) -> Line:
    """The configuration of a run folder.

    Raises:
        ResnetlabError: there is none, or it is damaged.
    """
    config = _read_json(path / "config.json")
    _check_types(
        path / "config.json", config, {"data": dict, "network": dict, "recipe": dict, "seed": int, "task": dict}
    )
    _check_types(path / "config.json", config.get("recipe", {}), {"iterations": int, "name": str})
    return config


def read_settings(path: Path) -> Line:
    """How the run was last started, and the location of its data.

    Raises:
        ResnetlabError: there is none, or it is damaged.
    """
    settings = _read_json(path / "execution.json")
    _check_types(path / "execution.json", settings, {"source": str, "data_dir": str})
    return settings


def read_result(path: Path) -> Line | None:
    """The result in a run folder, or None if the run has not finished.

    Raises:
        ResnetlabError: it is damaged, or was changed.
    """
    if not is_finished(path):
        return None
    result = _read_json(path / "result.json")
    if result.pop(CHECKSUM, _checksum(result)) != _checksum(result):
        raise ResnetlabError(
            f"{path / 'result.json'} was changed: its checksum is another; remove it and give the command that "
            "trained the run again, which measures its result again"
        )
    return result


def read_curve(path: Path) -> list[Line]:
    """The points of a run's curves so far, by step.

    Raises:
        ResnetlabError: a line is damaged.
    """
    points = [line for line in read_json_lines(path / "metrics.jsonl") if "event" not in line]
    for point in points:
        if not _is_sound(point):
            file = path / "metrics.jsonl"
            raise ResnetlabError(f"{file} has a line that is no point of a curve: {str(point)[:100]}")
    return points


def is_started(path: Path) -> bool:
    """Whether a run was started in this folder."""
    return (path / "execution.json").exists()


def is_finished(path: Path) -> bool:
    """Whether the run in this folder has a result."""
    return (path / "result.json").exists()


def curve_size(path: Path) -> int:
    """Size of the metrics file in bytes, to detect new metrics."""
    metrics = path / "metrics.jsonl"
    return metrics.stat().st_size if metrics.exists() else -1


def last_change(path: Path) -> float:
    """When a run last wrote to its log or metrics, in seconds since 1970; 0 for none."""
    files = (path / "metrics.jsonl", path / "log.jsonl", path / "config.json")
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def scores_file(path: Path, protocol: str) -> Path:
    """The file of the network's scores under a test protocol."""
    return path / f"scores-{protocol}.safetensors"


def read_measurements(path: Path, name: str, settings: Line) -> Line | None:
    """A study's measurements on this run's network, if they were made with these settings; None is any."""
    kept = path / "measurements" / f"{name}.json"
    found = _read_json(kept) if kept.exists() else {}
    asked = {key: value for key, value in settings.items() if value is not None}
    return found["measured"] if found and asked.items() <= found["settings"].items() else None


def write_measurements(path: Path, name: str, settings: Line, measured: Line) -> None:
    """Keep a study's measurements on this run's network."""
    write_json(path / "measurements" / f"{name}.json", {"settings": settings, "measured": measured})


def sample_file(path: Path) -> Path:
    """The picture of the first training images."""
    return path / "sample.png"


def is_run(path: Path) -> bool:
    """Whether a folder is one of a run."""
    return (path / "config.json").is_file() and (path / "execution.json").is_file()


def walk(place: Path) -> Iterator[tuple[Path, bool]]:
    """A folder and all below it, each with whether it is one of a run; what is in a run's folder is not visited."""
    for text, folders, _ in os.walk(place):
        found = is_run(Path(text))
        folders[:] = [] if found else sorted(folders)
        yield Path(text), found


def is_in_use(path: Path) -> bool:
    """Whether a process is training a run."""
    lock = path / ".lock"
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # not ours to lock
        return False


def read_log(path: Path) -> list[Line]:
    """The events of a run, in order.

    Raises:
        ResnetlabError: a line of the log is damaged.
    """
    events = read_json_lines(path / "log.jsonl")
    for event in events:
        numbers = [event.get(name, 0) for name in ("time", "step")]
        texts = [event.get("event"), event.get("command", "")]
        if not (all(type(n) in (int, float) for n in numbers) and all(isinstance(text, str) for text in texts)):
            raise ResnetlabError(f"{path / 'log.jsonl'} is damaged: {str(event)[:100]}")
    return [{"time": 0, "step": 0, **event} for event in events]


def last_command(path: Path) -> str:
    """The command that last started a run, without the place of the program; empty if the log does not say it.

    Raises:
        ResnetlabError: a line of the log is damaged.
    """
    started = [line for line in read_log(path) if line.get("event") == "start"]
    typed = started[-1].get("command", "") if started else ""
    with suppress(ValueError):  # quotes that do not end
        return shlex.join(["resnetlab", *shlex.split(typed)[1:]]) if typed else ""
    return str(typed)


def mean_file(path: Path) -> Path:
    """The file of the mean training image."""
    return path / "mean.safetensors"


def analysis_folder(path: Path) -> Path:
    """The folder of the records that are made of this run alone."""
    return path / "analysis"


def evaluation_folder(path: Path) -> Path:
    """The folder of a finished run's evaluation by class."""
    return path / "evaluation"


def picture_file(path: Path) -> Path:
    """The path of the picture of a run's curves, without suffix."""
    return path / "curves"


def tensorboard_folder(path: Path) -> Path:
    """The folder of a run's curves for TensorBoard."""
    return path / "tensorboard"


def _checksum(result: Line) -> int:
    """The CRC-32 of a result, to detect damage; earlier versions wrote none."""
    return zlib.crc32(json.dumps(result, sort_keys=True).encode())


def _check_types(path: Path, said: Line, types: dict[str, type]) -> None:
    """
    Raises:
        ResnetlabError: a part that is there has another type.
    """
    for name, expected in types.items():
        if name in said and type(said[name]) is not expected:
            raise ResnetlabError(f"{path} is damaged: {name} is {str(said[name])[:100]}")


def _read_json(path: Path) -> Line:
    if not path.exists():
        raise ResnetlabError(f"{path.parent} is not a run folder: it has no {path.name}")
    return read_object(path)


def _refuse_removed(path: Path) -> None:
    """
    Raises:
        ResnetlabError: the run is no longer in its folder.
    """
    if not (path / "config.json").exists():
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
            if _is_sound(point) and point["step"] < step:
                found.append(line)
    return found


def _is_sound(line: Any) -> bool:
    """Whether a line of the metrics has a step, and numbers."""
    numbers = isinstance(line, dict) and all(
        isinstance(value, int | float) for key, value in line.items() if key != "event"
    )
    return numbers and type(line.get("step")) is int


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
