"""The architecture table: one frozen `Architecture` per network, and the text that names it.

The text is a network's name, then the options that differ from the table's, each after a dash, in any order:
`resnet34-A`, `resnet50-v1.5`, `cifar_resnet20-B-narrow2`. `parse` reads it and `str` writes it, in one fixed order.
Nothing here imports PyTorch.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from resnetlab.choices import MaxPool, Shortcut, Version, ZeroChannels
from resnetlab.errors import ResnetlabError, near_matches


@dataclass(frozen=True)
class Architecture:
    """One row of the architecture table: all that tells one network from another.

    `shortcut` is "none" for plain networks, else the paper's option (Section 3.3 and Table 3): A pads with zero
    channels, B projects where dimensions grow, C projects everywhere. `version` places a bottleneck's
    stride: "v1" on the first 1x1 convolution, as the authors did, "v1.5" on the 3x3, as torchvision does.
    `zero_channels` places option A's zeros, which the paper leaves open: after the old channels, or half
    on either side of them. `max_pool` is how ImageNet's 3x3 pooling of stride 2 halves 112 to 56: with a border of
    one pixel, as everyone has it, or without one and rounded up, as in the authors' release. All widths are divided
    by `narrow`: the paper's depths at a cost for small images. VGG's blocks are single convolutions, followed by
    batch normalisation in `vgg16_bn`.
    """

    name: str
    stem: Literal["imagenet", "cifar", "vgg"]
    block: Literal["basic", "bottleneck", "convolution", "normalised"]
    blocks: tuple[int, ...]
    shortcut: Shortcut
    num_classes: int
    in_channels: int = 3
    version: Version = "v1"
    zero_channels: ZeroChannels = "end"
    max_pool: MaxPool = "padded"
    narrow: int = 1

    def __str__(self) -> str:
        """The name and the options in use that differ from the table's; `parse` reads it."""
        usual = IMAGENET[self.name][2] if self.name in IMAGENET else "A"
        words = {
            self.shortcut: self.shortcut not in ("none", usual),
            "v1.5": self.version == "v1.5" and self.block == "bottleneck",
            "padboth": self.zero_channels == "both" and self.shortcut == "A",
            "ceilpool": self.max_pool == "ceil" and self.stem == "imagenet",
            f"narrow{self.narrow}": self.narrow != 1,
        }
        return "-".join([self.name, *(word for word, differs in words.items() if differs)])

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of the 3x3 convolutions of each stage."""
        return tuple(width // self.narrow for width in WIDTHS[self.stem])

    @property
    def depth(self) -> int:
        """Weighted layers, projections not counted (Table 1; Section 4.2: 6n+2)."""
        around, inside = (3, 1) if self.stem == "vgg" else (2, 2 if self.block == "basic" else 3)
        return around + sum(self.blocks) * inside

    @property
    def is_residual(self) -> bool:
        """Whether it has shortcuts; otherwise it is a plain network."""
        return self.shortcut != "none"

    @property
    def label(self) -> str:
        """The paper's way of writing it: plain-20, ResNet-56, VGG-16."""
        kind = "VGG" if self.stem == "vgg" else "ResNet" if self.is_residual else "plain"
        return f"{kind}-{self.depth}" + " with batch norm" * (self.block == "normalised")

    @property
    def title(self) -> str:
        """The label with its option, where the paper's tables have it: ResNet-34 B."""
        usual = "A" if self.stem == "cifar" else "B" if self.block == "bottleneck" else None
        version = f" {self.version}" if self.version != "v1" else ""
        return self.label + version + ("" if self.shortcut in ("none", usual) else f" {self.shortcut}")

    @property
    def image_size(self) -> int:
        """Side in pixels of the square image that the paper trains this network on."""
        return 32 if self.stem == "cifar" else 224

    @property
    def reduction(self) -> int:
        """How many times smaller the last feature map is than the image."""
        return {"imagenet": 4, "cifar": 1, "vgg": 2}[self.stem] << (len(self.blocks) - 1)


WIDTHS = {"imagenet": (64, 128, 256, 512), "cifar": (16, 32, 64), "vgg": (64, 128, 256, 512, 512)}
IMAGENET: dict[str, tuple[Literal["basic", "bottleneck"], tuple[int, ...], Shortcut]] = {  # Table 1
    "plain18": ("basic", (2, 2, 2, 2), "none"),
    "plain34": ("basic", (3, 4, 6, 3), "none"),
    "resnet18": ("basic", (2, 2, 2, 2), "B"),
    "resnet34": ("basic", (3, 4, 6, 3), "B"),
    "resnet50": ("bottleneck", (3, 4, 6, 3), "B"),
    "resnet101": ("bottleneck", (3, 4, 23, 3), "B"),
    "resnet152": ("bottleneck", (3, 8, 36, 3), "B"),
}
BASELINES: dict[str, Literal["convolution", "normalised"]] = {"vgg16": "convolution", "vgg16_bn": "normalised"}
"""What the paper compares with in detection (Tables 7 and 8), for detection only."""
CIFAR_DEPTHS = {"plain": (20, 32, 44, 56, 110), "resnet": (20, 32, 44, 56, 110, 1202)}  # Section 4.2
NAMES = tuple(f"cifar_{kind}{depth}" for kind, depths in CIFAR_DEPTHS.items() for depth in depths) + tuple(IMAGENET)
OPTIONS = {  # the words of the grammar: an Architecture's field and its value; `narrowN` is the only other one
    **{word: ("shortcut", word) for word in ("A", "B", "C")},
    **{word: ("version", word) for word in ("v1", "v1.5")},
    "padboth": ("zero_channels", "both"),
    "ceilpool": ("max_pool", "ceil"),
}


