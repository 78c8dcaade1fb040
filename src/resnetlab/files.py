"""Files: atomic writes (a file is complete or does not exist), JSON Lines, hashes."""

import csv
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from resnetlab.errors import ResnetlabError

LARGEST = 1 << 30  # bytes of a file that is read at once
LEFT_SECONDS = 3600.0
T = TypeVar("T")
_swept: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder; rename it to `path` once it is on disk.

    On failure, `path` is unchanged and the temporary file or folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield temporary
        for file in temporary.iterdir() if temporary.is_dir() else [temporary]:
            sync(file)
        temporary.replace(path)
        sync(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def _remove_left_behind(folder: Path) -> None:
    """Remove the temporary files of processes that were killed; once per folder and process.

    A process of another machine may have any number, so only files that nobody wrote for an hour are removed.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    for path in folder.glob(".*.new"):
        number = path.name.split(".")[-2]
        try:
            is_old = time.time() - path.stat().st_mtime > LEFT_SECONDS
            if number.isdecimal() and is_old and not _is_alive(int(number)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:  # it is gone, or not ours to remove
            continue


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def holds_others(folder: Path, own: Iterable[str] = ()) -> bool:
    """Whether a path is a file, or a folder with other files. Hidden ones do not count: killed writes leave them."""
    if not folder.is_dir():
        return folder.exists()
    return any(path.name not in own and not path.name.startswith(".") for path in folder.iterdir())


def refuse_others(folder: Path, own: Iterable[str]) -> None:
    """Refuse to write an evaluation into a folder that is not new, empty or one of these files.

    Raises:
        ResnetlabError: it holds other files.
    """
    if holds_others(folder, own):
        raise ResnetlabError(f"{folder} holds other files than an evaluation; give a new folder with `out`")


def read_regular(path: Path | str, offset: int = 0, size: int | None = None, most: int = LARGEST) -> bytes:
    """The content of a regular file, or `size` bytes from `offset`. Pipes, sockets and devices are not waited for.

    Raises:
        OSError: it is missing, no regular file, larger than `most` bytes, or cannot be read.
    """
    with open_regular(path) as file:
        if size is None and (found := os.fstat(file.fileno()).st_size) > most:
            raise OSError(f"its {found:,} bytes are more than the {most:,} that are read")
        file.seek(offset)
        return file.readall() if size is None else file.read(size)


def open_regular(path: Path | str) -> FileIO:
    """A regular file for reading, unbuffered; pipes, sockets and devices are not waited for.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file")
    return FileIO(descriptor)


def read_text(path: Path, errors: str = "strict", most: int = LARGEST) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; see `bytes.decode` for `errors`.

    Raises:
        ResnetlabError: it cannot be read, or is no text.
    """
    try:
        return read_regular(path, most=most).decode("utf-8-sig", errors)
    except FileNotFoundError:
        raise ResnetlabError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise ResnetlabError(f"{path} cannot be read as text in UTF-8: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ResnetlabError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ResnetlabError):
            raise
        raise ResnetlabError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ResnetlabError(f"{path} is damaged: it is not a JSON object")
    return content


def in_form(content: Any, form: type[T], damaged: str) -> T:
    """What was read from JSON, as an object of a dataclass or a struct of msgspec.

    Raises:
        ResnetlabError: a part is missing or has another type; it is named after `damaged`.
    """
    import msgspec

    try:
        return msgspec.convert(content, form)
    except (msgspec.ValidationError, UnicodeError) as error:  # the latter of half a surrogate pair
        said = str(error).replace("`", "'")  # in which the command line would see options
        raise ResnetlabError(f"{damaged}: {said}") from None


def places_under(folder: Path, paths: Sequence[Path], suffix: str) -> dict[Path, Path]:
    """Where files that are made of others go: as those lie below their common folder, each with a path of its own."""
    absolute = {path: Path(os.path.abspath(path)) for path in paths}  # noqa: PTH100 -- without ..
    above = Path(os.path.commonpath([path.parent for path in absolute.values()])) if paths else Path()
    found: dict[Path, Path] = {}
    taken = set[Path]()
    for path in dict.fromkeys(paths):
        place = folder / absolute[path].relative_to(above).with_suffix(suffix)
        name, number = place.stem, 1
        while place in taken:  # files that differ only in their suffixes
            number += 1
            place = place.with_stem(f"{name}-{number}")
        taken.add(place)
        found[path] = place
    return found


def resolved(path: Path) -> Path:
    """The absolute path without links; a link that leads to itself stays as it is."""
    return Path(os.path.realpath(path))


def refuse_inside(folder: Path, paths: Iterable[Path], option: str) -> None:
    """Refuse to write beside the images that are read.

    Raises:
        ResnetlabError: one of the files lies in the folder.
    """
    place = resolved(folder)
    for path in paths:
        if place in resolved(path).parents:
            raise ResnetlabError(f"{folder} holds {path.name}, which is read; give another folder with `{option}`")


@contextmanager
def csv_writer(path: Path) -> Iterator[Any]:
    """A writer of a CSV file in UTF-8, whole or not at all; names that are not UTF-8 keep their bytes."""
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        yield csv.writer(file)


def write_json(path: Path, content: object) -> None:
    """Write `content` atomically as indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_lines(path: Path) -> list[bytes]:
    """The complete lines of a file; none if it does not exist. An incomplete last line is ignored.

    Raises:
        ResnetlabError: it cannot be read.
    """
    try:
        *lines, _ = read_regular(path).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResnetlabError(f"{path} cannot be read: {error}") from None
    return lines


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSON Lines file; an incomplete last line is ignored.

    Raises:
        ResnetlabError: it cannot be read, or a line is no JSON object.
    """
    found = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ResnetlabError(f"{path}, line {number} is damaged ({error}); repair or remove the line") from None
        if not isinstance(found[-1], dict):
            raise ResnetlabError(f"{path}, line {number} is no JSON object; repair or remove the line")
    return found


def sha256(path: Path) -> str:
    """The SHA-256 of a regular file's content, as hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to disk (fsync)."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
