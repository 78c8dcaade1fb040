"""Find images that look nearly the same: copies in another size or quality, slightly cropped or brightened."""

from itertools import pairwise

import imagehash
import numpy as np
from jaxtyping import UInt64
from PIL import Image

from resnetlab.data.held_out import Unit, linked

WITHIN = 6
"""Bits of 64 in which the hashes of two such images differ at most. Rescaled and recompressed copies differ in fewer;
different photographs of one kind in more than 10 (tests/data/test_near.py)."""
SIDE = 64  # pixels; the hash is of 32


def perceptual_hash(image: Image.Image) -> int:
    """The perceptual hash of an image (pHash by imagehash): the signs of the lowest frequencies, 64 bits."""
    grey, factor = image.convert("L"), min(image.size) // SIDE
    return int(str(imagehash.phash(grey.reduce(factor) if factor > 1 else grey)), 16)


def similar_hashes(hashes: UInt64[np.ndarray, "n"], within: int = WITHIN) -> list[Unit]:
    """The unit of each hash: hashes that differ in `within` bits at most, directly or through others, are one unit.

    Two such hashes are equal in one of `within + 1` bands of their bits, so only those are compared.
    """
    different, of = np.unique(hashes, return_inverse=True)
    pairs: list[tuple[int, int]] = []
    edges = np.linspace(0, 64, within + 2).round().astype(int)
    for low, high in pairwise(edges.tolist()):
        band = (different >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = band.argsort(kind="stable")
        first = np.arange(len(order))
        for shift in range(1, len(order)):
            first = first[first + shift < len(order)]
            first = first[band[order[first]] == band[order[first + shift]]]
            if not len(first):
                break
            a, b = order[first], order[first + shift]
            close = np.bitwise_count(different[a] ^ different[b]) <= within
            pairs += zip(a[close].tolist(), b[close].tolist(), strict=True)
    of_hash = linked(len(different), pairs)
    return [of_hash[k] for k in of.tolist()]
