"""The networks of the paper: plain and residual, basic and bottleneck, shortcut options A, B and C.

A network is a row of the architecture table (`Architecture`) and one module that reads it (`ResNet`).
State-dict names are torchvision's, so its weights load as they are.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.choices import MaxPool, Shortcut, Version, ZeroChannels
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import Architecture, parse

UNSAFE_CHANNELS = 16  # fewer than that; see `StridedPointwise`


def build(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    shortcut: Shortcut | None = None,
    version: Version | None = None,
    zero_channels: ZeroChannels | None = None,
    max_pool: MaxPool | None = None,
    narrow: int | None = None,
) -> "ResNet":
    """A freshly initialised network by name, e.g. `build("resnet50", version="v1.5")` or `build("resnet50-v1.5")`.

    Options that are None are the name's or the table's: 1000 or 10 classes, option B on ImageNet and A on CIFAR.

    Raises:
        ResnetlabError: see `parse`.
    """
    return ResNet(
        parse(
            name,
            shortcut=shortcut,
            version=version,
            zero_channels=zero_channels,
            max_pool=max_pool,
            narrow=narrow,
            num_classes=num_classes,
            in_channels=in_channels,
        )
    )


def fresh(row: Architecture, seed: int) -> "ResNet":
    """The network as a training with this seed starts with it."""
    torch.manual_seed(seed)
    return ResNet(row)


def copy_weights(source: "ResNet", target: "ResNet", *, last_layer: bool) -> None:
    """Copy the weights of one network into another of the same blocks, with its last layer or without."""
    weights = source.state_dict()
    if not last_layer:
        weights |= {name: value for name, value in target.state_dict().items() if name.startswith("fc.")}
    target.load_state_dict(weights)


class ResNet(nn.Module):
    """A network of the paper, plain or residual, on ImageNet (Table 1) or CIFAR (Section 4.2).

    Convolutions and the classifier start as in He et al. 2015 (Gaussian, std sqrt(2/fan-in)), biases at 0.

    Raises:
        ResnetlabError: the row is another kind of network's.
    """

    def __init__(self, row: Architecture) -> None:
        super().__init__()
        if row.stem == "vgg":
            raise ResnetlabError(f"{row.name} is no ResNet; it is here as the baseline of detection")
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
        if self.fc.weight.is_meta:  # no values to initialise, and meta tensors take long to do nothing
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits; the softmax of Table 1 is left to the loss or the test protocol."""
        return self.classify(self.features(x))

    def features(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The last feature map, which global average pooling and the classifier are given."""
        x = self.stem(x)
        for stage in self.stages():
            x = stage(x)
        return x

    def stem(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n width h2 w2"]:
        """The input of the first block: the first convolution, and on ImageNet max pooling."""
        y: Tensor = self.maxpool(normalised(self.bn1, self.conv1(x)))
        return y

    def classify(self, x: Float[Tensor, "n out h w"]) -> Float[Tensor, "n classes"]:
        """Logits from the last feature map."""
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the last feature map of images of a size."""
        reduction = self.architecture.reduction
        return -(-height // reduction), -(-width // reduction)

    def stages(self) -> list[nn.Module]:
        """`layer1` and on: the paper's conv2_x and on, or the map sizes 32, 16 and 8 of CIFAR."""
        return [self.get_submodule(f"layer{k}") for k in range(1, len(self.architecture.blocks) + 1)]


class JoinedNorm(nn.BatchNorm2d):
    """Batch normalisation that can add the shortcut and apply ReLU, too: norm(x, shortcut, relu=True)."""

    @property
    def joins(self) -> bool:
        """Whether it does so now."""
        raise NotImplementedError


def normalised(norm: nn.Module, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """relu(norm(x) + shortcut); without a shortcut relu(norm(x))."""
    if isinstance(norm, JoinedNorm) and norm.joins:
        joined: Tensor = norm(x, shortcut, relu=True)
        return joined
    y = norm(x)
    return F.relu(y if shortcut is None else y + shortcut, inplace=True)


class PaperBlock(nn.Module):
    """y = relu(F(x) + shortcut(x)), Eqs. 1 and 2; in a plain network y = relu(F(x))."""

    downsample: nn.Module | None
    """The shortcut; None in a plain network."""

    def convolved(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """F(x) before its last batch normalisation."""
        raise NotImplementedError

    def last_norm(self) -> nn.Module:
        """The last batch normalisation of F."""
        raise NotImplementedError

    def residual(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """F(x), before the addition and the last ReLU."""
        f: Tensor = self.last_norm()(self.convolved(x))
        return f

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """One block; `h2` and `w2` are `h` and `w` over the stride, rounded up."""
        return normalised(
            self.last_norm(), self.convolved(x), None if self.downsample is None else self.downsample(x)
        )


class BasicBlock(PaperBlock):
    """Two 3x3 convolutions in F (Figure 5, left)."""

    expansion = 1

    def __init__(self, row: Architecture, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(row, channels, width, stride)

    def convolved(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """F(x) before `bn2`."""
        f: Tensor = self.conv2(normalised(self.bn1, self.conv1(x)))
        return f

    def last_norm(self) -> nn.Module:
        """`bn2`."""
        return self.bn2


class Bottleneck(PaperBlock):
    """1x1, 3x3 and 1x1 convolutions in F, the last of four times the width (Figure 5, right)."""

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

    def convolved(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """F(x) before `bn3`."""
        y = normalised(self.bn1, self.conv1(x))
        f: Tensor = self.conv3(normalised(self.bn2, self.conv2(y)))
        return f

    def last_norm(self) -> nn.Module:
        """`bn3`."""
        return self.bn3


def shortcut(row: Architecture, channels: int, out: int, stride: int) -> nn.Module | None:
    """The shortcut of one block by the row's option (Section 3.3), or None in a plain network."""
    if not row.is_residual:
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
    kind = StridedPointwise if kernel == 1 and stride > 1 and channels < UNSAFE_CHANNELS else nn.Conv2d
    return kind(channels, out, kernel, stride, padding=kernel // 2, bias=False)


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution with a stride and few channels, the same function as `nn.Conv2d`.

    On processors oneDNN 3.12 and earlier writes past its memory in the gradient of such weights (its issue 6035),
    which ends the process or changes other numbers. Where there may be a gradient, the stride is taken before.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The convolution."""
        if not torch.is_grad_enabled() or x.device.type != "cpu":
            return super().forward(x)
        down, right = self.stride
        return F.conv2d(x[:, :, ::down, ::right], self.weight, self.bias)
