"""Lesion studies (Veit et al., 2016): blocks of a trained network deleted or exchanged; gradients by path length."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.analysis.blocks import Block, blocks, exchanged, need_shortcuts, without_function
from resnetlab.analysis.subject import Batch, Images, Subject, Watch, error
from resnetlab.networks.modes import modes_kept
from resnetlab.networks.resnet import BasicBlock, Bottleneck, ResNet
from resnetlab.networks.statistics import buffers_kept, set_exact_statistics

LEAST = 100  # images: one of them is then a point of error
STATISTICS_OVER = 640  # training images to estimate batch statistics on
DRAWS = 8
PATH_DRAWS = 4
PATH_BATCH = 64
AT_MOST_LENGTHS = 28
SHARE = 0.9  # of the gradient, for the range of effective path lengths


def without(network: ResNet, chosen: Sequence[Block], images: Images, statistics: Images | None = None) -> float:
    """The error in percent when these blocks are deleted.

    With `statistics`, batch-norm statistics are re-estimated on these images first.

    The network is as before afterwards.
    """
    left = {block: module for block in chosen if (module := without_function(block)) is not None}
    with exchanged(left), buffers_kept(network):
        if statistics is not None:
            set_exact_statistics(network, (x for x, _ in statistics.batches()))
        return error(network, images)


def single_deletions(network: ResNet, test: Images, train: Images, watch: Watch) -> list[dict[str, Any]]:
    """The error without each block, with the running statistics and with statistics re-estimated.

    A block that nothing can replace, because its input and output differ in shape and it has no shortcut, has None.
    """
    found: list[dict[str, Any]] = []
    for block in watch(blocks(network)):
        possible = without_function(block) is not None
        found.append(
            {
                "block": block.name,
                "keeps_shape": block.keeps_shape,
                "error": without(network, [block], test) if possible else None,
                "error_anew": without(network, [block], test, train) if possible else None,
            }
        )
    return found


def random_deletions(
    network: ResNet, counts: Sequence[int], test: Images, train: Images, draws: int, watch: Watch
) -> list[dict[str, Any]]:
    """Errors without `count` random blocks, over several draws; only blocks that keep the shape are deleted."""
    among = [block for block in blocks(network) if block.keeps_shape]
    generator = random.Random(0)  # noqa: S311
    found: list[dict[str, Any]] = []
    for count in watch([count for count in counts if count <= len(among)]):
        drawn = _choices(among, count, draws, generator)
        errors = [without(network, chosen, test) for chosen in drawn]
        reestimated = [without(network, chosen, test, train) for chosen in drawn[: max(1, draws // 2)]]
        found.append({"count": count, "errors": errors, "errors_anew": reestimated})
    return found


def _choices(among: Sequence[Block], count: int, draws: int, generator: random.Random) -> list[list[Block]]:
    """Different random choices of some blocks; all of them, if there are no more than `draws`."""
    if math.comb(len(among), count) <= draws:
        return [list(chosen) for chosen in itertools.combinations(among, count)]
    found: dict[tuple[str, ...], list[Block]] = {}
    while len(found) < draws:
        chosen = generator.sample(among, count)
        found[tuple(sorted(block.name for block in chosen))] = chosen
    return list(found.values())


def permutations(
    network: ResNet, counts: Sequence[int], test: Images, draws: int, watch: Watch
) -> list[dict[str, Any]]:
    """Errors after `count` random exchanges of two blocks of one stage, with Kendall's tau of the order of blocks."""
    stages: dict[nn.Module, list[Block]] = {}
    for block in blocks(network):
        if block.keeps_shape:
            stages.setdefault(block.stage, []).append(block)
    groups = [group for group in stages.values() if len(group) > 2]  # two blocks only go to and fro
    generator = random.Random(0)  # noqa: S311
    found: list[dict[str, Any]] = []
    if not groups:
        return found
    for count in watch(counts):
        errors, taus = list[float](), list[float]()
        for _ in range(draws):
            orders = [list(range(len(group))) for group in groups]
            for _ in range(count):
                order = generator.choices(orders, [len(order) for order in orders])[0]
                a, b = generator.sample(range(len(order)), 2)
                order[a], order[b] = order[b], order[a]
            moved = {
                group[k]: group[order[k]].module
                for group, order in zip(groups, orders, strict=True)
                for k in range(len(group))
            }
            with exchanged(moved):
                errors.append(error(network, test))
            taus.append(kendall_tau(orders))
        found.append({"count": count, "errors": errors, "taus": taus})
    return found


def kendall_tau(orders: Sequence[Sequence[int]]) -> float:
    """Kendall's rank correlation with the original order, over the pairs within each group."""
    signs = [1 if order[i] < order[j] else -1 for order in orders for j in range(len(order)) for i in range(j)]
    return float(mean(signs)) if signs else 1.0


