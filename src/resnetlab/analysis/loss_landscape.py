"""The loss around a trained network: along filter-normalised random directions (Li et al., 2018), and its curvature.

The network is in evaluation mode; batch-norm statistics stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.analysis.subject import Batch, Images, Subject, Watch, error_and_loss
from resnetlab.networks.modes import modes_kept

LEAST = 100  # images
LINES = 4
POINTS = 51
REACH = 1.0  # relative to the norm of each filter
CURVATURE_IMAGES = 256
TOLERANCE = 1e-3
AT_MOST = 60  # iterations
Loss = Callable[[], Tensor]


def filter_normalised(network: nn.Module, seed: int) -> list[Tensor]:
    """A Gaussian direction whose filters have the norms of the network's; zero for biases and batch normalisation.

    A filter is the weights of one output: of a convolution, or of the fully connected layer.
    """
    generator = torch.Generator().manual_seed(seed)
    direction: list[Tensor] = []
    for weight in network.parameters():
        if weight.ndim <= 1:
            direction.append(torch.zeros_like(weight))
            continue
        drawn = torch.randn(weight.shape, generator=generator).to(weight.device)
        shape = (-1, *(1 for _ in weight.shape[1:]))
        ours, theirs = (x.detach().flatten(1).norm(dim=1).view(shape) for x in (drawn, weight))
        direction.append(drawn * theirs / ours.clamp(min=1e-12))
    return direction


@contextmanager
def moved(network: nn.Module, steps: Sequence[tuple[float, Sequence[Tensor]]]) -> Iterator[None]:
    """Within this context the parameters are moved along directions; afterwards they are as before, bit for bit."""
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with torch.no_grad():
        for length, direction in steps:
            for parameter, part in zip(network.parameters(), direction, strict=True):
                parameter.add_(part, alpha=length)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, kept in zip(network.parameters(), before, strict=True):
                parameter.copy_(kept)


def places(points: int) -> list[float]:
    """Distances from the trained network, the same on both sides; an odd number of points has 0 among them."""
    return [REACH * (2 * k / (points - 1) - 1) for k in range(points)]


def along_lines(network: nn.Module, images: Images, lines: int, points: int, watch: Watch) -> dict[str, Any]:
    """The loss at points along random lines through the network."""
    at = places(points)
    losses = []
    for seed in watch(range(lines)):
        direction = filter_normalised(network, seed)
        line = list[float]()
        for length in at:
            with moved(network, [(length, direction)]):
                line.append(error_and_loss(network, images)[1])
        losses.append(line)
    return {"places": at, "losses": losses}


def on_surface(network: nn.Module, images: Images, points: int, watch: Watch) -> dict[str, Any]:
    """The loss on a square grid spanned by two random directions."""
    at, (first, second) = places(points), (filter_normalised(network, seed) for seed in (0, 1))
    losses = []
    for a in watch(at):
        row = list[float]()
        for b in at:
            with moved(network, [(a, first), (b, second)]):
                row.append(error_and_loss(network, images)[1])
        losses.append(row)
    return {"places": at, "losses": losses}


def largest_eigenvalue(loss: Loss, parameters: Sequence[Tensor], seed: int = 0) -> dict[str, Any]:
    """The eigenvalue of largest magnitude of the Hessian of `loss()`, by power iteration with exact products.

    Stops when it changes by less than 0.1 %, or after 60 iterations; `converged` says which.
    """
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    with torch.enable_grad():
        gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    value, iterations, converged = 0.0, 0, False
    while iterations < AT_MOST and not converged:
        size = torch.sqrt(sum((v.double().square().sum() for v in vector), torch.zeros((), dtype=torch.float64)))
        vector = [(v / size).to(v.dtype) for v in vector]
        product = torch.autograd.grad(gradients, parameters, vector, retain_graph=True)
        found = float(sum((p.double() * v.double()).sum() for p, v in zip(product, vector, strict=True)))
        iterations += 1
        converged = abs(found - value) <= TOLERANCE * abs(found)
        value, vector = found, list(product)
    return {"value": value, "iterations": iterations, "converged": converged}


def curvature(network: nn.Module, batch: Batch) -> dict[str, Any]:
    """`largest_eigenvalue` of a network's loss on one batch, in evaluation mode."""
    x, labels = batch
    parameters = [p for p in network.parameters() if p.requires_grad]
    with modes_kept(network):
        network.eval()
        return largest_eigenvalue(lambda: F.cross_entropy(network(x), labels), parameters)


def measure(subject: Subject, watch: Watch, surface: int = 0) -> Mapping[str, Any]:
    """Losses on training images along lines, on a surface of `surface` x `surface` points if asked, and curvature."""
    subject.need(LEAST, "the loss landscape", "training")
    network, images = subject.network, subject.train
    error, loss = error_and_loss(network, images)
    found: dict[str, Any] = {"error": error, "loss": loss, "images": len(images)}
    found |= {"lines": along_lines(network, images, LINES, POINTS, watch)}
    found |= {"surface": on_surface(network, images, surface, watch)} if surface else {}
    return found | {"curvature": curvature(network, images.batch(min(CURVATURE_IMAGES, len(images))))}
