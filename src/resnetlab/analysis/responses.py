"""Standard deviations of layer responses (Figure 7): of every 3x3 layer after batch normalisation, before ReLU."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from resnetlab.analysis.blocks import blocks, watching
from resnetlab.analysis.subject import Images, Subject, Watch
from resnetlab.networks.modes import modes_kept
from resnetlab.networks.resnet import ResNet
from resnetlab.networks.statistics import Moments, buffers_kept

LEAST = 100  # images
BATCH = 128  # images of one batch statistic, as in training


def layers_3x3(network: ResNet) -> dict[str, nn.Module]:
    """The batch normalisations after every 3x3 convolution, by the convolution's name, in order.

    A CIFAR network of depth 6n+2 has 6n+1. The 7x7 convolution of ImageNet networks is not among them.
    """
    found: dict[str, nn.Module] = {}
    if network.conv1.kernel_size == (3, 3):
        found["conv1"] = network.bn1
    for block in blocks(network):
        for name, module in block.module.named_children():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                found[f"{block.name}.{name}"] = block.module.get_submodule(name.replace("conv", "bn"))
    return found


def responses(network: ResNet, images: Images, *, batch_mode: bool = False) -> dict[str, list[float]]:
    """For each 3x3 layer, the standard deviation of its response over these images.

    `all` is over images, positions and channels together; `channel` is the mean over channels of the deviation over
    images and positions. `batch_mode` normalises by batches of 128 images, as in training; otherwise by the running
    statistics. Buffers and modes are restored.
    """
    layers = layers_3x3(network)
    moments = {module: Moments() for module in layers.values()}
    with modes_kept(network), buffers_kept(network), torch.no_grad():
        network.train(batch_mode)
        with watching({module: found.add for module, found in moments.items()}):
            for x, _ in images.batches(BATCH if batch_mode else None):
                if len(x) > 1 or not batch_mode:
                    network(x)
    variances = [(found.squares / found.count, found.mean) for found in moments.values()]
    return {
        "all": [float((variance.mean() + mean.var(correction=0)).sqrt()) for variance, mean in variances],
        "channel": [float(variance.sqrt().mean()) for variance, _ in variances],
    }


def measure(subject: Subject, watch: Watch = iter) -> Mapping[str, Any]:
    """The responses on test images in evaluation mode, and under the other choices that the paper leaves open."""
    subject.need(LEAST, "the standard deviation of responses", "training", "test")
    usual = responses(subject.network, subject.test)
    choices = {
        "as chosen": usual["all"],
        "by channel": usual["channel"],
        "training images": responses(subject.network, subject.train)["all"],
        "batch statistics": responses(subject.network, subject.test, batch_mode=True)["all"],
    }
    return {"layers": list(layers_3x3(subject.network)), "choices": choices, "images": len(subject.test)}
