"""The networks of the paper: plain and residual, basic and bottleneck, shortcut options A, B and C.

A network is a row of the architecture table (`Architecture`) and one module that reads it (`ResNet`).
State-dict names are torchvision's, so its weights load as they are.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.errors import ResnetlabError, near_matches

Shortcut = Literal["none", "A", "B", "C"]
Version = Literal["v1", "v1.5"]
ZeroChannels = Literal["end", "both"]
MaxPool = Literal["padded", "ceil"]


@dataclass(frozen=True)
class Architecture:
    """One row of the architecture table: all that tells one network from another.

    `shortcut` is "none" for plain networks, else the paper's option (Section 3.3 and Table 3): A pads with zero
    channels, B projects where dimensions grow, C projects everywhere. `version` places a bottleneck's
    stride: "v1" on the first 1x1 convolution, as the authors did, "v1.5" on the 3x3, as torchvision does.
    `zero_channels` places option A's zeros, which the paper leaves open: after the old channels, or half
    on either side of them. `max_pool` is how ImageNet's 3x3 pooling of stride 2 halves 112 to 56: with a border of
    one pixel, as everyone has it, or without one and rounded up, as in the authors' release. All widths are divided
    by `narrow`: the paper's depths at a cost for small images.
    """

    name: str
    stem: Literal["imagenet", "cifar"]
    block: Literal["basic", "bottleneck"]
    blocks: tuple[int, ...]
    shortcut: Shortcut
    num_classes: int
    in_channels: int = 3
    version: Version = "v1"
    zero_channels: ZeroChannels = "end"
    max_pool: MaxPool = "padded"
    narrow: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of the 3x3 convolutions of each stage."""
        return tuple(
            width // self.narrow for width in ((64, 128, 256, 512) if self.stem == "imagenet" else (16, 32, 64))
        )

    @property
    def depth(self) -> int:
        """Weighted layers, projections not counted (Table 1; Section 4.2: 6n+2)."""
        return 2 + sum(self.blocks) * (2 if self.block == "basic" else 3)

    @property
    def label(self) -> str:
        """The paper's way of writing it: plain-20, ResNet-56."""
        return f"{'plain' if self.shortcut == 'none' else 'ResNet'}-{self.depth}"

    @property
    def title(self) -> str:
        """The label with its option, where the paper's tables have it: ResNet-34 B."""
        usual = "A" if self.stem == "cifar" else "B" if self.block == "bottleneck" else None
        version = f" {self.version}" if self.version != "v1" else ""
        return self.label + version + ("" if self.shortcut in ("none", usual) else f" {self.shortcut}")

    @property
    def image_size(self) -> int:
        """Side in pixels of the square image that the paper trains this network on."""
        return 224 if self.stem == "imagenet" else 32

    @property
    def reduction(self) -> int:
        """How many times smaller the last feature map is than the image."""
        return (4 if self.stem == "imagenet" else 1) << (len(self.blocks) - 1)


IMAGENET = {  # Table 1
    "plain18": ("basic", (2, 2, 2, 2), "none"),
    "plain34": ("basic", (3, 4, 6, 3), "none"),
    "resnet18": ("basic", (2, 2, 2, 2), "B"),
    "resnet34": ("basic", (3, 4, 6, 3), "B"),
    "resnet50": ("bottleneck", (3, 4, 6, 3), "B"),
    "resnet101": ("bottleneck", (3, 4, 23, 3), "B"),
    "resnet152": ("bottleneck", (3, 8, 36, 3), "B"),
}
CIFAR_DEPTHS = {"plain": (20, 32, 44, 56, 110), "resnet": (20, 32, 44, 56, 110, 1202)}  # Section 4.2
NAMES = tuple(f"cifar_{kind}{depth}" for kind, depths in CIFAR_DEPTHS.items() for depth in depths) + tuple(IMAGENET)


def architecture(name: str) -> Architecture:
    """The table row of a network of the paper, or of a CIFAR network of any depth 6n+2.

    Raises:
        ResnetlabError: the name is unknown, with its near matches, or the depth is not 6n+2.
    """
    if name in IMAGENET:
        block, blocks, shortcut = IMAGENET[name]
        return Architecture(name, "imagenet", block, blocks, shortcut, 1000)  # type: ignore[arg-type]
    if not (match := re.fullmatch(r"cifar_(plain|resnet)([1-9]\d{0,3})", name)):
        raise ResnetlabError(f"unknown network {name!r}: {near_matches(name, NAMES)}")
    n, remainder = divmod(int(match[2]) - 2, 6)
    if n < 1 or remainder:
        below = 6 * max(n, 1) + 2
        raise ResnetlabError(
            f"{name}: the depth of a CIFAR network is 6n+2 (Section 4.2); the nearest are {below} and {below + 6}"
        )
    return Architecture(name, "cifar", "basic", (n, n, n), "none" if match[1] == "plain" else "A", 10)


def build(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    shortcut: Shortcut | None = None,
    version: Version = "v1",
    zero_channels: ZeroChannels = "end",
    narrow: int = 1,
) -> "ResNet":
    """A freshly initialised network by name, e.g. `build("resnet50", version="v1.5")`.

    Options left out are the table's: 1000 or 10 classes, option B on ImageNet and A on CIFAR.

    Raises:
        ResnetlabError: see `architecture` and `with_options`.
    """
    row = with_options(
        architecture(name), shortcut=shortcut, version=version, zero_channels=zero_channels, narrow=narrow
    )
    return ResNet(replace(row, num_classes=num_classes or row.num_classes, in_channels=in_channels))


