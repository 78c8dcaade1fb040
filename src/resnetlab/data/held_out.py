"""Choose the images to hold out: each class by its share; identical images and images of one group stay together."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NewType

import torch
from jaxtyping import Int64
from torch import Tensor

Unit = NewType("Unit", int)
"""The number of the first image of those that stay together."""


def units(*keys: Sequence[Hashable | None]) -> list[Unit]:
    """The unit of each image; images that share a key, also through others, are one unit. None is no key.

    Each of `keys` has one key per image.
    """

    def pairs() -> Iterator[tuple[int, int]]:
        for column in keys:
            first: dict[Hashable, int] = {}
            yield from ((first.setdefault(key, k), k) for k, key in enumerate(column) if key is not None)

    return linked(len(keys[0]), pairs())


def linked(count: int, pairs: Iterable[tuple[int, int]]) -> list[Unit]:
    """The unit of each of `count` images, of which some pairs belong together."""
    parent = list(range(count))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for pair in pairs:
        a, b = map(root, pair)
        parent[max(a, b)] = min(a, b)
    return [Unit(root(k)) for k in range(count)]


def shares(labels: Int64[Tensor, "n"], count: int) -> list[int]:
    """How many images of each class are held out, `count` in all, by largest remainders."""
    sizes = torch.bincount(labels).double()
    exact = count * sizes / len(labels)
    quota = exact.floor()
    largest = (exact - quota).argsort(descending=True, stable=True)
    quota[largest[: count - int(quota.sum())]] += 1
    return [int(x) for x in quota]


def hold_out(order: Sequence[int], labels: Sequence[int], of: Sequence[Unit], quota: Sequence[int]) -> list[bool]:
    """Whether each image is held out. Units are taken in `order`, as long as they fit the quotas of their classes.

    A class of which no unit fits gives its smallest one.
    """
    members: dict[Unit, list[int]] = defaultdict(list)
    for k, unit in enumerate(of):
        members[unit].append(k)
    held, taken, decided = [False] * len(labels), [0] * len(quota), set[Unit]()

    def take(unit: Unit) -> None:
        for k in members[unit]:
            held[k] = True
            taken[labels[k]] += 1

    for k in order:
        if of[k] not in decided:
            decided.add(of[k])
            inside = [labels[j] for j in members[of[k]]]
            if all(taken[label] + inside.count(label) <= quota[label] for label in set(inside)):
                take(of[k])
    for label, wanted in enumerate(quota):
        if wanted and not taken[label]:
            take(of[min((k for k in order if labels[k] == label), key=lambda k: len(members[of[k]]))])
    return held
