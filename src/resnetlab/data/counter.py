"""Random numbers as a pure function of their coordinates, the same on every device.

A counter is hashed instead of a generator advanced (splitmix64's output function; Steele, Lea and Flood, 2014), so
nothing has to be stored to draw any number again, and a draw is tensor arithmetic where the data lives.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15


def bits(
    counter: Int64[Tensor, "*shape"], *coordinates: int, last: Int64[Tensor, ""] | None = None
) -> Int64[Tensor, "*shape"]:
    """63 random bits for each element of `counter`, independent between different coordinates.

    The last coordinate may be a number on a device, which nobody has to wait for.
    """
    key = 0
    for coordinate in coordinates:
        key = _mix(key + (coordinate + 1) * GOLDEN)
    shift = _signed(key + GOLDEN) if last is None else _mix_on_device(last * _signed(GOLDEN) + _signed(key + GOLDEN))
    if last is not None:
        shift = shift + _signed(GOLDEN)
    return _mix_on_device(counter * _signed(GOLDEN) + shift) & 0x7FFFFFFFFFFFFFFF


def permutation(n: int, seed: int, epoch: int, device: torch.device) -> Int64[Tensor, "n"]:
    """The order of `n` samples in an epoch."""
    return bits(torch.arange(n, device=device), seed, 0, epoch).argsort(stable=True)


def _mix_on_device(x: Tensor) -> Tensor:
    """The output function of splitmix64; arithmetic of int64 wraps, as it should."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical right shift: torch has only the arithmetic one."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(x: int) -> int:
    """The 64-bit two's complement integer with these bits."""
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: int) -> int:
    """The same of one Python integer."""
    x &= (1 << 64) - 1
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & ((1 << 64) - 1)
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & ((1 << 64) - 1)
    return x ^ (x >> 31)