def with_options(
    row: Architecture,
    *,
    shortcut: Shortcut | None = None,
    version: Version = "v1",
    zero_channels: ZeroChannels = "end",
    narrow: int = 1,
) -> Architecture:
    """The row with another shortcut option, bottleneck version, place for option A's zeros, or narrower.

    Raises:
        ResnetlabError: a plain network with a shortcut, a residual one without, v1.5 without bottlenecks, or widths
            that cannot be divided so.
    """
    shortcut = shortcut or row.shortcut
    if (shortcut == "none") != (row.shortcut == "none"):
        other = row.name.replace("resnet", "plain") if shortcut == "none" else row.name.replace("plain", "resnet")
        raise ResnetlabError(f"{row.name} cannot have shortcut {shortcut!r}; the network that has it is {other}")
    if version == "v1.5" and row.block == "basic":
        raise ResnetlabError(f"{row.name} has no bottleneck blocks, so no version v1.5; leave the version out")
    if narrow < 1 or row.widths[0] % narrow:
        raise ResnetlabError(
            f"{row.name} cannot be {narrow} times narrower; its first {row.widths[0]} filters must divide"
        )
    return replace(row, shortcut=shortcut, version=version, zero_channels=zero_channels, narrow=narrow)


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


class ResNet(nn.Module):
    """A network of the paper, plain or residual, on ImageNet (Table 1) or CIFAR (Section 4.2).

    Convolutions and the classifier start as in He et al. 2015 (Gaussian, std sqrt(2/fan-in)), biases at 0.
    """

    def __init__(self, row: Architecture) -> None:
        super().__init__()
        self.architecture = row
        widths = row.widths
        kernel, stride = (7, 2) if row.stem == "imagenet" else (3, 1)
        self.conv1 = convolution(row.in_channels, widths[0], kernel, stride)
        self.bn1 = nn.BatchNorm2d(widths[0])
        pool = nn.MaxPool2d(3, 2, padding=1) if row.max_pool == "padded" else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool = pool if row.stem == "imagenet" else nn.Identity()
        block = BasicBlock if row.block == "basic" else Bottleneck
        channels = widths[0]
        for k, (width, count) in enumerate(zip(widths, row.blocks, strict=True), start=1):
            stage = nn.Sequential()
            for b in range(count):
                stage.append(block(row, channels, width, stride=2 if b == 0 and k > 1 else 1))
                channels = width * block.expansion
            self.add_module(f"layer{k}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, row.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits; the softmax of Table 1 is left to the loss or the test protocol."""
        logits: Tensor = self.fc(self.avgpool(self.features(x)).flatten(1))
        return logits

    def features(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The last feature map, which global average pooling and the classifier are given."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        for stage in self.stages():
            x = stage(x)
        return x

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the last feature map of images of a size."""
        reduction = self.architecture.reduction
        return -(-height // reduction), -(-width // reduction)

    def stages(self) -> list[nn.Module]:
        """`layer1` and on: the paper's conv2_x and on, or the map sizes 32, 16 and 8 of CIFAR."""
        return [self.get_submodule(f"layer{k}") for k in range(1, len(self.architecture.blocks) + 1)]


class BasicBlock(nn.Module):
    """y = relu(F(x) + shortcut(x)), Eqs. 1 and 2, with two 3x3 convolutions in F (Figure 5, left)."""

    expansion = 1

    def __init__(self, row: Architecture, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(row, channels, width, stride)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """One block; `h2` and `w2` are `h` and `w` over the stride, rounded up. Plain: y = relu(F(x))."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            y = y + self.downsample(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """The same with 1x1, 3x3 and 1x1 convolutions in F, the last of four times the width (Figure 5, right)."""

    expansion = 4

    def __init__(self, row: Architecture, channels: int, width: int, stride: int) -> None:
        super().__init__()
        first, second = (stride, 1) if row.version == "v1" else (1, stride)
        self.conv1 = convolution(channels, width, 1, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, second)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, 4 * width, 1, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(row, channels, 4 * width, stride)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """One block, shaped as the basic one's."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        if self.downsample is not None:
            y = y + self.downsample(x)
        return F.relu(y, inplace=True)


def shortcut(row: Architecture, channels: int, out: int, stride: int) -> nn.Module | None:
    """The shortcut of one block by the row's option (Section 3.3), or None in a plain network."""
    if row.shortcut == "none":
        return None
    grows = stride != 1 or channels != out
    if row.shortcut == "C" or (row.shortcut == "B" and grows):
        return nn.Sequential(convolution(channels, out, 1, stride), nn.BatchNorm2d(out))
    return ZeroPad(stride, out - channels, row.zero_channels) if grows else nn.Identity()


class ZeroPad(nn.Module):
    """Option A: every `stride`-th pixel, and `extra` channels of zeros; no parameters."""

    def __init__(self, stride: int, extra: int, place: ZeroChannels) -> None:
        super().__init__()
        self.stride = stride
        before = extra // 2 if place == "both" else 0
        self.padding = (0, 0, 0, 0, before, extra - before)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The subsampled, padded input."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def convolution(channels: int, out: int, kernel: int, stride: int) -> nn.Conv2d:
    """A convolution that keeps the map's size at stride 1, without bias: batch normalisation has one."""
    return nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
