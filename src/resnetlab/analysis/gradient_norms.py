"""Norms of signals and gradients by layer, and the correlation of gradients of neighbouring inputs ("shattering").

Networks are in training mode, so batch normalisation uses the batch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import linear_regression
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.analysis.blocks import Look, blocks, watching
from resnetlab.analysis.responses import layers_3x3
from resnetlab.analysis.subject import Batch, Subject, Watch
from resnetlab.networks.architecture import Architecture
from resnetlab.networks.modes import modes_kept
from resnetlab.networks.resnet import ResNet, fresh
from resnetlab.networks.statistics import buffers_kept

LEAST = 32  # images
BATCH = 128
NEIGHBOURS = 256  # inputs on a circle
Objective = Callable[[Tensor], Tensor]
"""Logits to a scalar."""


def without_batch_norm(network: ResNet) -> ResNet:
    """The same network with the identity in the places of its batch normalisations."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return network


def norms(
    network: nn.Module, layers: Sequence[nn.Module], x: Tensor, objective: Objective
) -> tuple[list[float], list[float]]:
    """Of each layer's output: its root mean square, and the norm of the objective's gradient with respect to it.

    The network runs once, in its current mode, and its batch-norm buffers are restored. The gradients of the weights
    are not computed.
    """
    signals = dict.fromkeys(layers, 0.0)
    gradients = dict.fromkeys(layers, 0.0)

    def look(layer: nn.Module) -> Look:
        def watch(output: Tensor) -> None:
            if output.requires_grad and not signals[layer]:
                signals[layer] = _root_mean_square(output)
                output.register_hook(lambda grad: gradients.__setitem__(layer, float(grad.double().norm())))  # type: ignore[no-untyped-call]

        return watch

    with watching({layer: look(layer) for layer in layers}), buffers_kept(network), torch.enable_grad():
        x = x.detach().requires_grad_()
        torch.autograd.grad(objective(network(x)), x)
    return list(signals.values()), list(gradients.values())


def layer_norms(network: ResNet, batch: Batch) -> dict[str, Any]:
    """`norms` of every 3x3 layer after batch normalisation (or where it would be), of the loss of one batch.

    `growth` is the mean factor by which the gradient's norm grows per layer towards the input. `branches` are the
    root mean squares of F(x) over that of x for each block.
    """
    x, labels = batch
    layers = layers_3x3(network)
    ratios: list[float] = []
    inputs: dict[str, float] = {}

    def record_input(name: str) -> Look:
        return lambda x: inputs.__setitem__(name, _root_mean_square(x))

    def record_branch(name: str) -> Look:
        return lambda y: ratios.append(_root_mean_square(y) / inputs[name])

    with modes_kept(network):
        network.train()
        found = blocks(network)
        branches = {block.last_norm: record_branch(block.name) for block in found}
        with watching(branches, {block.module: record_input(block.name) for block in found}):
            signals, gradients = norms(
                network, list(layers.values()), x, lambda logits: F.cross_entropy(logits, labels)
            )
    return {"signal": signals, "gradient": gradients, "growth": growth(gradients), "branches": ratios[: len(found)]}


def _root_mean_square(x: Tensor) -> float:
    return float(x.detach().double().square().mean().sqrt())


def growth(gradients: Sequence[float]) -> float:
    """The mean factor per layer from the last layer's gradient to the first's."""
    first, last = gradients[0], gradients[-1]
    if not (first > 0 and last > 0 and math.isfinite(first) and math.isfinite(last)):
        return math.nan
    return float((first / last) ** (1 / (len(gradients) - 1)))


def exponent(values: Sequence[float], first: int) -> float:
    """The slope of the logarithm of values over that of their numbers, which start at `first`; least squares."""
    x = [math.log(k) for k in range(first, first + len(values))]
    return linear_regression(x, [math.log(value) for value in values]).slope


def correlation_of_neighbours(network: ResNet, pair: Float[Tensor, "2 c h w"], seed: int = 0) -> float:
    """Mean cosine of the gradients at neighbouring inputs on the circle through two images (Balduzzi et al., 2017).

    The 256 inputs cos(t) a + sin(t) b are the batch; the differentiated function is a random projection of the last
    feature map, averaged over positions.
    """
    angles = torch.arange(NEIGHBOURS, device=pair.device) * (2 * math.pi / NEIGHBOURS)
    a, b = pair / pair.flatten(1).norm(dim=1)[:, None, None, None] * math.sqrt(pair[0].numel())
    x = (angles.cos()[:, None, None, None] * a + angles.sin()[:, None, None, None] * b).requires_grad_()
    direction = torch.randn(network.fc.in_features, generator=torch.Generator().manual_seed(seed)).to(pair.device)
    with modes_kept(network), buffers_kept(network), torch.enable_grad():
        network.train()
        values = network.features(x).mean((2, 3)) @ direction
        (gradient,) = torch.autograd.grad(values.sum(), x)
    rows = F.normalize(gradient.flatten(1).double(), dim=1)
    return float((rows * rows.roll(1, 0)).sum(1).mean())


def at_initialisation(
    architecture: Architecture, batch: Batch, seed: int = 0, *, batch_norm: bool = True
) -> dict[str, Any]:
    """`layer_norms` of a fresh network, with or without batch normalisation."""
    network = fresh(architecture, seed).to(batch[0].device).to(memory_format=torch.channels_last)
    if not batch_norm:
        network = without_batch_norm(network)
    return layer_norms(network, batch)


def shattering(architecture: Architecture, pair: Float[Tensor, "2 c h w"], seed: int = 0) -> float:
    """`correlation_of_neighbours` of a fresh network."""
    network = fresh(architecture, seed).to(pair.device).to(memory_format=torch.channels_last)
    return correlation_of_neighbours(network, pair)


def measure(subject: Subject, watch: Watch = iter) -> Mapping[str, Any]:
    """`layer_norms` of one batch of training images at initialisation, during training (snapshots) and at the end."""
    subject.need(LEAST, "the norm of gradients", "training")
    batch = subject.train.batch(min(BATCH, len(subject.train)))
    points = [{"step": 0, **layer_norms(subject.initial, batch)}] if subject.initial is not None else []
    for step, network in subject.snapshots():
        assert isinstance(network, ResNet)  # noqa: S101 -- for the type checker
        points.append({"step": step, **layer_norms(network, batch)})
    points.append({"step": None, **layer_norms(subject.network, batch)})
    return {"points": points, "images": len(batch[1]), "layers": list(layers_3x3(subject.network))}


def random_batch(channels: int, size: int, classes: int, count: int, device: torch.device) -> Batch:
    """Gaussian images and random classes, the same each time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, size, size, generator=generator)
    labels: Int64[Tensor, n] = torch.randint(classes, (count,), generator=generator)
    return x.to(device), labels.to(device)
