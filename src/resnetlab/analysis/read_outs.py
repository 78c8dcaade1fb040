"""What each block adds: the classifier read out after every block, linear probes, and the direction of updates."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.analysis.blocks import Block, Look, blocks, need_shortcuts, watching
from resnetlab.analysis.subject import Images, Subject, Watch, error
from resnetlab.networks.modes import modes_kept
from resnetlab.networks.resnet import ResNet

LEAST = 100  # images: one of them is then a point of error
COSINE_IMAGES = 250


def features_by_block(network: ResNet, images: Images) -> list[Float[np.ndarray, "n c"]]:
    """The input of the first block, and every block's output, averaged over positions."""
    found = blocks(network)
    kept: list[list[Tensor]] = [[] for _ in range(len(found) + 1)]

    def keep(k: int) -> Look:
        return lambda y: kept[k].append(y.mean((2, 3)).cpu())

    looks: dict[nn.Module, Look] = {b.module: keep(k) for k, b in enumerate(found, 1)}
    with modes_kept(network), torch.inference_mode():
        network.eval()
        with watching(looks, {found[0].module: keep(0)}):
            for x, _ in images.batches():
                network(x)
    return [torch.cat(parts).numpy() for parts in kept]


def read_out(network: ResNet, images: Images) -> list[float]:
    """The error of the network's classifier after every block, in percent: later blocks are left out.

    The output of a block goes to the classifier through the remaining shortcuts alone, as it would if the remaining
    residual functions were zero. The first number is that of no block at all.
    """
    need_shortcuts(network.architecture, "a read-out after every block")
    found = blocks(network)
    wrong = [0.0] * (len(found) + 1)
    with modes_kept(network), torch.inference_mode():
        network.eval()
        for x, labels in images.batches():
            h = network.stem(x)
            for k in range(len(found) + 1):
                h = found[k - 1].module(h) if k else h
                logits = network.classify(_past(found[k:], h))
                wrong[k] += float((logits.argmax(1) != labels).sum())
    return [100 * count / len(images) for count in wrong]


def _past(rest: Sequence[Block], h: Tensor) -> Tensor:
    """The input of the classifier if these blocks had no residual functions."""
    for block in rest:
        shortcut = block.module.downsample
        assert shortcut is not None  # noqa: S101 -- residual networks only
        h = F.relu(shortcut(h))
    return h


def probe_errors(
    train: Sequence[np.ndarray],
    labels: Int64[Tensor, "n"],
    test: Sequence[np.ndarray],
    truth: Int64[Tensor, "m"],
    watch: Watch,
) -> list[float]:
    """The test error, in percent, of a logistic regression on standardised features, for each set of features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    errors = list[float]()
    for k in watch(range(len(train))):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(train[k], labels.numpy())
        errors.append(float(100 * (probe.predict(test[k]) != truth.numpy()).mean()))
    return errors


def cosines(network: ResNet, images: Images) -> list[float]:
    """For each block, the mean cosine between its update and the negative gradient of the loss (Jastrzebski et al.).

    The update of a block that keeps the shape is its output minus its input; a block that changes the shape has NaN.
    The gradient is that of each image's loss with respect to the block's input.
    """
    found = blocks(network)
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    first = images.first(min(COSINE_IMAGES, len(images)))
    sums, count = [0.0] * len(found), 0

    def keep_input(k: int) -> Look:
        return lambda x: inputs.__setitem__(k, x)

    def keep_output(k: int) -> Look:
        return lambda y: outputs.__setitem__(k, y)

    with modes_kept(network), torch.enable_grad():
        network.eval()
        ends: dict[nn.Module, Look] = {block.module: keep_output(k) for k, block in enumerate(found)}
        with watching(ends, {block.module: keep_input(k) for k, block in enumerate(found)}):
            for x, labels in first.batches(50):
                loss = F.cross_entropy(network(x), labels, reduction="sum")
                gradients = torch.autograd.grad(loss, [inputs[k] for k in range(len(found))])
                for k, gradient in enumerate(gradients):
                    if found[k].keeps_shape:
                        update = (outputs[k] - inputs[k]).detach().flatten(1)
                        cosine = F.cosine_similarity(update.double(), -gradient.flatten(1).double())
                        sums[k] += float(cosine.sum())
                count += len(labels)
    return [total / count if block.keeps_shape else float("nan") for total, block in zip(sums, found, strict=True)]


def boosted_errors(train: Images, test: Images, stages: int) -> list[float]:
    """The test error, in percent, of gradient-boosted trees on the pixels after each of `stages` stages."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    pixels, labels = train.pixels.flatten(1).numpy(), train.labels.numpy()
    trees = HistGradientBoostingClassifier(max_iter=stages, early_stopping=False, random_state=0)
    truth = test.labels.numpy()
    with threadpool_limits(torch.get_num_threads()):
        trees.fit(pixels, labels)
        predictions = trees.staged_predict(test.pixels.flatten(1).numpy())
        return [float(100 * (predicted != truth).mean()) for predicted in predictions]


def measure(subject: Subject, watch: Watch) -> Mapping[str, Any]:
    """Errors block by block and, in a residual network, the read-out and the cosines; boosted trees beside them."""
    subject.need(LEAST, "the error block by block", "training", "test")
    network, train, test = subject.network, subject.train, subject.test
    residual = network.architecture.is_residual
    features = [features_by_block(network, images) for images in (train, test)]
    return {
        "error": error(network, test),
        "images": len(test),
        "train_images": len(train),
        "blocks": [block.name for block in blocks(network)],
        "read_out": read_out(network, test) if residual else None,
        "probes": probe_errors(features[0], train.labels, features[1], test.labels, watch),
        "cosines": [None if c != c else c for c in cosines(network, test)] if residual else None,
        "boosted": boosted_errors(train, test, len(blocks(network))),
    }
