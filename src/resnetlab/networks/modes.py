"""Change what a network's modules do, in place: their modes for a while, or their class."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


def recast(network: nn.Module, before: type[nn.Module], after: type[M]) -> list[M]:
    """Give the modules of exactly one class another, derived one; names and values stay. Returns them."""
    found: list[M] = []
    for module in network.modules():
        if type(module) is before:
            module.__class__ = after
            found.append(cast("M", module))
    return found


@contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """Within this context modes may be changed; afterwards each module is in its own again."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