CIFAR_NAME = r"cifar_(plain|resnet)([1-9][0-9]{0,3})"
HYPHENED = re.compile(r"^((?:cifar_)?(?:resnet|plain|vgg))-(?=\d)", re.IGNORECASE)


def parse(text: str, **given: Any) -> Architecture:
    """The network that a text such as `resnet34-A` or `resnet50-v1.5-narrow8` names; options come in any order.

    `ResNet50` and `resnet-50` are names of it, too.

    `given` are options beside the text, as for `with_options`; None is none.

    Raises:
        ResnetlabError: an unknown name or option, an option that is given twice, or options that contradict each
            other or the network.
    """
    name, *words = HYPHENED.sub(r"\1", text).split("-")
    try:
        row = architecture(name.lower())
    except ResnetlabError as error:
        raise ResnetlabError(f"{text!r}: {error}" if words else str(error)) from None
    options: dict[str, Any] = {}
    texts: dict[str, str] = {}
    try:
        for word in words:
            field, value = _option(word)
            if field in texts:
                again = "is given twice" if texts[field] == word else f"contradicts {texts[field]!r}"
                raise ResnetlabError(f"option {word!r} {again}")
            options[field], texts[field] = value, word
        for field, value in given.items():
            if value is not None and options.setdefault(field, value) != value:
                raise ResnetlabError(f"option {texts[field]!r} contradicts {field} {value}")
        return with_options(row, **options)
    except ResnetlabError as error:
        raise ResnetlabError(f"{text!r}: {error}. Options of {name}: {', '.join(_options_of(row))}") from None


def architecture(name: str) -> Architecture:
    """The table row of a network of the paper, or of a CIFAR network of any depth 6n+2.

    Raises:
        ResnetlabError: the name is unknown, with its near matches, or the depth is not 6n+2.
    """
    if name in IMAGENET:
        block, blocks, shortcut = IMAGENET[name]
        return Architecture(name, "imagenet", block, blocks, shortcut, num_classes=1000)
    if name in BASELINES:
        return Architecture(name, "vgg", BASELINES[name], (2, 2, 3, 3, 3), "none", num_classes=1000)
    if not (match := re.fullmatch(CIFAR_NAME, name)):
        known = re.fullmatch(CIFAR_NAME, f"cifar_{name}")
        is_depth = known is not None and int(known[2]) % 6 == 2
        near = f"did you mean cifar_{name}?" if is_depth else near_matches(name, NAMES)
        raise ResnetlabError(f"unknown network {name!r}: {near}")
    n, remainder = divmod(int(match[2]) - 2, 6)
    if n < 1 or remainder:
        below = 6 * max(n, 1) + 2
        raise ResnetlabError(
            f"{name}: the depth of a CIFAR network is 6n+2 (Section 4.2); the nearest are {below} and {below + 6}"
        )
    return Architecture(name, "cifar", "basic", (n, n, n), "none" if match[1] == "plain" else "A", num_classes=10)


def with_options(
    row: Architecture,
    *,
    shortcut: Shortcut | None = None,
    version: Version | None = None,
    zero_channels: ZeroChannels | None = None,
    max_pool: MaxPool | None = None,
    narrow: int | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
) -> Architecture:
    """The row with other options; those that are None stay as they are.

    Raises:
        ResnetlabError: a value that an option does not take, a plain network with a shortcut, a residual one without,
            an option that has no effect on this network, or widths that cannot be divided so.
    """
    given = {"shortcut": shortcut, "version": version, "zero_channels": zero_channels, "max_pool": max_pool}
    numbers = {"narrow": narrow, "num_classes": num_classes, "in_channels": in_channels}
    types = get_type_hints(Architecture)
    for name, value in {**given, **numbers}.items():
        if value is not None and (expected := _misfit(types[name], value)):
            raise ResnetlabError(f"`{name}={value!r}`: it must be {expected}")
    shortcut = shortcut or row.shortcut
    if (shortcut == "none") == row.is_residual:
        other = row.name.replace("resnet", "plain") if shortcut == "none" else row.name.replace("plain", "resnet")
        raise ResnetlabError(f"{row.name} cannot have shortcut {shortcut!r}; the network that has it is {other}")
    if version == "v1.5" and row.block != "bottleneck":
        raise ResnetlabError(f"{row.name} has no bottleneck blocks, so no version v1.5; leave the version out")
    if zero_channels == "both" and shortcut != "A":
        raise ResnetlabError(f"{row.name} with shortcut {shortcut!r} pads with no zero channels; only option A does")
    if max_pool == "ceil" and row.stem != "imagenet":
        raise ResnetlabError(f"{row.name} has no maximum pooling that could round up; networks for ImageNet have")
    changed = replace(
        row,
        shortcut=shortcut,
        version=version or row.version,
        zero_channels=zero_channels or row.zero_channels,
        max_pool=max_pool or row.max_pool,
        narrow=narrow or row.narrow,
        num_classes=num_classes or row.num_classes,
        in_channels=in_channels or row.in_channels,
    )
    _check_narrow(changed)
    return changed


