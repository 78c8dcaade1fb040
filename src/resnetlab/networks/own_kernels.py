"""Training with kernels of our own: batch normalisation by Triton, and weight gradients on a second stream."""

from typing import TypeVar

import torch
from torch import nn

from resnetlab.networks.forked import fork
from resnetlab.networks.modes import recast

N = TypeVar("N", bound=nn.Module)


def use_own_kernels(network: nn.Module, optimizer: torch.optim.Optimizer, precision: torch.dtype | None) -> None:
    """Train a network with them, in place; names and values stay. `precision` is the type of its convolutions.

    Gradients are those of one backward pass: they are not added up over several.
    """
    use_triton_norms(network)
    fork(network, optimizer, precision)


def use_triton_norms(network: N) -> N:
    """Compute batch normalisation in training with `triton_norm`, in place."""
    from resnetlab.networks.triton_norm import TritonNorm

    recast(network, nn.BatchNorm2d, TritonNorm)
    return network
