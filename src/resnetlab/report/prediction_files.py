"""Write predictions to files, and sort images into folders by class."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab.data.class_names import imagenet
from resnetlab.errors import ResnetlabError
from resnetlab.files import csv_writer, holds_others, places_under, replacing, resolved, write_json
from resnetlab.inference.predict import Prediction

UNSURE, UNFAMILIAR = "unsure", "unfamiliar"
"""Columns, and folders of `sort_into`."""


@dataclass(frozen=True)
class Marked:
    """A prediction, and whether its likeliest class has a lower probability than asked for; None: not asked."""

    prediction: Prediction
    unsure: bool | None = None

    @property
    def marks(self) -> dict[str, bool]:
        """What is to be said of the image beside its classes."""
        found = {UNSURE: self.unsure, UNFAMILIAR: self.prediction.unfamiliar}
        return {name: value for name, value in found.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """The image, its likeliest classes with probabilities, likeliest first, and the marks."""
        pairs = zip(self.prediction.classes, self.prediction.probabilities, strict=True)
        classes = [{"class": name, **english(name), "probability": round(share, 6)} for name, share in pairs]
        return {"image": str(self.prediction.path), "classes": classes, **self.marks}


def english(name: str) -> dict[str, str]:
    """The English name of a class of ImageNet."""
    return {"name": imagenet()[name]} if name in imagenet() else {}


def write_predictions(path: Path, found: Sequence[Marked]) -> None:
    """Write a .csv or .json file, whole or not at all.

    The columns are image, for each rank class (for ImageNet with English name) and probability, and the marks.
    """
    if path.suffix == ".json":
        write_json(path, [each.to_json() for each in found])
        return
    with csv_writer(path) as writer:
        writer.writerows(_rows(found))


def _rows(found: Sequence[Marked]) -> Iterator[list[str]]:
    predictions = [each.prediction for each in found]
    english = any(name in imagenet() for each in predictions for name in each.classes)
    ranks = range(1, 1 + max((len(each.classes) for each in predictions), default=0))
    kinds = ("class", "name", "probability") if english else ("class", "probability")
    marks = list(dict.fromkeys(name for each in found for name in each.marks))
    yield ["image", *(f"{kind}_{rank}" for rank in ranks for kind in kinds), *marks]
    for each in found:
        cells: list[str] = []
        for name, share in zip(each.prediction.classes, each.prediction.probabilities, strict=True):
            cells += [name, *([imagenet().get(name, "")] if english else []), f"{share:.6f}"]
        yield [str(each.prediction.path), *cells, *("yes" if each.marks[mark] else "no" for mark in marks)]


class Sorter:
    """Links or copies images into folders by their likeliest class; unsure and unfamiliar ones into others."""

    def __init__(self, folder: Path, paths: Sequence[Path], copies: bool) -> None:
        if holds_others(folder):
            raise ResnetlabError(f"{folder} is a file or holds files; give a new folder with `sort_into`")
        self.folder, self.copies = folder, copies
        self._folders: dict[str, str] = {}
        self.places: Mapping[Path, Path] = {
            path: place.with_name(place.name + path.suffix) for path, place in places_under(Path(), paths, "").items()
        }

    def _free(self, label: str) -> str:
        """A folder for a class that no other class and no mark has."""
        taken = {name.casefold() for name in (UNSURE, UNFAMILIAR, *self._folders.values())}
        name, number = folder_name(label), 1
        while name.casefold() in taken:
            number += 1
            name = f"{folder_name(label)}-{number}"
        return name

    def add(self, found: Marked) -> None:
        """Put one image into its folder."""
        path = found.prediction.path
        assert path is not None  # noqa: S101 -- files have one
        marked = next((name for name, holds in found.marks.items() if holds), None)
        label = found.prediction.classes[0]
        if not marked and label not in self._folders:
            self._folders[label] = self._free(label)
        target = self.folder / (marked or self._folders[label]) / self.places[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.copies:
            with replacing(target) as temporary:
                shutil.copy2(path, temporary)
        else:
            try:
                target.symlink_to(resolved(path))
            except OSError as error:
                raise ResnetlabError(f"{target} cannot be a link ({error}); use `copy`") from None


def folder_name(label: str) -> str:
    """A class name as the name of one folder."""
    return re.sub(r'[/\\:\0<>"|?*]', "_", label).strip(". ") or "_"
