"""Exact batch-norm statistics: of all training images, in place of the running averages of training.

The authors computed them on the training images after training, on ImageNet.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from resnetlab.devices import widened, widest
from resnetlab.errors import ResnetlabError
from resnetlab.networks.modes import modes_kept


@torch.no_grad()
def set_exact_statistics(network: nn.Module, batches: Iterable[Any], *, frozen: Collection[nn.Module] = ()) -> None:
    """Set each batch normalisation's mean and variance to those of all values that it is given, in float64.

    Batches are what the network takes, and may have different sizes; under torchrun those of all processes count.
    Layers normalise by the batch, as in training. `frozen` modules, and all in them, keep their mode and statistics.
    Momentum, counters of batches and modes are afterwards what they were.

    Raises:
        ResnetlabError: no batches, or an image whose statistics are not finite; the network is as it was.
    """
    kept = {inner for module in frozen for inner in module.modules()}
    moments = {
        module: Moments()
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module not in kept
    }
    hooks = [norm.register_forward_pre_hook(lambda norm, inputs: moments[norm].add(inputs[0])) for norm in moments]
    is_empty = True
    try:
        with _in_training_mode(network, kept):
            for images in batches:
                network(images)
                is_empty = False
    finally:
        for hook in hooks:
            hook.remove()
    if dist.is_initialized():
        is_empty = _merge_over_processes(network, moments)
    if is_empty:
        raise ResnetlabError("no images to take batch-norm statistics of; expected one batch at least")
    seen = {norm: found for norm, found in moments.items() if found.count}
    for norm, found in seen.items():
        if not (found.mean.isfinite().all() and found.squares.isfinite().all()):
            name = next(name for name, module in network.named_modules() if module is norm)
            raise ResnetlabError(f"the inputs of {name} are not finite, so it has no mean and variance")
    for norm, found in seen.items():
        assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018
        norm.running_mean.copy_(found.mean)
        norm.running_var.copy_(found.squares / max(found.count - 1, 1))


def equal_parts(count: int, at_most: int) -> list[slice]:
    """`count` images cut into as few parts as possible of `at_most` images, whose sizes differ by one at most.

    So no part is much smaller than the others, as the last would be: batch normalisation needs several images.

    Raises:
        ResnetlabError: a negative count, or parts of less than one.
    """
    if count < 0 or at_most < 1:
        raise ResnetlabError(f"cannot cut {count} images into parts of at most {at_most}; give 1 or more")
    parts = math.ceil(count / at_most)
    ends = [k * count // parts for k in range(parts + 1)] if parts else []
    return [slice(start, end) for start, end in pairwise(ends)]


class Moments:
    """Count, mean and summed squared deviations by channel of values that come in parts (Chan et al., 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros(0)

    def add(self, x: Float[Tensor, "n c h w"]) -> None:
        """Count the values in."""
        variance, mean = torch.var_mean(widened(x), (0, 2, 3), correction=0)
        count = x.numel() // x.shape[1]
        if not count:
            return
        if not self.count:
            self.count, self.mean, self.squares = count, mean, variance * count
            return
        total = self.count + count
        apart = mean - self.mean
        self.mean = self.mean + apart * (count / total)
        self.squares = self.squares + variance * count + apart.square() * (self.count * count / total)
        self.count = total


def _merge_over_processes(network: nn.Module, moments: dict[nn.BatchNorm2d, Moments]) -> bool:
    """The moments of all processes together, in each of them; whether none of them saw an image."""
    device = next(network.parameters()).device
    is_empty = True
    for norm, found in moments.items():
        zeros = torch.zeros(norm.num_features, dtype=widest(device), device=device)
        mean, squares = (found.mean, found.squares) if found.count else (zeros, zeros)
        sums = torch.cat([mean * found.count, mean.new_tensor([found.count])])
        dist.all_reduce(sums)
        count = int(sums[-1].item())
        if not count:
            continue
        of_all = sums[:-1] / count
        squares = squares + found.count * (mean - of_all).square()
        dist.all_reduce(squares)
        found.count, found.mean, found.squares = count, of_all, squares
        is_empty = False
    return is_empty


@contextmanager
def _in_training_mode(network: nn.Module, frozen: Collection[nn.Module]) -> Iterator[None]:
    """Within this context all but the frozen modules train; then modes and batch-norm buffers are as before."""
    with buffers_kept(network), modes_kept(network):
        for module in network.modules():
            if module not in frozen:
                module.training = True
        yield


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Within this context batch-norm buffers may change; afterwards they are as before."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    buffers = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
