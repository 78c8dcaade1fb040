"""Damage to bytes of any format."""

import math
import struct
from collections.abc import Callable
from random import Random

WORDS = tuple(
    struct.pack(form, value)
    for form, values in (
        ("<I", (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 100_000)),
        (">I", (1, 0x7FFFFFFF, 0xFFFFFFFF, 100_000)),
        ("<Q", (1 << 40, (1 << 64) - 1)),
        ("<H", (0xFFFF, 0x8000)),
        (">H", (0xFFFF, 60_000)),
        ("<f", (math.nan, math.inf)),
    )
    for value in values
)
Damaged = tuple[bytes, str]
"""What was made, and in a few words, how."""


def in_bytes(random: Random, content: bytes) -> Damaged:
    """One to three changes of bytes; the first part of a file, where headers are, is hit more often."""
    said = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        change = random.choice(CHANGES)
        content = change(random, content) if content else bytes([random.randrange(256)])
        said.append(change.__name__.strip("_"))
    return content, " and ".join(said)


def _place(random: Random, content: bytes) -> int:
    end = len(content) if random.random() < 0.5 else min(len(content), 256)
    return random.randrange(max(1, end))


def _flip(random: Random, content: bytes) -> bytes:
    at, changed = _place(random, content), bytearray(content)
    changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


def _byte(random: Random, content: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + bytes([random.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22))]) + content[at + 1 :]


def _word(random: Random, content: bytes) -> bytes:
    at, word = _place(random, content), random.choice(WORDS)
    return content[:at] + word + content[at + len(word) :]


def _cut(random: Random, content: bytes) -> bytes:
    return content[: random.choice((0, 1, len(content) - 1, random.randrange(len(content))))]


def _insert(random: Random, content: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + random.randbytes(random.choice((1, 4, 64))) + content[at:]


def _delete(random: Random, content: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + content[at + random.choice((1, 4, 64)) :]


def _repeat(random: Random, content: bytes) -> bytes:
    at, length = _place(random, content), random.choice((4, 64, 1024))
    return content[:at] + content[at : at + length] * random.choice((2, 50)) + content[at + length :]


def _zeros(random: Random, content: bytes) -> bytes:
    at, length = _place(random, content), random.choice((4, 64, 1024))
    return content[:at] + bytes(len(content[at : at + length])) + content[at + length :]


def _noise(random: Random, content: bytes) -> bytes:
    at, length = _place(random, content), random.choice((4, 64, 1024))
    return content[:at] + random.randbytes(len(content[at : at + length])) + content[at + length :]


CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip, _byte, _word, _cut, _insert, _delete, _repeat, _zeros, _noise,
)  # fmt: skip
