"""Networks for fast inference: batch normalisation folded, and on a processor convolution, addition and ReLU fused.

Only what is known to compute the same is replaced: the stem and blocks of `ResNet` whose types and children are
exactly those of resnet.py. Other blocks, and modules with forward hooks, stay as they are.
"""

import copy
from collections.abc import Iterator

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from resnetlab.networks.recompute import RecomputedStage
from resnetlab.networks.resnet import BasicBlock, Bottleneck, ResNet, StridedPointwise, ZeroPad

CONVOLUTIONS: dict[type[nn.Module], int] = {BasicBlock: 2, Bottleneck: 3}  # the blocks that are known


@torch.no_grad()
def fold_batch_norm(network: ResNet) -> ResNet:
    """A copy in evaluation mode without batch normalisation: convolutions have its scale and a bias instead.

    In evaluation mode batch normalisation is gamma (y - mean) / sqrt(var + eps) + beta, which is linear in the
    convolution's output y. Logits match the original's up to rounding. What is not known is left as it is.
    """
    folded = copy.deepcopy(network).eval()
    for parent, first, second in list(_pairs(folded)):
        convolution, norm = getattr(parent, first), getattr(parent, second)
        if (
            type(convolution) in (nn.Conv2d, StridedPointwise)
            and type(norm) is nn.BatchNorm2d
            and norm.running_mean is not None
            and not (_is_altered(convolution) or _is_altered(norm))
        ):
            setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
            setattr(parent, second, nn.Identity())
    return folded


def fused(network: ResNet) -> ResNet:
    """A copy for float32 images on a processor, in evaluation mode, channels last; equal up to rounding.

    Convolution, addition and ReLU are one operation of oneDNN, as PyTorch's own compiler calls them. Where they are
    missing, and in blocks that are not known, convolutions are folded at most.
    """
    copy = fold_batch_norm(network).to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)
    if not (is_available() and _has_known_stem(copy)):
        return copy
    is_ours = not any(_is_altered(module) for module in (copy.conv1, copy.bn1, copy.maxpool))
    if not _is_altered(copy.conv1):
        copy.conv1 = FusedConvolution(copy.conv1)  # type: ignore[assignment]
    for stage in copy.stages():
        is_known = type(stage) in (nn.Sequential, RecomputedStage)
        for name, block in list(stage.named_children()):
            if is_known and _is_fusible(block):
                stage.add_module(name, FusedBlock(block, may_overwrite=is_ours and not _is_altered(stage)))
                is_ours = True
            else:
                is_ours = False
        is_ours = is_ours and not _is_altered(stage)
    return copy


def is_available() -> bool:
    """Whether this build of PyTorch has the operations."""
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and all(hasattr(torch.ops.mkldnn, name) for name in names)


class FusedConvolution(nn.Module):
    """A convolution with what follows it: nothing, ReLU, or the addition of a map and ReLU."""

    def __init__(self, convolution: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.convolution = convolution
        self.then = "relu" if relu else "none"
        self._packed: tuple[torch.Size, Tensor] | None = None

    def forward(
        self, x: Float32[Tensor, "n c h w"], added: Float32[Tensor, "n d y x"] | None = None
    ) -> Float32[Tensor, "n d y x"]:
        """The map; with `added`, relu(convolution + added), which overwrites `added`."""
        layer = self.convolution
        padding, stride, dilation = (list(pair) for pair in (layer.padding, layer.stride, layer.dilation))
        if self._packed is None or self._packed[0] != x.shape:  # the best order of weights depends on the size
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                layer.weight, padding, stride, dilation, layer.groups, list(x.shape)
            )
            self._packed = x.shape, packed
        weight = self._packed[1]
        how = weight, layer.bias, padding, stride, dilation, layer.groups
        result: Tensor
        if added is None:
            result = torch.ops.mkldnn._convolution_pointwise(x, *how, self.then, [], "")
        else:
            result = torch.ops.mkldnn._convolution_pointwise_.binary(added, x, *how, "add", 1.0, "relu", [], "")
        return result


