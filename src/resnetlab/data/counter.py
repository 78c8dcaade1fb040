"""Random numbers as a pure function of their coordinates, identical on every device.

They are hashes of a counter (the output function of splitmix64; Steele, Lea and Flood, 2014). There is no generator
state to store, and a draw is tensor arithmetic on the data's device.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
MASK = 0x7FFFFFFFFFFFFFFF


def bits(counter: Int64[Tensor, "*shape"], *coordinates: int) -> Int64[Tensor, "*shape"]:
    """63 random bits per element of `counter`, independent for different coordinates."""
    return _mix_on_device(counter * _signed(GOLDEN) + key(*coordinates)) & MASK


def bits_at(
    counter: Int64[Tensor, "*shape"], first: int | Int64[Tensor, ""], last: Int64[Tensor, ""]
) -> Int64[Tensor, "*shape"]:
    """The same, where the last coordinate is a tensor on the device; `first` is the key of the others.

    No synchronisation is needed, and compiled code serves every seed if the key is a tensor, too.
    """
    shift = _mix_on_device(last * _signed(GOLDEN) + first) + _signed(GOLDEN)
    return _mix_on_device(counter * _signed(GOLDEN) + shift) & MASK


def key(*coordinates: int) -> int:
    """The coordinates as one number, for `bits_at`."""
    found = 0
    for coordinate in coordinates:
        found = _mix(found + (coordinate + 1) * GOLDEN)
    return _signed(found + GOLDEN)


def uniforms_at(
    counter: Int64[Tensor, "*shape"], first: int | Int64[Tensor, ""], last: Int64[Tensor, ""]
) -> Float[Tensor, "*shape"]:
    """Random numbers from 0 to less than 1, in steps of 2^-24; see `bits_at`."""
    return (bits_at(counter, first, last) >> 39).float() / 2**24


def permutation(n: int, seed: int, epoch: int, device: torch.device) -> Int64[Tensor, "n"]:
    """The order of the `n` samples in an epoch."""
    return bits(torch.arange(n, device=device), seed, 0, epoch).argsort(stable=True)


def balanced_draws(labels: Int64[Tensor, "n"], seed: int, epoch: int) -> Int64[Tensor, "n"]:
    """Draw n of n samples with replacement; every class has the same probability."""
    by_class = labels.argsort(stable=True)
    counts = torch.unique(labels, return_counts=True)[1]
    drawn = bits(torch.arange(2 * len(labels), device=labels.device), seed, 3, epoch)
    which, place = drawn[: len(labels)] % len(counts), drawn[len(labels) :]
    return by_class[(counts.cumsum(0) - counts)[which] + place % counts[which]]


def _mix_on_device(x: Tensor) -> Tensor:
    """The output function of splitmix64; it relies on int64 overflow."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical right shift; torch only has the arithmetic one."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(x: int) -> int:
    """Reinterpret 64 bits as a signed integer."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: int) -> int:
    """`_mix_on_device` for one Python integer."""
    x &= (1 << 64) - 1
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & ((1 << 64) - 1)
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & ((1 << 64) - 1)
    return x ^ (x >> 31)
