"""The files of a run: their names, and what is read of them. A run is written by `folder.RunFolder`."""

import json
import os
import shlex
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import filelock

from resnetlab.errors import ResnetlabError
from resnetlab.files import read_json_lines, read_object, write_json
from resnetlab.runs.configuration import check_form

CONFIG, EXECUTION, RESULT = "config.json", "execution.json", "result.json"
METRICS, LOG, LOCK = "metrics.jsonl", "log.jsonl", ".lock"
CHECKSUM = "checksum"
PLACES = {"source": str, "data_dir": str}
"""Where the data of a run is."""
EXECUTED = {"device": str, "threads": int, "workers": int, "compiled": bool, "captured": bool, "recomputed": bool}
EXECUTED |= {"kernels": str}
"""How a run was executed; earlier versions wrote fewer of them."""
Line = dict[str, Any]


def read_config(path: Path) -> Line:
    """The configuration of a run folder.

    Raises:
        ResnetlabError: there is none, or it is damaged.
    """
    config = _read_json(path / CONFIG)
    check_form(path / CONFIG, config)
    return config


def read_settings(path: Path) -> Line:
    """How the run was last started, and the location of its data.

    Raises:
        ResnetlabError: there is none, or it is damaged.
    """
    settings = _read_json(path / EXECUTION)
    if missing := [name for name in PLACES if name not in settings]:
        raise ResnetlabError(
            f"{path / EXECUTION} is damaged: {missing[0]} is missing; remove the file and give the command that "
            "trained the run again, which writes it again"
        )
    _check_types(path / EXECUTION, settings, PLACES | EXECUTED)
    return settings


def read_result(path: Path) -> Line | None:
    """The result in a run folder, or None if the run has not finished.

    Raises:
        ResnetlabError: it is damaged, or was changed.
    """
    if not is_finished(path):
        return None
    result = _read_json(path / RESULT)
    if result.pop(CHECKSUM, checksum(result)) != checksum(result):
        raise ResnetlabError(
            f"{path / RESULT} was changed: its checksum is another; remove it and give the command that "
            "trained the run again, which measures its result again"
        )
    return result


def read_curve(path: Path) -> list[Line]:
    """The points of a run's curves so far, by step.

    Raises:
        ResnetlabError: a line is damaged.
    """
    points = [line for line in read_json_lines(path / METRICS) if "event" not in line]
    for point in points:
        if not is_sound(point):
            file = path / METRICS
            raise ResnetlabError(f"{file} has a line that is no point of a curve: {str(point)[:100]}")
    return points


def is_started(path: Path) -> bool:
    """Whether a run was started in this folder."""
    return (path / EXECUTION).exists()


def is_finished(path: Path) -> bool:
    """Whether the run in this folder has a result."""
    return (path / RESULT).exists()


def curve_size(path: Path) -> int:
    """Size of the metrics file in bytes, to detect new metrics."""
    metrics = path / METRICS
    return metrics.stat().st_size if metrics.exists() else -1


def last_change(path: Path) -> float:
    """When a run last wrote to its log or metrics, in seconds since 1970; 0 for none."""
    files = (path / METRICS, path / LOG, path / CONFIG)
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
    return (path / CONFIG).is_file() and (path / EXECUTION).is_file()


def walk(place: Path) -> Iterator[tuple[Path, bool]]:
    """A folder and all below it, each with whether it is one of a run; what is in a run's folder is not visited."""
    for text, folders, _ in os.walk(place):
        found = is_run(Path(text))
        folders[:] = [] if found else sorted(folders)
        yield Path(text), found


def is_in_use(path: Path) -> bool:
    """Whether a process is training a run."""
    lock = path / LOCK
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
    events = read_json_lines(path / LOG)
    for event in events:
        numbers = [event.get(name, 0) for name in ("time", "step")]
        texts = [event.get("event"), event.get("command", "")]
        if not (all(type(n) in (int, float) for n in numbers) and all(isinstance(text, str) for text in texts)):
            raise ResnetlabError(f"{path / LOG} is damaged: {str(event)[:100]}")
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


def checksum(result: Line) -> int:
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


def is_sound(line: Any) -> bool:
    """Whether a line of the metrics has a step, and numbers."""
    numbers = isinstance(line, dict) and all(
        isinstance(value, int | float) for key, value in line.items() if key != "event"
    )
    return numbers and type(line.get("step")) is int
