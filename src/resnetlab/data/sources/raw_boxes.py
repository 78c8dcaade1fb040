"""Boxes as annotation files state them, before they are checked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from resnetlab.data.dataset import File
from resnetlab.data.decode import read_size
from resnetlab.data.findings import Finding
from resnetlab.errors import ResnetlabError

Form = Literal["VOC", "COCO"]
OVER = 0.5  # pixels; coordinates are often rounded


@dataclass(frozen=True, eq=False)
class RawBoxes:
    """The images of a split and their boxes, in the order of the images.

    `places` names the annotation of each image in messages. `sizes` are the stated widths and heights; 0: not stated.
    `written` has for VOC left, top, right and bottom, counted from 1, of the outermost pixels; for COCO left, top,
    width and height.
    """

    form: Form
    files: tuple[File, ...]
    places: tuple[str, ...]
    sizes: Int64[np.ndarray, "n 2"]
    image: Int64[np.ndarray, "k"]
    """For each box the position of its image in `files`."""
    numbers: Int64[np.ndarray, "k"]
    """VOC: 1 for the first object of an image, and so on. COCO: the annotation's id."""
    written: Float64[np.ndarray, "k 4"]
    classes: Int64[np.ndarray, "k"]
    difficult: Bool[np.ndarray, "k"]
    crowd: Bool[np.ndarray, "k"]

    @property
    def corners(self) -> Float64[np.ndarray, "k 4"]:
        """Continuous coordinates, from 0."""
        if self.form == "VOC":
            return np.asarray(self.written - (1, 1, 0, 0))
        return np.concatenate([self.written[:, :2], self.written[:, :2] + self.written[:, 2:]], 1)

    @property
    def flat(self) -> Bool[np.ndarray, "k"]:
        """Whether a box has no area: no pixel between its corners (VOC), or no width or height (COCO)."""
        size = self.written[:, 2:] - self.written[:, :2] if self.form == "VOC" else self.written[:, 2:]
        return np.asarray((size <= 0).any(1))

    @property
    def ignored(self) -> Bool[np.ndarray, "k"]:
        """Whether a box is difficult or a crowd."""
        return np.asarray(self.difficult | self.crowd)

    def limits(self) -> Float64[np.ndarray, "n 2"]:
        """Widths and heights: those stated, or else those of the files; infinite where a file cannot be read."""
        sizes = self.sizes.astype(np.float64)
        for k in np.flatnonzero((self.sizes <= 0).any(1)).tolist():
            try:
                sizes[k] = read_size(self.files[k].read(), self.files[k].path)
            except ResnetlabError:  # reported when it is decoded
                sizes[k] = np.inf
        return sizes

    def clipped(self, limits: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "k 4"]:
        """The corners, clipped to the images; a box outside of its image gets no area."""
        return self.corners.clip(0, np.tile(limits[self.image], 2))

    def over_the_edge(self, clipped: Float64[np.ndarray, "k 4"]) -> Bool[np.ndarray, "k"]:
        """Whether clipping moves a corner by more than rounding does."""
        return np.asarray((np.abs(clipped - self.corners) > OVER).any(1))

    def show(self, box: int) -> str:
        """A box as the file has it, without its class."""
        numbers = [f"{number:.12g}" for number in self.written[box].tolist()]
        if self.form == "COCO":
            return f"bbox [{', '.join(numbers)}]"
        return f"{numbers[0]},{numbers[1]} to {numbers[2]},{numbers[3]}"

    def number(self, box: int) -> str:
        """Which box of the file it is."""
        return f"{'box' if self.form == 'VOC' else 'annotation'} {self.numbers[box]}"


@dataclass(frozen=True, eq=False)
class Annotations:
    """All images and boxes of a data set, and what is wrong with its files. `None` is the split of unsplit data."""

    root: Path
    classes: tuple[str, ...]
    splits: dict[str | None, RawBoxes]
    findings: tuple[Finding, ...]
    split_by: str
    category_ids: tuple[int, ...] = ()
    image_ids: dict[str, int] = field(default_factory=dict)

    @property
    def is_split(self) -> bool:
        """Whether there are training images and at least one other split."""
        held = {name for name, raw in self.splits.items() if raw.files}
        return "train" in held and len(held) > 1 and None not in held
