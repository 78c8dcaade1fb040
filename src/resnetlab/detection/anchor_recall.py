"""Which annotated objects have an anchor that overlaps them enough? It depends on the image size and the anchors.

A proposal network learns from anchors near objects (Ren et al., 2015, Section 3.1.2), so an object without one is
hard to learn and to find. No network is built, and no anchor is made: over all places of one anchor, the overlap is
the product of the overlaps in width and in height, and each is greatest where the anchor's centre is nearest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from resnetlab.data.preprocessing import Fit
from resnetlab.data.sources.raw_boxes import Annotations
from resnetlab.detection.images import Size
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.proposals import POSITIVE, STRIDE, cell_anchors
from resnetlab.detection.stream import scaled_fits

OVERLAP = 0.5  # IoU with an anchor
STRICT = POSITIVE  # IoU from which on an anchor is a positive example
ENOUGH = 0.9  # share of objects with an anchor
SIDES = 32, 96  # pixels: COCO's bounds of small, medium and large objects
SMALLEST = 8  # pixels, of an anchor that is suggested
AT_ONCE = 4096  # objects; so that all of it stays in the processor's cache
TRIED = 20_000  # objects at most, to measure what would help


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of several images that a detector learns, in pixels of the images as they are."""

    corners: Float64[Tensor, "k 4"]
    classes: Int64[Tensor, "k"]
    image: Int64[Tensor, "k"]
    """For each object the number of its image in `sizes`."""
    sizes: tuple[Size, ...]
    """Height and width of each image."""
    names: tuple[str, ...]
    """Of the classes; two classes of one name are counted together."""

    def __len__(self) -> int:
        return len(self.classes)

    @classmethod
    def of(cls, found: Annotations, sizes: Mapping[str, tuple[int, int]]) -> "Objects":
        """The boxes of all splits, clipped; without difficult and crowd boxes and those without area.

        `sizes` are width and height of each image by its path; images without one, which cannot be read, are left
        out.
        """
        parts, known, count = list[tuple[np.ndarray, ...]](), list[Size](), 0
        for raw in found.splits.values():
            real = [sizes.get(file.path) for file in raw.files]
            corners = raw.clipped(np.array([size or (0, 0) for size in real], np.float64).reshape(-1, 2))
            kept = (corners[:, 2:] > corners[:, :2]).all(1) & ~raw.flat & ~raw.ignored
            parts.append((corners[kept], raw.classes[kept], raw.image[kept] + count))
            known += [(height, width) for width, height in (size or (1, 1) for size in real)]
            count += len(real)
        if not parts:
            parts = [(np.zeros((0, 4)), *np.zeros((2, 0), np.int64))]
        joined = [torch.from_numpy(np.concatenate(each)) for each in zip(*parts, strict=True)]
        return cls(joined[0], joined[1], joined[2], tuple(known), found.classes)

    def some(self, chosen: Int64[Tensor, "m"]) -> "Objects":
        """Only these objects, and their images."""
        images, image = torch.unique(self.image[chosen], return_inverse=True)
        sizes = tuple(self.sizes[k] for k in images.tolist())
        return Objects(self.corners[chosen], self.classes[chosen], image, sizes, self.names)

    def scaled(self, fit: Fit) -> "Objects":
        """In pixels of the scaled images."""
        sizes = tuple(fit.scaled_size(*size) for size in self.sizes)
        real, new = (torch.tensor(each, dtype=torch.float64).reshape(-1, 2) for each in (self.sizes, sizes))
        return replace(self, corners=self.corners * (new / real).flip(1)[self.image].repeat(1, 2), sizes=sizes)


@dataclass(frozen=True)
class Share:
    """How many objects there are of a kind, and the shares that have an anchor at IoU 0.5 and at 0.7."""

    name: str
    objects: int
    found: float
    strict: float

    @property
    def is_low(self) -> bool:
        """Whether many have no anchor."""
        return self.found < ENOUGH


@dataclass(frozen=True, eq=False)
class AnchorRecall:
    """Shares of objects with an anchor: of those of a size and of a class, as far as there are any, and of all."""

    by_size: tuple[Share, ...]
    by_class: tuple[Share, ...]
    all: Share
    low: Bool[Tensor, "k"]
    """The objects of the sizes and classes whose share is low."""


def anchor_recall(objects: Objects, fit: Fit, options: DetectorOptions) -> AnchorRecall:
    """The shares of objects that have an anchor in images scaled by `fit`; each image is a canvas of its own.

    There is at least one object.
    """
    scaled = objects.scaled(fit)
    best = best_overlaps(scaled, options)
    side, (small, large) = _areas(scaled.corners).sqrt(), SIDES
    kinds = f"below {small} px", f"{small} to {large} px", f"above {large} px"
    by_size, low = _shares(kinds, (side >= small).long() + (side > large), best)
    names = tuple(dict.fromkeys(objects.names))
    number = torch.tensor([names.index(name) for name in objects.names], dtype=torch.int64)
    by_class, also_low = _shares(names, number[objects.classes], best)
    ((everything,), _) = _shares(("all",), torch.zeros_like(objects.classes), best)
    return AnchorRecall(by_size, by_class, everything, low | also_low)


