"""What all commands share: the application, the console, types of options, checks."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro
from rich.console import Console
from rich.progress import track

from resnetlab.data import ImageSet
from resnetlab.data.listing import Listing
from resnetlab.errors import ResnetlabError
from resnetlab.report.terminal import PLAIN_EVERY_SECONDS
from resnetlab.training.distributed import World

T = TypeVar("T")
Count = Annotated[int | None, tyro.conf.arg(metavar="N")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Option = Annotated[Literal["A", "B", "C"] | None, tyro.conf.arg(metavar="{A,B,C}")]
Place = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
app = tyro.extras.SubcommandApp()
console = Console(quiet=not World.here().main)  # of several processes, one speaks


def say(text: str) -> None:
    """One line as it is, however wide the terminal."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def watched(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """The items, with a bar of progress and the time left, on a terminal; elsewhere with a line now and then."""
    if console.is_terminal:
        return track(items, what, total, console=console, transient=True)
    return _told(items, what, total)


def _told(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    begun = told = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told > PLAIN_EVERY_SECONDS:
            told = now
            left = f", {timedelta(seconds=round((now - begun) / number * (total - number)))} left" if total else ""
            say(f"{what}: {number:,}" + (f" of {total:,}" if total else "") + left)


def complain(text: str) -> None:
    """One line about what went wrong, as it is, to the standard error."""
    Console(stderr=True).print(text, highlight=False, soft_wrap=True, markup=False)


def at_least_one(**options: int | None) -> None:
    """Refuse counts below 1.

    Raises:
        ResnetlabError: names the option.
    """
    for name, value in options.items():
        if value is not None and value < 1:
            raise ResnetlabError(f"--{name.replace('_', '-')} {value}: it must be at least 1")


def introduce(images: ImageSet | Listing) -> None:
    """Say what a data set is."""
    if isinstance(images, Listing):
        validation = f", {len(images.validation):,} validation" if images.validation is not None else ""
        say(
            f"{images.name}: {len(images.train):,} training{validation} and {len(images.test):,} test images, "
            f"{len(images.classes)} classes; {images.note}"
        )
        return
    channels, height, width = images.image_shape
    say(
        f"{images.name}: {len(images.train):,} training and {len(images.test):,} test images of {width}x{height} "
        f"pixels, {channels} channel{'s' * (channels > 1)}, {len(images.classes)} classes; "
        f"{images.note or 'official split'}",
    )
