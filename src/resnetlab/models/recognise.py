"""Our weights under other people's names: recognised from names and shapes, renamed, verified.

`recognise` says which network of the paper a state dict holds, `fit` that it holds all of it and nothing else.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from resnetlab.choices import Shortcut, Version, ZeroChannels
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import IMAGENET, Architecture, architecture, with_options
from resnetlab.networks.measure import on_meta
from resnetlab.networks.resnet import ResNet

Kind = Literal["torchvision", "transformers", "akamaster", "d-x-y", "caffe"]
Tensors = dict[str, Tensor]

RENAMES: dict[Kind, list[tuple[str, str]]] = {  # their names to torchvision's; stages and layers are counted from 0
    "torchvision": [],
    "transformers": [
        (r"^resnet\.", ""),
        (r"^embedder\.embedder\.convolution\.", "conv1."),
        (r"^embedder\.embedder\.normalization\.", "bn1."),
        (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"layer{\1}.\2."),
        (r"\.layer\.(\d+)\.convolution\.", r".conv{\1}."),
        (r"\.layer\.(\d+)\.normalization\.", r".bn{\1}."),
        (r"\.shortcut\.convolution\.", ".downsample.0."),
        (r"\.shortcut\.normalization\.", ".downsample.1."),
        (r"^classifier\.1\.", "fc."),
    ],
    "akamaster": [(r"^linear\.", "fc."), (r"\.shortcut\.", ".downsample.")],
    "d-x-y": [
        (r"^conv_1_3x3\.", "conv1."),
        (r"^bn_1\.", "bn1."),
        (r"^stage_(\d+)\.", r"layer\1."),
        (r"\.(conv|bn)_a\.", r".\g<1>1."),
        (r"\.(conv|bn)_b\.", r".\g<1>2."),
        (r"^classifier\.", "fc."),
    ],
}
SIGNS: list[tuple[Kind, str]] = [  # a name that only this kind has
    ("transformers", "embedder.embedder.convolution.weight"),
    ("d-x-y", "conv_1_3x3.weight"),
    ("akamaster", "linear.weight"),
    ("torchvision", "conv1.weight"),
]
ZEROS: dict[Kind, ZeroChannels] = {"akamaster": "both", "d-x-y": "end"}
WRAPPERS = ("module.", "model.", "net.")
SHOWN = 3


class NotStatedError(ResnetlabError):
    """What a file of weights does not say, and nobody said either."""


@dataclass(frozen=True)
class Weights:
    """Weights under our names, and what they are the weights of; `reasons` is what names and shapes do not say."""

    kind: Kind
    row: Architecture
    tensors: Tensors
    reasons: tuple[str, ...] = ()

    def network(self) -> ResNet:
        """The network with these weights, in evaluation mode."""
        network = on_meta(self.row)
        network.load_state_dict(self.tensors, assign=True)
        return network.eval()


def recognise(
    tensors: Mapping[str, Tensor],
    *,
    name: str | None = None,
    shortcut: Shortcut | None = None,
    version: Version | None = None,
    zero_channels: ZeroChannels | None = None,
    stated_version: Version | None = None,
) -> Weights:
    """The network of the paper that a state dict of torchvision, timm, transformers or a CIFAR repository holds.

    What is given is taken; what neither names nor shapes tell and is not given is taken from the kind of source, or
    refused. `stated_version` is what lies beside the file and says; it counts for bottlenecks.

    Raises:
        ResnetlabError: the names are no known source's, the shapes no network's of the paper, keys are missing,
            unexpected or misshapen, or the file does not tell two networks apart.
    """
    theirs = unwrapped(tensors)
    kind = _kind(theirs)
    ours = {_renamed(key, kind): key for key in theirs}
    weights = {new: theirs[old] for new, old in ours.items()}
    row = architecture(name) if name else _named_by_shapes(weights, kind, plain=shortcut == "none")
    if row.block == "bottleneck":
        version = version or stated_version
    row, reasons = _with_options(row, weights, kind, shortcut, version, zero_channels)
    try:
        return Weights(kind, row, fit(weights, row, ours), reasons)
    except ResnetlabError as error:
        blocks = ", ".join(str(count) for count in _blocks(weights))
        raise ResnetlabError(f"this is no {row.name} (its stages have {blocks} blocks): {error}") from None


def fit(tensors: Mapping[str, Tensor], row: Architecture, theirs: Mapping[str, str] | None = None) -> Tensors:
    """The tensors as float32 and in the order of the row's network, if they are exactly its own.

    Counters of batches, which old files lack, become 0. `theirs` are the file's names, for the errors.

    Raises:
        ResnetlabError: names missing, unexpected and misshapen keys.
    """
    expected = on_meta(row).state_dict()
    theirs = theirs or {}
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    unexpected = [theirs.get(key, key) for key in tensors if key not in expected]
    misshapen = [
        f"{theirs.get(key, key)} {list(value.shape)}, expected {list(expected[key].shape)}"
        for key, value in tensors.items()
        if key in expected and value.shape != expected[key].shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    if wrong := [f"{label}: {_some(keys)}" for label, keys in found if keys]:
        raise ResnetlabError("; ".join(wrong))
    if broken := [theirs.get(key, key) for key, value in tensors.items() if not value.isfinite().all()]:
        raise ResnetlabError(f"not a number or infinite: {_some(broken)}")
    return {
        key: tensors[key].to(like.dtype).contiguous() if key in tensors else torch.zeros(like.shape, dtype=like.dtype)
        for key, like in expected.items()
    }


def unwrapped(tensors: Mapping[str, Tensor]) -> Tensors:
    """Without the prefixes of `torch.compile`, DataParallel, DDP and training frameworks."""
    result = {key.replace("_orig_mod.", ""): value for key, value in tensors.items() if key != "n_averaged"}
    for wrapper in WRAPPERS * 2:
        if result and all(key.startswith(wrapper) for key in result):
            result = {key.removeprefix(wrapper): value for key, value in result.items()}
    return result


def _kind(tensors: Tensors) -> Kind:
    for kind, sign in SIGNS:
        if sign in tensors or f"resnet.{sign}" in tensors:
            return kind
    raise ResnetlabError(
        f"its names are of no known source: {_some(list(tensors))}; "
        "expected those of torchvision, timm, transformers or a CIFAR repository"
    )


def _renamed(key: str, kind: Kind) -> str:
    for pattern, new in RENAMES[kind]:
        key = re.sub(pattern, new, key)
    return re.sub(r"\{(\d+)\}", lambda match: str(int(match[1]) + 1), key)


def _blocks(tensors: Tensors) -> tuple[int, ...]:
    """Blocks of each stage, counted from the names."""
    found = {(int(m[1]), int(m[2])) for key in tensors if (m := re.match(r"layer(\d+)\.(\d+)\.", key))}
    stages = sorted({stage for stage, _ in found})
    return tuple(sum(stage == other for other, _ in found) for stage in stages)


def _named_by_shapes(tensors: Tensors, kind: Kind, plain: bool) -> Architecture:
    blocks = _blocks(tensors)
    stem = tuple(tensors["conv1.weight"].shape) if "conv1.weight" in tensors else ()
    block = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    projections = any(".downsample." in key for key in tensors)
    residual = projections or kind in ZEROS or block == "bottleneck"
    if stem[:1] + stem[2:] == (64, 7, 7):
        names = [name for name, (b, counts, _) in IMAGENET.items() if (b, counts) == (block, blocks)]
    elif stem[:1] + stem[2:] == (16, 3, 3) and len(blocks) == 3 and len(set(blocks)) == 1 and block == "basic":
        names = [f"cifar_{word}{6 * blocks[0] + 2}" for word in ("plain", "resnet")]
    else:
        names = []
    if not names:
        raise ResnetlabError(
            f"its shapes are no network's of the paper: conv1.weight {list(stem)}, {block} blocks "
            f"{', '.join(str(count) for count in blocks)}; `resnetlab networks` lists them"
        )
    if len(names) == 1:
        return architecture(names[0])
    plain_name, residual_name = names
    if residual or plain:
        return architecture(plain_name if plain else residual_name)
    raise NotStatedError(
        f"it has no projections, so it may be {plain_name} or {residual_name} with option A, which look the same: "
        f"say `as={plain_name}`, or `as={residual_name}` and where the zero channels are, `zero_channels=end` or both"
    )


def _with_options(
    row: Architecture,
    tensors: Tensors,
    kind: Kind,
    shortcut: Shortcut | None,
    version: Version | None,
    zero_channels: ZeroChannels | None,
) -> tuple[Architecture, tuple[str, ...]]:
    """The row with what the tensors, the kind of source or the caller say, and reasons for what they left open."""
    reasons = []
    projected = [key for key in tensors if key.endswith("downsample.0.weight")]
    if row.is_residual and shortcut is None:
        shortcut = "A" if not projected else "C" if len(projected) == sum(_blocks(tensors)) else "B"
    if shortcut == "A" and zero_channels is None:
        zero_channels = ZEROS.get(kind)
        if zero_channels is None:
            raise NotStatedError(
                "its shortcuts are option A, and the file does not say where their zero channels are: "
                "say `zero_channels=end` (after the old channels) or both (half on either side)"
            )
        reasons.append(f"zero channels: {zero_channels}, as that repository has them")
    if row.block == "bottleneck" and version is None:
        version = "v1.5"
        source = "transformers" if kind == "transformers" else "torchvision and timm"
        reasons.append(f"version v1.5, as {source} have it; files do not tell, so say `version=v1` where it is not")
    row = with_options(row, shortcut=shortcut, version=version, zero_channels=zero_channels)
    classes, channels = (tensors[key].shape if key in tensors else () for key in ("fc.weight", "conv1.weight"))
    classes_ = classes[0] if classes else row.num_classes
    if not classes_:
        raise ResnetlabError("its last layer has no outputs")
    return replace(row, num_classes=classes_, in_channels=channels[1] if len(channels) == 4 else 3), tuple(reasons)


def _some(keys: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    keys = list(keys)
    more = f" and {len(keys) - SHOWN:,} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