class FusedBlock(nn.Module):
    """A `BasicBlock` or `Bottleneck` whose batch normalisation is folded.

    With `may_overwrite`, an identity shortcut's sum takes the memory of the block's input, which saves a copy.
    """

    def __init__(self, block: nn.Module, may_overwrite: bool) -> None:
        super().__init__()
        convolutions = [child for child in block.children() if isinstance(child, nn.Conv2d)]
        shortcut = getattr(block, "downsample", None)
        last = len(convolutions) - 1
        self.convolutions = nn.ModuleList(
            FusedConvolution(layer, relu=k < last or shortcut is None) for k, layer in enumerate(convolutions)
        )
        if isinstance(shortcut, nn.Sequential):
            projection = shortcut[0]
            assert isinstance(projection, nn.Conv2d)  # noqa: S101 -- for the type checker
            shortcut = FusedConvolution(projection)
        self.shortcut = shortcut
        self.copies = isinstance(shortcut, nn.Identity) and not may_overwrite

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n d y x"]:
        """One block."""
        y = x
        for layer in self.convolutions[:-1]:
            y = layer(y)
        if self.shortcut is None:
            last: Tensor = self.convolutions[-1](y)
        else:
            added = self.shortcut(x)
            last = self.convolutions[-1](y, added.clone() if self.copies else added)
        return last


def _pairs(network: ResNet) -> Iterator[tuple[nn.Module, str, str]]:
    """Names of a convolution and of the normalisation that follows it, with the module whose children they are."""
    if type(network) is ResNet:
        yield network, "conv1", "bn1"
    for module in network.modules():
        if type(module) not in CONVOLUTIONS or "forward" in vars(module):
            continue
        for k in range(1, CONVOLUTIONS[type(module)] + 1):
            yield module, f"conv{k}", f"bn{k}"
        shortcut = getattr(module, "downsample", None)
        if type(shortcut) is nn.Sequential and len(shortcut) == 2 and not _is_altered(shortcut):
            yield shortcut, "0", "1"


def _has_known_stem(network: ResNet) -> bool:
    """Whether the images go through a convolution, folded normalisation, ReLU and maximum pooling at most."""
    return (
        type(network) is ResNet
        and not {"forward", "features"} & set(vars(network))
        and _is_plain(network.conv1)
        and type(network.get_submodule("bn1")) is nn.Identity
        and type(network.maxpool) in (nn.MaxPool2d, nn.Identity)
    )


def _is_fusible(block: nn.Module) -> bool:
    """Whether it is a block of ours with the children that it was made with, folded, and nothing watches them."""
    if type(block) not in CONVOLUTIONS or any(_is_altered(module) for module in block.modules()):
        return False
    children, numbers = dict(block.named_children()), range(1, CONVOLUTIONS[type(block)] + 1)
    shortcut = children.pop("downsample", None)
    if set(children) != {f"{kind}{k}" for kind in ("conv", "bn") for k in numbers}:
        return False
    is_projection = (
        type(shortcut) is nn.Sequential
        and len(shortcut) == 2
        and _is_plain(shortcut[0])
        and type(shortcut[1]) is nn.Identity
    )
    return all(_is_plain(children[f"conv{k}"]) and type(children[f"bn{k}"]) is nn.Identity for k in numbers) and (
        shortcut is None or type(shortcut) in (ZeroPad, nn.Identity) or is_projection
    )


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is a convolution that the operations can do: float32, and padded with zeros by numbers."""
    return (
        type(layer) in (nn.Conv2d, StridedPointwise)
        and layer.weight.dtype == torch.float32
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _is_altered(module: nn.Module) -> bool:
    """Whether a hook sees or changes what goes in or comes out, or this very module has a forward of its own."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
