"""Restore the training and evaluation modes of a network's modules."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """Within this context modes may be changed; afterwards each module is in its own again."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
