"""Boxes of objects in images: those that people drew, and those that a detector found.

Coordinates are continuous, in pixels of the upright image: the whole image is (0, 0, width, height).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Index = slice | Int64[Tensor, "k"]


@dataclass(frozen=True, eq=False)
class Boxes:
    """The annotated boxes of several images, one image after the other; `counts` says how many each image has.

    `corners` are left, top, right and bottom. `difficult` boxes (Pascal VOC) and `crowd` boxes (COCO, a group of
    objects) are not trained on, and a detection of one counts neither as right nor as wrong.
    """

    corners: Float[Tensor, "k 4"]
    classes: Int64[Tensor, "k"]
    difficult: Bool[Tensor, "k"]
    crowd: Bool[Tensor, "k"]
    counts: Int64[Tensor, "n"]

    @classmethod
    def of(
        cls,
        corners: Sequence[Sequence[float]] | Tensor,
        classes: Sequence[int] | Tensor,
        difficult: Sequence[bool] | None = None,
        crowd: Sequence[bool] | None = None,
    ) -> "Boxes":
        """The boxes of one image."""
        count = len(classes)
        return cls(
            torch.as_tensor(corners, dtype=torch.float32).reshape(count, 4),
            torch.as_tensor(classes, dtype=torch.int64).reshape(count),
            _flags(difficult, count),
            _flags(crowd, count),
            torch.tensor([count]),
        )

    @classmethod
    def joined(cls, parts: Iterable["Boxes"]) -> "Boxes":
        """The boxes of the images of all parts, in order."""
        several = list(parts) or [cls.of([], [])[:0]]
        return cls(**{name: torch.cat([getattr(part, name) for part in several]) for name in NAMES})

    def __len__(self) -> int:
        """The number of images."""
        return len(self.counts)

    def __getitem__(self, index: int | Index) -> "Boxes":
        """The boxes of one image or of some."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index >= 0 else slice(index, index + 1 or None)
        chosen = torch.arange(len(self), device=self.counts.device)[index]
        ends = self.counts.cumsum(0)
        kept = [torch.arange(int(ends[k] - self.counts[k]), int(ends[k])) for k in chosen.tolist()]
        places = torch.cat(kept) if kept else torch.zeros(0, dtype=torch.int64)
        return self._some(places, self.counts[chosen])

    @property
    def ignored(self) -> Bool[Tensor, "k"]:
        """Whether a box is difficult or a crowd."""
        return self.difficult | self.crowd

    @property
    def size(self) -> Float[Tensor, "k 2"]:
        """Width and height."""
        return self.corners[:, 2:] - self.corners[:, :2]

    def to(self, device: torch.device) -> "Boxes":
        """A copy on a device."""
        return Boxes(**{name: getattr(self, name).to(device) for name in NAMES})

    def where(self, kept: Bool[Tensor, "k"]) -> "Boxes":
        """Only some of the boxes; all images stay."""
        image = torch.arange(len(self), device=kept.device).repeat_interleave(self.counts)
        return self._some(kept, torch.bincount(image[kept], minlength=len(self)))

    def moved(self, corners: Float[Tensor, "k 4"]) -> "Boxes":
        """With other corners."""
        return replace(self, corners=corners)

    def tolist(self) -> list[Any]:
        """For each image the numbers of its boxes."""
        flags = torch.stack([self.classes, self.difficult.long(), self.crowd.long()], 1)
        rows = [(*corners, *row) for corners, row in zip(self.corners.tolist(), flags.tolist(), strict=True)]
        found, start = [], 0
        for count in self.counts.tolist():
            found.append(rows[start : start + count])
            start += count
        return found

    def _some(self, places: Tensor, counts: Tensor) -> "Boxes":
        """The boxes at these places, as those of images with these counts."""
        parts = {name: getattr(self, name)[places] for name in NAMES if name != "counts"}
        return Boxes(**parts, counts=counts)


def _flags(values: Sequence[bool] | None, count: int) -> Bool[Tensor, "k"]:
    return torch.zeros(count, dtype=torch.bool) if values is None else torch.as_tensor(values, dtype=torch.bool)


NAMES = tuple(field.name for field in fields(Boxes))


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one image, highest score first; scores are from 0 to 1."""

    corners: Float[Tensor, "k 4"]
    classes: Int64[Tensor, "k"]
    scores: Float[Tensor, "k"]

    def __len__(self) -> int:
        return len(self.scores)

    def cpu(self) -> "Detections":
        """A copy on the processor."""
        return Detections(self.corners.cpu(), self.classes.cpu(), self.scores.cpu())

    def above(self, score: float) -> "Detections":
        """Those of at least this score."""
        kept = self.scores >= score
        return Detections(self.corners[kept], self.classes[kept], self.scores[kept])
