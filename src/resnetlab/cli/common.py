"""Shared by all commands: console, progress, checks of options."""

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from resnetlab.cli.command import flags
from resnetlab.errors import ResnetlabError, printable
from resnetlab.training.recipe import Recipe

if TYPE_CHECKING:
    from resnetlab.choices import DeviceName
    from resnetlab.report.record import Record, Table

T = TypeVar("T")
RUNS = Path("runs")
"""Where runs are, unless the command says another place."""
PLAIN_EVERY_SECONDS = 15.0
main_process = os.environ.get("RANK", "0") == "0"
console = Console(quiet=not main_process)  # only rank 0 prints


def say(text: str) -> None:
    """Print one line without wrapping or markup."""
    console.print(shown(as_flags(text)), highlight=False, soft_wrap=True, markup=False)


def complain(text: str) -> None:
    """Print one line to standard error without wrapping or markup."""
    Console(stderr=True).print(shown(as_flags(text)), highlight=False, soft_wrap=True, markup=False)


def shown(text: str) -> str:
    """Text for a terminal: names of files and classes may hold control characters, which it would obey."""
    return "\n".join(map(printable, text.split("\n")))


def as_flags(text: str) -> str:
    """Replace option names in Python, as in `batch_size=64`, by the flags of the command line."""
    recipe = {field.name for field in fields(Recipe)}

    def flag(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        name = name.rstrip("_")
        if name in flags:
            return f"--{flags[name].replace('_', '-')}" + (f" {value[1:]}" if value else "")
        if name in recipe:
            return f"--set {name}{value or '=...'}"
        return match[0]

    return re.sub(r"`([a-z_0-9]+)(=[^`]*)?`", flag, text)


def watched(items: Iterable[T], what: str, total: int | None = None, *, aside: bool = False) -> Iterable[T]:
    """Yield the items with a progress bar and the remaining time; without a terminal, with a line every 15 s.

    `aside` is on standard error, where standard output has results.
    """
    shown = Console(stderr=True, quiet=not main_process) if aside else console
    if shown.is_terminal:
        from rich.progress import track

        return track(items, what, total, console=shown, transient=True)
    return _told(items, what, total, complain if aside else say)


def _told(items: Iterable[T], what: str, total: int | None, tell: Callable[[str], None]) -> Iterator[T]:
    begun = told = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told > PLAIN_EVERY_SECONDS:
            told = now
            left = f", {timedelta(seconds=round((now - begun) / number * (total - number)))} left" if total else ""
            tell(f"{what}: {number:,}" + (f" of {total:,}" if total else "") + left)


MOST = {"threads": 4096, "workers": 4096, "image_size": 16_384, "narrow": 1024, "folds": 1000}
"""The largest values of some counts; of others 10^12."""


def at_least_one(*groups: object, **options: int | None) -> None:
    """Refuse counts below 1, or impossibly large: options, and every whole number in dataclasses of options.

    Raises:
        ResnetlabError: names the option.
    """
    for name, value in options.items():
        if value is not None and value < 1:
            raise ResnetlabError(f"`{name}={value}`: it must be at least 1")
        if value is not None and value > (most := MOST.get(name, 10**12)):
            raise ResnetlabError(f"`{name}={value}`: it must be at most {most:,}")
    for group in groups:
        found = vars(group)
        at_least_one(*filter(is_dataclass, found.values()), **{k: v for k, v in found.items() if type(v) is int})


def runs_in(places: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders that are given, or the usual one.

    Raises:
        ResnetlabError: none is given, and there is no usual one.
    """
    if not places and not RUNS.is_dir():
        raise ResnetlabError(f"{RUNS}/ does not exist; give the folder of a run, or of several")
    return places or (RUNS,)


def counted(number: int, one: str, several: str = "") -> str:
    """A number of things, e.g. "1 image" or "1,200 images"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def ends_in(option: str, path: Path | None, *suffixes: str) -> None:
    """Refuse a file name with another suffix, or a folder.

    Raises:
        ResnetlabError: names the option.
    """
    if path is not None and (path.suffix not in suffixes or path.is_dir()):
        raise ResnetlabError(f"`{option}={path}`: expected a file name that ends in {' or '.join(suffixes)}")


def provenance(device: "DeviceName") -> dict[str, object]:
    """The command as it was typed, versions and machine."""
    from resnetlab.runs.settings import choose_device
    from resnetlab.training.provenance import environment

    return {"command": shlex.join(["resnetlab", *sys.argv[1:]]), **environment(choose_device(device))}


def show_record(record: "Record", folder: Path, *, tables: bool = True) -> None:
    """Write a record, its page and its pictures, and print its sentences and `tables`."""
    from resnetlab.report.writing import write_record

    written = write_record(record, folder)
    for table in record.tables if tables else ():
        print_table(table)
    console.print(" ".join(record.sentences), highlight=False, markup=False)
    first, *others = [path.suffix for path in written if path.stem == record.name]
    say(f"Record, page and pictures: {folder / record.name}{first} {' '.join(others)}")


def print_table(table: "Table") -> None:
    """Print a table and its note; if it is too wide for the terminal, one line per cell."""
    from resnetlab.cli.terminal import grid

    if table.title:
        console.print(table.title, style="bold", highlight=False)
    console.print(grid(table, console.width))
    if table.note:
        console.print(table.note, style="dim", highlight=False)
