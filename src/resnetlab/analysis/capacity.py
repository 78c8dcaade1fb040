"""The capacity that a network uses, by block: the effective rank of features, and the size of F(x) against x."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from resnetlab.analysis.blocks import Block, Look, blocks, watching
from resnetlab.analysis.subject import Images, Subject, Watch
from resnetlab.networks.modes import modes_kept
from resnetlab.networks.resnet import ResNet

LEAST = 100  # images


def effective_rank(rows: Float[Tensor, "n c"]) -> float:
    """The exponential of the entropy of the normalised singular values of centred rows (Roy and Vetterli, 2007)."""
    values = torch.linalg.svdvals((rows - rows.mean(0)).double())
    shares = values / values.sum().clamp(min=1e-300)
    shares = shares[shares > 0]
    return float((-(shares * shares.log()).sum()).exp())


def by_block(network: ResNet, images: Images) -> list[dict[str, Any]]:
    """For each block: effective ranks of x and F(x), averaged over positions, and the distance from the identity.

    The distance is the norm of the output minus the input over the norm of the input, averaged over images; None
    where the shape changes. `branch` is the same of F(x), before the addition and ReLU.
    """
    found = blocks(network)
    inputs: dict[Block, list[Tensor]] = {block: [] for block in found}
    functions: dict[Block, list[Tensor]] = {block: [] for block in found}
    distances, branches = dict.fromkeys(found, 0.0), dict.fromkeys(found, 0.0)
    current: dict[Block, Tensor] = {}

    def on_input(block: Block) -> Look:
        def look(x: Tensor) -> None:
            current[block] = x
            inputs[block].append(x.mean((2, 3)).cpu())

        return look

    def on_function(block: Block) -> Look:
        def look(y: Tensor) -> None:
            functions[block].append(y.mean((2, 3)).cpu())
            if block.keeps_shape:
                branches[block] += float((_size(y) / _size(current[block])).sum())

        return look

    def on_output(block: Block) -> Look:
        def look(y: Tensor) -> None:
            x = current.pop(block)
            if block.keeps_shape:
                distances[block] += float((_size(y - x) / _size(x)).sum())

        return look

    with (
        modes_kept(network),
        torch.inference_mode(),
        watching({block.last_norm: on_function(block) for block in found}),
        watching(
            {block.module: on_output(block) for block in found}, {block.module: on_input(block) for block in found}
        ),
    ):
        network.eval()
        for x, _ in images.batches():
            network(x)
    return [
        {
            "block": block.name,
            "rank_in": effective_rank(torch.cat(inputs[block])),
            "rank_function": effective_rank(torch.cat(functions[block])),
            "branch": branches[block] / len(images) if block.keeps_shape else None,
            "distance": distances[block] / len(images) if block.keeps_shape else None,
        }
        for block in found
    ]


def _size(x: Tensor) -> Float[Tensor, "n"]:
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms.clamp(min=1e-12)


def measure(subject: Subject, watch: Watch = iter) -> Mapping[str, Any]:
    """`by_block` on test images."""
    subject.need(LEAST, "the effective rank", "test")
    found = by_block(subject.network, subject.test)
    return {"blocks": found, "images": len(subject.test), "trained_on": subject.trained_on}