MOST_BLOCKS, MOST_CLASSES, MOST_CHANNELS = 5000, 1_000_000, 1024
"""Of an architecture in a file; larger ones would fill the memory before anything is found wrong."""


def from_fields(values: Mapping[str, Any]) -> Architecture:
    """The architecture that `dataclasses.asdict` wrote to JSON. Fields that an old file lacks are the default.

    Raises:
        ResnetlabError: names a field that is unknown, missing, or of another type or value.
    """
    types = get_type_hints(Architecture)
    if unknown := [name for name in values if name not in types]:
        raise ResnetlabError(
            f"the architecture has an unknown field {unknown[0]!r}; it may be from a later version: upgrade resnetlab"
        )
    read: dict[str, Any] = {}
    for field in fields(Architecture):
        if field.name in values:
            read[field.name] = _checked(field.name, types[field.name], values[field.name])
        elif field.default is MISSING:
            raise ResnetlabError(f"the architecture has no field {field.name!r}; the file is damaged")
    row = Architecture(**read)
    stages = len(WIDTHS[row.stem])
    if len(row.blocks) != stages:
        raise ResnetlabError(f"the architecture's field 'blocks' is {list(row.blocks)}; expected {stages} stages")
    _check_narrow(row)
    for name, found, most in (
        ("blocks", sum(row.blocks), MOST_BLOCKS),
        ("num_classes", row.num_classes, MOST_CLASSES),
        ("in_channels", row.in_channels, MOST_CHANNELS),
    ):
        if found > most:
            raise ResnetlabError(f"the architecture's field {name!r} is {found:,}; at most {most:,} is read")
    return row


def check_image_size(row: Architecture, height: int, width: int) -> None:
    """Refuse images that shrink to less than a pixel before the last stage.

    Raises:
        ResnetlabError: names both sizes and what to use instead.
    """
    if min(height, width) < row.reduction:
        raise ResnetlabError(
            f"{row.name} halves the image until it is {row.reduction} times smaller, "
            f"and these images have {height}x{width} pixels; "
            + ("use a cifar_ network" if row.stem == "imagenet" and min(height, width) >= 4 else "use larger images")
        )


def _option(word: str) -> tuple[str, Any]:
    """Field and value of one word of the grammar."""
    if word in OPTIONS:
        return OPTIONS[word]
    if match := re.fullmatch(r"narrow([1-9][0-9]{0,2})", word):
        return "narrow", int(match[1])
    raise ResnetlabError(f"unknown option {word!r}")


def _options_of(row: Architecture) -> list[str]:
    """What may follow the row's name."""
    words = ["A", "B", "C"] if row.is_residual else []
    words += ["v1.5"] if row.block == "bottleneck" else []
    words += ["padboth (with A)"] if row.is_residual else []
    words += ["ceilpool"] if row.stem == "imagenet" else []
    return [*words, f"narrowN where N divides {row.widths[0]}"]


def _check_narrow(row: Architecture) -> None:
    first = replace(row, narrow=1).widths[0]
    if row.narrow < 1 or first % row.narrow:
        raise ResnetlabError(
            f"{row.name} cannot be {row.narrow} times narrower; its first {first} filters must divide"
        )


def _checked(name: str, kind: Any, value: Any) -> Any:
    """A field's value from JSON, if it is one that the field may have."""
    if expected := _misfit(kind, value):
        raise ResnetlabError(f"the architecture's field {name!r} is {value!r}; expected {expected}")
    return tuple(value) if isinstance(value, list) else value


def _misfit(kind: Any, value: Any) -> str:
    """What a field of this type may be, if the value is something else; otherwise empty."""
    if choices := get_args(kind) if kind not in (int, str, tuple[int, ...]) else ():
        fits, expected = isinstance(value, str) and value in choices, " or ".join(choices)
    elif kind is str:
        fits, expected = isinstance(value, str), "a text"
    elif kind is int:
        fits, expected = type(value) is int and value > 0, "a whole number above 0"
    else:
        fits = isinstance(value, list | tuple) and bool(value) and all(type(k) is int and k > 0 for k in value)
        expected = "a list of whole numbers above 0"
    return "" if fits else expected
