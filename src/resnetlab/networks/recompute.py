"""Training very deep networks in little memory: activations are computed again when the gradients need them."""

import math
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

STAGES = ("layer1", "layer2", "layer3", "layer4")


N = TypeVar("N", bound=nn.Module)


def recomputed(network: N) -> N:
    """The same network, which in training keeps only what goes into every so many blocks (Chen et al., 2016).

    Gradients and running statistics are the same up to rounding, names are the same, memory grows with the square
    root of the depth, and a step takes about a third longer. Of a detector it is the network that it is built on.
    """
    trunk = getattr(network, "trunk", network)
    for stage in STAGES:
        if hasattr(trunk, stage):
            setattr(trunk, stage, RecomputedStage(getattr(trunk, stage)))
    return network


class RecomputedStage(nn.Sequential):
    """Blocks in pieces of about the square root of their number, of which only the inputs are kept."""

    def __init__(self, stage: nn.Sequential) -> None:
        super().__init__(*stage)
        self._norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        self._piece = max(1, round(math.sqrt(len(self))))
        for norm in self._norms:  # it sees every batch twice: two half steps of the running statistics are one
            assert norm.momentum is not None  # noqa: S101 -- for the type checker
            norm.momentum = 1 - math.sqrt(1 - norm.momentum)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """All blocks, in order."""
        if not (self.training and torch.is_grad_enabled()):
            for block in self:
                x = block(x)
            return x
        blocks = list(self)
        for first in range(0, len(blocks), self._piece):
            piece = blocks[first : first + self._piece]
            x = checkpoint(_in_order, piece, x, use_reentrant=False, preserve_rng_state=False)
        with torch.no_grad():  # batches are counted again in the backward pass
            counters = [norm.num_batches_tracked for norm in self._norms if norm.num_batches_tracked is not None]
            if counters:
                torch._foreach_sub_(counters, 1)
        return x


def _in_order(blocks: list[nn.Module], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x