class OnPath(nn.Module):
    """A block whose gradient flows through its residual function alone, or through its shortcut alone."""

    def __init__(self, block: BasicBlock | Bottleneck, *, through: bool) -> None:
        super().__init__()
        self.block, self.through = block, through

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The block's own output."""
        shortcut = self.block.downsample
        assert shortcut is not None  # noqa: S101 -- residual networks only
        if self.through:
            return F.relu(self.block.residual(x) + shortcut(x.detach()))
        return F.relu(self.block.residual(x.detach()) + shortcut(x))


@contextmanager
def on_path(found: Sequence[Block], chosen: set[int]) -> Iterator[None]:
    """Within this context gradients flow along one path: through the functions of these blocks, past the others."""
    with exchanged({block: OnPath(block.module, through=k in chosen) for k, block in enumerate(found)}):
        yield


def path_lengths(network: ResNet, batch: Batch, draws: int, watch: Watch) -> dict[str, Any]:
    """The gradient that reaches the first block's input along paths of each length, averaged over random paths.

    A residual network of n blocks has C(n, k) paths through k residual functions; their share of the gradient is that
    number times the norm along one. `low` and `high` are the lengths, in layers, between which 90 % of it lies.
    """
    need_shortcuts(network.architecture, "a path past residual functions")
    found = blocks(network)
    layers = 3 if isinstance(found[0].module, Bottleneck) else 2
    n = len(found)
    lengths = sorted(
        {round(k * n / AT_MOST_LENGTHS) for k in range(AT_MOST_LENGTHS + 1)} if n > AT_MOST_LENGTHS else range(n + 1)
    )
    generator, x, labels = random.Random(0), *batch  # noqa: S311
    norms = dict.fromkeys(lengths, 0.0)
    with modes_kept(network), torch.enable_grad():
        network.eval()
        stem = network.stem(x).detach()
        for length in watch(lengths):
            paths = [set(generator.sample(range(n), length)) for _ in range(draws if 0 < length < n else 1)]
            norms[length] = mean(_norm_along(network, stem, labels, found, path) for path in paths)
    logs = _every(norms, n)
    counts = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    shares = [count + log for count, log in zip(counts, logs, strict=True)]
    weights = [math.exp(share - max(shares)) for share in shares]
    total, (low, high) = sum(weights), middle_range(weights, SHARE)
    binomial = [math.exp(count - n * math.log(2)) for count in counts]
    binomial_low, binomial_high = middle_range(binomial, SHARE)
    return {
        "blocks": n,
        "layers_per_block": layers,
        "lengths": list(range(n + 1)),
        "norms": [math.exp(log) for log in logs],
        "share": [weight / total for weight in weights],
        "binomial": binomial,
        "low": layers * low,
        "high": layers * high,
        "binomial_low": layers * binomial_low,
        "binomial_high": layers * binomial_high,
    }


def _norm_along(network: ResNet, stem: Tensor, labels: Tensor, found: Sequence[Block], path: set[int]) -> float:
    """The mean norm, over images, of the gradient at the first block's input along one path."""
    with on_path(found, path):
        h = start = stem.clone().requires_grad_()
        for stage in network.stages():
            h = stage(h)
        loss = F.cross_entropy(network.classify(h), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, start)
    return float(gradient.double().flatten(1).norm(dim=1).mean())


def _every(norms: Mapping[int, float], n: int) -> list[float]:
    """The logarithm of the norm at each length, interpolated linearly between the measured ones."""
    known = sorted(norms)
    logs = {k: math.log(max(norms[k], 1e-300)) for k in known}
    found = list[float]()
    for k in range(n + 1):
        below, above = max(j for j in known if j <= k), min(j for j in known if j >= k)
        part = 0.0 if above == below else (k - below) / (above - below)
        found.append((1 - part) * logs[below] + part * logs[above])
    return found


def middle_range(weights: Sequence[float], share: float) -> tuple[int, int]:
    """The first and last index of the middle of a distribution that holds this share of it."""
    total, sums = sum(weights), list[float]()
    for weight in weights:
        sums.append((sums[-1] if sums else 0.0) + weight)
    edge = (1 - share) / 2
    low = next(k for k, value in enumerate(sums) if value >= edge * total)
    high = next(k for k, value in enumerate(sums) if value >= (1 - edge) * total)
    return low, high


def measure(subject: Subject, watch: Watch) -> Mapping[str, Any]:
    """All lesions of one network on its test images, and, in a residual network, the path lengths."""
    subject.need(LEAST, "a lesion study", "training", "test")
    network, test, train = subject.network, subject.test, subject.train.first(STATISTICS_OVER)
    removable = sum(block.keeps_shape for block in blocks(network))
    counts = sorted({1, 2, 3, 4, 6, 8, 10, 12, 16, 20} & set(range(1, removable + 1)))
    return {
        "error": error(network, test),
        "images": len(test),
        "train_images": len(train),
        "single": single_deletions(network, test, train, watch),
        "deleted": random_deletions(network, counts, test, train, DRAWS, watch),
        "exchanged": permutations(network, counts, test, DRAWS, watch),
        "paths": path_lengths(network, test.batch(min(PATH_BATCH, len(test))), PATH_DRAWS, watch)
        if network.architecture.is_residual
        else None,
    }
