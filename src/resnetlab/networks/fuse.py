"""The same function in fewer passes over memory: on a processor, convolution, addition and ReLU in one operation.

The operations are oneDNN's, as PyTorch's own compiler calls them; where they are missing, convolutions are folded.
"""

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from resnetlab.networks.fold import fold_batch_norm
from resnetlab.networks.resnet import ResNet


def fused(network: ResNet) -> ResNet:
    """A copy for float32 images on a processor, in evaluation mode, channels last; equal but for rounding."""
    copy = fold_batch_norm(network).to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)
    if not is_available():
        return copy
    copy.conv1 = FusedConvolution(copy.conv1)  # type: ignore[assignment]
    for stage in copy.stages():
        for name, block in list(stage.named_children()):
            stage.add_module(name, FusedBlock(block))
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
        """The map; with `added`, relu(convolution + added), which takes the memory of `added`."""
        layer = self.convolution
        padding, stride, dilation = (list(pair) for pair in (layer.padding, layer.stride, layer.dilation))
        if self._packed is None or self._packed[0] != x.shape:  # the best order of weights depends on the size
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                layer.weight, padding, stride, dilation, layer.groups, list(x.shape)
            )
            self._packed = x.shape, packed
        weight = self._packed[1]
        how = weight, layer.bias, padding, stride, dilation, layer.groups
        found: Tensor
        if added is None:
            found = torch.ops.mkldnn._convolution_pointwise(x, *how, self.then, [], "")
        else:
            found = torch.ops.mkldnn._convolution_pointwise_.binary(added, x, *how, "add", 1.0, "relu", [], "")
        return found


class FusedBlock(nn.Module):
    """A block of either kind; see `BasicBlock` and `Bottleneck`."""

    def __init__(self, block: nn.Module) -> None:
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

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n d y x"]:
        """One block; the memory of `x` may be taken."""
        y = x
        for layer in self.convolutions[:-1]:
            y = layer(y)
        if self.shortcut is None:
            last: Tensor = self.convolutions[-1](y)
        else:
            last = self.convolutions[-1](y, self.shortcut(x))
        return last
