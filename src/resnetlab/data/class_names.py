"""Class names in the usual order of class numbers."""

import functools
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from resnetlab.errors import ResnetlabError, printable
from resnetlab.files import read_text

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@functools.cache
def cifar100() -> tuple[str, ...]:
    """The 100 fine classes of CIFAR-100, in order."""
    return tuple((files("resnetlab.data") / "cifar100.txt").read_text().splitlines())


@functools.cache
def imagenet() -> dict[str, str]:
    """The 1000 classes of the ImageNet challenge, in order: WordNet id (the class folder's name) to English name."""
    lines = (files("resnetlab.data") / "imagenet.txt").read_text().splitlines()
    return {line[:9]: line[10:] for line in lines}


def read_classes(source: str) -> tuple[str, ...]:
    """Class names of a data set (imagenet, cifar10, cifar100), or from a text file with one name per line.

    Raises:
        ResnetlabError: neither a known name nor a readable file, or empty or repeated names.
    """
    named = {"imagenet": tuple(imagenet()), "cifar10": CIFAR10, "cifar100": cifar100()}
    if source in named:
        return named[source]
    if not Path(source).is_file():
        raise ResnetlabError(
            f"`classes={source}`: expected imagenet, cifar10, cifar100 or a text file with one name per line"
        )
    names = tuple(line.strip() for line in read_text(Path(source)).splitlines())
    if not all(names) or len(set(names)) != len(names):
        odd = next((name for name in names if names.count(name) > 1), "an empty line")
        raise ResnetlabError(f"{source}: every line must name a different class; found {odd!r} again")
    return names


def check_names(names: Iterable[str], source: Path) -> None:
    """Refuse names of classes that are no text: they are written into files of lines, and shown.

    Raises:
        ResnetlabError: one is empty, or has control characters or bytes that are not UTF-8.
    """
    for name in names:
        if not is_name(name):
            raise ResnetlabError(
                f"{source}: {name!r} is no name of a class: it is empty, has control characters, or is not UTF-8"
            )


def is_name(name: str) -> bool:
    """Whether a text can be the name of a class; see `check_names`."""
    return bool(name.strip()) and printable(name) == name


def usual_classes(count: int, image_size: int) -> tuple[str, ...]:
    """The names of the known data set with this number of classes and image size, otherwise numbers."""
    usual = {(1000, 224): tuple(imagenet()), (10, 32): CIFAR10, (100, 32): cifar100()}
    return usual.get((count, image_size), numbered(count))


def numbered(count: int) -> tuple[str, ...]:
    """Class numbers as names, for unknown class names."""
    return tuple(str(k) for k in range(count))


def spoken(name: str) -> str:
    """A class name for display; ImageNet's WordNet ids get their English name."""
    english = imagenet().get(name)
    return f"{english} ({name})" if english else name
