"""Pictures of class activation maps: where a network sees its classes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from resnetlab.data.class_names import spoken
from resnetlab.errors import printable
from resnetlab.files import replacing
from resnetlab.inference.explain import Explained
from resnetlab.report.figures import PLAIN

warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box is drawn

STRENGTH = 0.75  # of the colours where a map has its largest value
SIDE = 2.4  # inches


@rc_context(PLAIN)
def draw_explanations(
    found: Sequence[Explained], titles: Sequence[Sequence[str]], path: Path, about: str = ""
) -> None:
    """A row for each image: the image, and it with the map of each class; `titles` has one for each of these.

    Red adds to the class, blue speaks against it. Each row has one scale, so its maps can be compared.
    """
    columns = 1 + max(len(each.classes) for each in found)
    figure = Figure(figsize=(SIDE * columns, (SIDE + 0.15) * len(found) + 0.5), layout="constrained")
    axes = figure.subplots(len(found), columns, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for row, each, names in zip(axes, found, titles, strict=True):
        most = float(np.abs(each.maps).max()) or 1.0
        pictures = [_grey_or_colour(each.pixels), *(overlay(each.pixels, values / most) for values in each.maps)]
        for axis, picture, name in zip(row, pictures, names, strict=False):
            axis.imshow(picture, interpolation="nearest" if len(picture) < 64 else None)
            axis.set_title(printable(name), fontsize=8)
    note = "red adds to the class, blue speaks against it"
    figure.suptitle(f"{about}: {note}" if about else note, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def class_titles(found: Explained, first: str) -> list[str]:
    """The titles of a row: `first` for the image, and each class with its probability."""
    pairs = zip(found.classes, found.probabilities, strict=True)
    return [first[-34:], *(f"{spoken(name)[:26]} {share:.0%}" for name, share in pairs)]


def overlay(pixels: np.ndarray, values: np.ndarray) -> Any:
    """The image in grey, with red where values from -1 to 1 are positive and blue where they are negative.

    The result is from 0 to 1, with three channels.
    """
    grey = np.repeat(_grey_or_colour(pixels).mean(2, keepdims=True), 3, axis=2)
    colour = colormaps["RdBu_r"](0.5 + 0.5 * values)[..., :3]
    strength = STRENGTH * np.abs(values)[..., None] ** 0.7
    return np.clip((1 - strength) * (0.35 + 0.5 * grey) + strength * colour, 0, 1)


def _grey_or_colour(pixels: np.ndarray) -> np.ndarray:
    """From 0 to 1, with three channels."""
    return np.asarray(np.broadcast_to(pixels / 255, (*pixels.shape[:2], 3)))
