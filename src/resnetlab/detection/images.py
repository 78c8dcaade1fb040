"""Images as the detector is given them, with their boxes in training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from resnetlab.data.boxes import Boxes

Size = tuple[int, int]
KEY = 1 << 62


@dataclass(frozen=True, eq=False)
class Images:
    """Preprocessed images, each scaled as a whole, in the upper left of a common canvas; the rest is zero.

    `sizes` are height and width of each scaled image, `scales` its width and height over those of the original.
    `boxes` are those to learn, in pixels of the scaled images. `key` seeds the choice of anchors and proposals in
    training. `others` are the same images at other scales, for multi-scale testing, by their nominal side.
    """

    pixels: Float[Tensor, "n c h w"]
    sizes: tuple[Size, ...]
    scales: Float[Tensor, "n 2"]
    boxes: Boxes | None = None
    key: int = 0
    others: tuple["Images", ...] = ()

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: slice) -> "Images":
        """Some of the images."""
        start = index.indices(len(self))[0]
        return replace(
            self,
            pixels=self.pixels[index],
            sizes=self.sizes[index],
            scales=self.scales[index],
            boxes=None if self.boxes is None else self.boxes[index],
            key=(self.key + start) % KEY,
            others=tuple(other[index] for other in self.others),
        )

    def to(self, device: torch.device) -> "Images":
        """A copy on a device."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=True),
            scales=self.scales.to(device),
            boxes=None if self.boxes is None else self.boxes.to(device),
            others=tuple(other.to(device) for other in self.others),
        )

    def by_size(self) -> list[list[int]]:
        """The numbers of the images of each size, so that they can be run together without padding."""
        groups: dict[Size, list[int]] = {}
        for number, size in enumerate(self.sizes):
            groups.setdefault(size, []).append(number)
        return list(groups.values())

    def unpadded(self, numbers: Sequence[int]) -> Float[Tensor, "k c y x"]:
        """Images of one size without the padding."""
        height, width = self.sizes[numbers[0]]
        if len(numbers) == len(self) and self.pixels.shape[2:] == (height, width):
            return self.pixels
        return self.pixels[list(numbers), :, :height, :width]
