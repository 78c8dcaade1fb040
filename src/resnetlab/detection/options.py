"""The choices of the detector. Where the paper leaves one open, the default names its source.

Nothing here imports PyTorch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from resnetlab.assignments import parse_assignments
from resnetlab.errors import ResnetlabError, near_matches

Pooling = Literal["pool", "align"]
Border = Literal["drop", "keep"]
Refined = Literal["likeliest", "each-class"]
LARGEST_NUMBER = 10**9
LARGEST_SIDE = 16_384  # pixels
ONLY_WITH = {"refined": "refine", "voting": "refine", "canonical": "scales"}
"""Options that take effect only with another one."""
AT_TEST = ("test_proposals", "score", "nms", "detections", "refine", "refined", "voting", "scales", "canonical")
"""Options of testing alone: they may differ from those of the training."""


@dataclass(frozen=True)
class DetectorOptions:
    """The detector's options. "Faster R-CNN" is Ren et al. (2015) with its released code."""

    pooling: Pooling = "pool"
    """pool: RoI max pooling (Appendix A); align: RoIAlign (He et al., 2017)."""
    pool_size: int = 14
    """14: conv5's stride of 2 makes it 7, as in the authors' R-FCN; 7: conv5 has stride 1. VGG-16: always 7."""
    anchor_sizes: tuple[int, ...] = (128, 256, 512)
    """Square roots of the anchors' areas, in pixels of the scaled image; Faster R-CNN, VOC. For COCO it adds 64."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width (Faster R-CNN)."""
    anchor_offset: float = 8.0
    """Pixels from a cell's corner to its anchors' centre: 8, the middle of 16 (Faster R-CNN); 0 in torchvision."""
    border: Border = "drop"
    """Anchors across the image's border are not trained on (Faster R-CNN), or are."""
    anchors_sampled: int = 256
    """Anchors per image in the loss, half of them positive at most (Faster R-CNN)."""
    anchor_beta: float = 1 / 9
    """Smooth-L1 loss of anchors: quadratic below it (Faster R-CNN: sigma 3)."""
    train_candidates: int = 12_000
    """Best anchors before non-maximum suppression in training (Faster R-CNN)."""
    train_proposals: int = 2000
    """Proposals after it in training (Faster R-CNN)."""
    test_candidates: int = 6000
    """Best anchors before non-maximum suppression in tests (Faster R-CNN)."""
    test_proposals: int = 300
    """Proposals after it in tests (Appendix A)."""
    proposal_nms: float = 0.7
    """IoU of the non-maximum suppression of proposals (Faster R-CNN)."""
    least_side: float = 16.0
    """Shortest side of a proposal, in pixels of the scaled image (Faster R-CNN)."""
    boxes_sampled: int = 128
    """Proposals per image in the loss, a quarter of them positive at most (Fast R-CNN)."""
    box_beta: float = 1.0
    """Smooth-L1 loss of boxes: quadratic below it (Fast R-CNN)."""
    context: bool = False
    """Global context: the whole image's pooled feature beside each region's (Appendix B)."""
    score: float = 0.05
    """Least score of a detection (Fast R-CNN)."""
    nms: float = 0.3
    """IoU of the non-maximum suppression of detections (Appendix B; 0.3 in Fast R-CNN too)."""
    detections: int = 100
    """Most detections per image (COCO)."""
    refine: bool = False
    """Box refinement: score the regressed boxes again, join both, and let boxes vote (Appendix B)."""
    refined: Refined = "likeliest"
    """Which boxes of a proposal are scored again: its likeliest class's, or each class's (left open)."""
    voting: float = 0.5
    """IoU from which on boxes vote (Gidaris and Komodakis, 2015)."""
    scales: tuple[int, ...] = ()
    """Shorter sides in multi-scale testing, 200 400 600 800 1000 in Appendix B; none: the side of the training."""
    canonical: int = 224
    """Side in pixels that a box should have: its two scales are those around it (SPP-net, NoC; left open)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            numbers = [
                each for each in (value if isinstance(value, tuple) else (value,)) if type(each) in (int, float)
            ]
            _require(self, name, all(abs(number) <= LARGEST_NUMBER for number in numbers), "a number of usual size")
        for name in ("anchors_sampled", "boxes_sampled", "train_candidates", "train_proposals", "test_candidates"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("test_proposals", "detections", "canonical"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("proposal_nms", "nms", "voting"):
            _require(self, name, 0 < getattr(self, name) <= 1, "more than 0 and at most 1")
        for name in ("anchor_beta", "box_beta", "least_side", "anchor_offset"):
            _require(self, name, getattr(self, name) >= 0, "at least 0")
        _require(self, "score", 0 <= self.score < 1, "at least 0 and less than 1")
        _require(self, "pool_size", self.pool_size in (7, 14), "7 or 14")
        for name in ("anchor_sizes", "anchor_ratios"):
            values = getattr(self, name)
            _require(self, name, bool(values) and min(values) > 0, "one number above 0 or several")
        _require(
            self, "scales", all(32 <= side <= LARGEST_SIDE for side in self.scales), f"32 to {LARGEST_SIDE:,} each"
        )
        _require(self, "scales", list(self.scales) == sorted(set(self.scales)), "in ascending order")

    def with_test(self, other: Mapping[str, Any]) -> "DetectorOptions":
        """A copy with other options of testing.

        Raises:
            ResnetlabError: an option is of the training; it is fixed in the weights.
        """
        for name in other:
            if name not in AT_TEST:
                raise ResnetlabError(
                    f"the detector's option {name} is fixed by the training; for a test choose {', '.join(AT_TEST)}"
                )
        found = replace(self, **other)
        found.refuse_unused(other)
        return found

    def refuse_unused(self, given: Iterable[str]) -> None:
        """Refuse those of the given options that take no effect.

        Raises:
            ResnetlabError: names the option, and the one that it needs.
        """
        for name in given:
            if (other := ONLY_WITH.get(name)) and not getattr(self, other):
                example = "scales=200,400,600" if other == "scales" else f"{other}=yes"
                raise ResnetlabError(
                    f"the detector's option {name} takes no effect without {other}; add e.g. {example}"
                )


TORCHVISION: dict[str, Any] = {
    "pooling": "align",
    "pool_size": 7,
    "anchor_offset": 0.0,
    "border": "keep",
    "train_candidates": 2000,
    "test_candidates": 1000,
    "test_proposals": 1000,
    "least_side": 1e-3,
    "boxes_sampled": 512,
    "box_beta": 1 / 9,
    "nms": 0.5,
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "coco": {"anchor_sizes": (64, 128, 256, 512)},
    "small": {
        "anchor_sizes": (32, 64, 128, 256),
        "border": "keep",
        "least_side": 8.0,
        "train_candidates": 2000,
        "train_proposals": 500,
        "test_candidates": 2000,
        "anchors_sampled": 128,
        "boxes_sampled": 64,
    },
    "few-objects": {
        "anchor_sizes": (32, 64, 128),
        "border": "keep",
        "least_side": 8.0,
        "train_candidates": 1000,
        "train_proposals": 200,
        "test_candidates": 1000,
        "test_proposals": 50,
        "anchors_sampled": 64,
        "boxes_sampled": 32,
    },
    "torchvision": TORCHVISION,
}
"""paper: as in Faster R-CNN for VOC. coco: with anchors of 64 pixels. small: for small objects, small networks and
short trainings. few-objects: likewise, with fewer proposals. torchvision: as in torchvision's `FasterRCNN`, to
compare outputs."""


def parse_options(assignments: Iterable[str]) -> dict[str, Any]:
    """Options from texts such as `pooling=align` or `preset=torchvision`; options overrule the preset's.

    Raises:
        ResnetlabError: an unknown name (with similar names) or preset, a name given twice, or a wrong type.
    """
    texts = list(assignments)
    presets = [text.partition("=")[2] for text in texts if text.startswith("preset=")]
    if len(presets) > 1:
        raise ResnetlabError("the detector's preset is given twice; give it once")
    if presets and presets[0] not in PRESETS:
        raise ResnetlabError(f"unknown preset {presets[0]!r}: {near_matches(presets[0], PRESETS)}")
    given = parse_assignments(DetectorOptions, [t for t in texts if not t.startswith("preset=")], "the detector")
    return (PRESETS[presets[0]] if presets else {}) | given


def parse_test_options(assignments: Iterable[str]) -> dict[str, Any]:
    """Options for a test; see `parse_options`.

    Raises:
        ResnetlabError: likewise, or a preset, which has options of the training.
    """
    texts = list(assignments)
    if any(text.startswith("preset=") for text in texts):
        raise ResnetlabError(
            f"a preset has options of the detector's training; for a test give some of {', '.join(AT_TEST)}"
        )
    return parse_options(texts)


def changed(options: DetectorOptions) -> dict[str, Any]:
    """The options that differ from the paper's."""
    usual = asdict(DetectorOptions())
    return {name: value for name, value in asdict(options).items() if value != usual[name]}


def from_json(said: Mapping[str, Any]) -> DetectorOptions:
    """The options that `asdict` wrote to JSON; those that an older file lacks are the default.

    Raises:
        ResnetlabError: an unknown option.
    """
    known = {field.name for field in fields(DetectorOptions)}
    if unknown := [name for name in said if name not in known]:
        raise ResnetlabError(f"the detector has an unknown option {unknown[0]!r}; it may be from a later version")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in said.items()}
    return DetectorOptions(**values)


def _require(options: DetectorOptions, name: str, holds: bool, rule: str) -> None:
    if not holds:
        raise ResnetlabError(f"the detector's option {name} is {getattr(options, name)!r}; it must be {rule}")