def best_overlaps(objects: Objects, options: DetectorOptions) -> Float64[Tensor, "k"]:
    """The greatest IoU of each object with an anchor; `objects` are of scaled images.

    The anchors are those of `ProposalNetwork.grid`, also across the border, for the map of a residual network.
    """
    cells = [(-(-height // STRIDE), -(-width // STRIDE)) for height, width in objects.sizes]
    counts = torch.tensor(cells, dtype=torch.float64).reshape(-1, 2)
    parts = zip(*(torch.split(each, AT_ONCE) for each in (objects.corners, objects.image)), strict=True)
    return torch.cat([_best(corners, counts[image], options) for corners, image in parts])


def advice(objects: Objects, recall: AnchorRecall, fit: Fit, options: DetectorOptions) -> str:
    """What lacks anchors, and what would help, each measured; nothing if enough objects have one."""
    lost = [share for share in (*recall.by_size, *recall.by_class) if share.is_low]
    if not lost:
        return ""
    lost.sort(key=lambda share: share.found)
    named = [f"{share.name} ({percent(share.found)})" for share in lost[:5]]
    named += [f"{len(lost) - 5:,} more"] * (len(lost) > 5)
    which = f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0]

    numbers = recall.low.nonzero()[:, 0]
    lacking = objects.some(numbers[:: 1 + len(numbers) // TRIED])

    def found(fit: Fit, options: DetectorOptions) -> float:
        return (best_overlaps(lacking.scaled(fit), options) >= OVERLAP).double().mean().item()

    now = found(fit, options)
    gains = dict[str, float]()
    for several in _remedies(fit, options):  # of each kind the first that suffices, or else the best
        tried = {name: found(*other) for name, other in several.items()}
        name = next((name for name in tried if tried[name] >= ENOUGH), max(tried, key=tried.__getitem__))
        gains[name] = tried[name]
    most = max(gains.values())
    helpful = [f"{name} ({percent(gains[name])})" for name in gains if gains[name] - now > max(0, most - now) / 2]
    what = f"train with {' or '.join(helpful)}" if helpful else "train with other anchor_sizes and anchor_ratios"
    return f"Too few objects have an anchor at IoU {OVERLAP:g}: {which}, together {percent(now)}; {what}."


def percent(share: float) -> str:
    """A share as text."""
    return f"{100 * share:.1f} %"


def _best(
    corners: Float64[Tensor, "k 4"],
    counts: Float64[Tensor, "k 2"],
    options: DetectorOptions,
) -> Float64[Tensor, "k"]:
    anchors = cell_anchors(options).cell_anchors[0].double()
    both = torch.ones(len(corners), len(anchors), dtype=torch.float64)
    for axis in (0, 1):  # across, down
        low, high, count = (each[:, None] for each in (corners[:, axis], corners[:, axis + 2], counts[:, 1 - axis]))
        first, last = (anchors[:, k] + options.anchor_offset for k in (axis, axis + 2))
        nearest = ((low + high - first - last) / 2 / STRIDE).round().clamp(min=0).minimum(count - 1) * STRIDE
        both *= (torch.minimum(high, nearest + last) - torch.maximum(low, nearest + first)).clamp(min=0)
    areas = _areas(corners)[:, None] + _areas(anchors)
    return (both / (areas - both)).amax(1)


def _areas(corners: Float64[Tensor, "k 4"]) -> Float64[Tensor, "k"]:
    return (corners[:, 2:] - corners[:, :2]).prod(1)


def _shares(
    names: Sequence[str], group: Int64[Tensor, "k"], best: Float64[Tensor, "k"]
) -> tuple[tuple[Share, ...], Bool[Tensor, "k"]]:
    """The shares of each group that has objects, and which objects are of a group whose share is low."""
    counts, found, strict = (
        torch.bincount(group, chosen.double(), len(names)) for chosen in (best >= 0, best >= OVERLAP, best >= STRICT)
    )
    rows = zip(names, counts.tolist(), (found / counts).tolist(), (strict / counts).tolist(), strict=True)
    several = [Share(name, int(count), share, well) for name, count, share, well in rows]
    low = torch.tensor([share.is_low for share in several], dtype=torch.bool)
    return tuple(share for share in several if share.objects), low[group]


def _remedies(fit: Fit, options: DetectorOptions) -> list[dict[str, tuple[Fit, DetectorOptions]]]:
    """Larger images, smaller and larger anchors, and further ratios, each by the option to give."""
    side, sizes, ratios = min(fit.resize), options.anchor_sizes, options.anchor_ratios
    least, most = min(sizes), max(sizes)
    larger = {f"`image_size={other}`": (scaled_fits(fit, [other])[0], options) for other in (side * 3 // 2, side * 2)}
    smaller = [(least // 2,)] * (least >= 2 * SMALLEST) + [(least // 4, least // 2)] * (least >= 4 * SMALLEST)
    kinds: list[tuple[str, tuple[float, ...], Sequence[tuple[float, ...]]]] = [
        ("anchor_sizes", sizes, smaller),
        ("anchor_sizes", sizes, [(2 * most,), (2 * most, 4 * most), (2 * most, 4 * most, 8 * most)]),
        ("anchor_ratios", ratios, [(min(ratios) / 2, 2 * max(ratios))]),
    ]
    found = [larger]
    for name, own, further in kinds:
        wider = [tuple(sorted((*own, *more))) for more in further]
        told = [f"`detector={name}={','.join(f'{value:g}' for value in values)}`" for values in wider]
        changed = [replace(options, **{name: values}) for values in wider]  # type: ignore[arg-type]
        found.append({text: (fit, other) for text, other in zip(told, changed, strict=True)})
    return [several for several in found if several]
