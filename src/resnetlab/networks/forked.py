"""Weight gradients of convolutions beside the backward pass, on a second stream of a GPU, from weights cast at once.

The gradient of a convolution's weights is needed only by the optimizer, so it need not be waited for on the way back
through the network. In mixed precision each convolution casts its weights, and each gradient is cast back; here all
weights are cast together before the forward pass, and all gradients together before the optimizer's step.
"""

from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.networks.modes import recast


class Fork:
    """The second stream of one network: what was computed on it, and what must not be freed before it has ended."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.layers: set[ForkedConv2d] = set()
        self.found: dict[ForkedConv2d, Tensor] = {}
        self._used: list[Tensor] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "Fork":
        """Streams are not copied. Layers of a copy are none of its `layers`, and are torch's."""
        return self

    def gradient(self, layer: "ForkedConv2d", dy: Tensor, x: Tensor, weight: Tensor) -> None:
        """Compute a layer's weight gradient, and go on without waiting for it."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(dy.device))
        with torch.cuda.stream(self.stream) if self.stream is not None else nullcontext():
            found = layer.backward_part(dy, x, weight, of_weight=True)
        self.found[layer] = found
        self._used += [dy, x]

    def join(self) -> None:
        """Wait for all gradients, and give them to the optimizer in the type of the weights."""
        if not self.found:
            return
        layers, found = list(self.found), list(self.found.values())
        if self.stream is not None:
            current = torch.cuda.current_stream(found[0].device)
            current.wait_stream(self.stream)
            for each in found if not torch.cuda.is_current_stream_capturing() else ():
                each.record_stream(current)
        gradients = [torch.empty_like(layer.weight) for layer in layers]
        torch._foreach_copy_(gradients, found)
        for layer, gradient in zip(layers, gradients, strict=True):
            layer.weight.grad = gradient
        self.found.clear()
        self._used.clear()


class _Convolution(torch.autograd.Function):
    """A convolution whose backward pass leaves the weights' gradient to the fork."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, cast_weight: Tensor, layer: "ForkedConv2d") -> Tensor:
        ctx.save_for_backward(x, cast_weight)
        ctx.layer = layer
        return F.conv2d(x, cast_weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, None, None, None]:
        x, cast_weight = ctx.saved_tensors
        layer: ForkedConv2d = ctx.layer
        dy = gradients[0]
        layer.fork.gradient(layer, dy, x, cast_weight)
        dx = layer.backward_part(dy, x, cast_weight, of_weight=False) if ctx.needs_input_grad[0] else None
        return dx, None, None, None


class ForkedConv2d(nn.Conv2d):
    """A convolution with its weights in the type of the computation; with a bias it is torch's. Made by `fork`."""

    fork: Fork
    cast_weight: Tensor

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The convolution."""
        trained = self.training and torch.is_grad_enabled() and self.weight.requires_grad
        if not trained or self not in self.fork.layers:
            return super().forward(x)
        y: Tensor = _Convolution.apply(x.to(self.cast_weight.dtype), self.weight, self.cast_weight, self)
        return y

    def backward_part(self, dy: Tensor, x: Tensor, weight: Tensor, of_weight: bool) -> Tensor:
        """The gradient of the input, or of the weights."""
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            dy,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            (0, 0),
            self.groups,
            (not of_weight, of_weight, False),
        )
        return found[of_weight]


def fork(network: nn.Module, optimizer: torch.optim.Optimizer, precision: torch.dtype | None) -> None:
    """Compute the weight gradients of all convolutions on a second stream, in place.

    `precision` is the type that convolutions are computed in; None: that of the weights. Names and values stay.
    """
    shared = Fork(next(network.parameters()).device)
    for layer in recast(network, nn.Conv2d, ForkedConv2d):
        layer.fork = shared
        if layer.bias is None:
            layer.cast_weight = layer.weight.detach() if precision is None else layer.weight.detach().to(precision)
            shared.layers.add(layer)

    def cast_weights(*ignored: object) -> None:
        """Before each forward pass: weights change by the optimizer, and by a checkpoint."""
        if network.training and precision is not None:
            weights = [layer.weight.detach() for layer in shared.layers]
            torch._foreach_copy_([layer.cast_weight for layer in shared.layers], weights)

    def join(*ignored: object) -> None:
        shared.join()

    network.register_forward_pre_hook(cast_weights)
    optimizer.register_step_pre_hook(join)
