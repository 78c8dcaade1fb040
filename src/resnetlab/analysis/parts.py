"""The layers of a network by stage and kind, with their input shapes and multiply-adds."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnetlab.networks.architecture import Architecture
from resnetlab.networks.measure import layer_costs, on_meta

LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Linear)
PROJECTION = "projection"
NORM = "batch norm"
MAX_POOL = "max pool"
CLASSIFIER = "average pool, fc"
OPTIMIZER = "SGD step"
REST = "rest"
"""ReLU, addition, option A's zeros: the network's time beyond that of the timed layers."""


@dataclass(frozen=True)
class Part:
    """One layer of a network. `input` is its shape with the batch; multiply-adds are for one image."""

    name: str
    stage: str
    kind: str
    layer: str
    input: tuple[int, ...]
    multiply_adds: int

    @property
    def first(self) -> bool:
        """Whether its input are the images, which need no gradient."""
        return self.name == "conv1"

    @property
    def training_multiply_adds(self) -> int:
        """Forward and backward; the gradients of the input and of the weights each cost as much as forward."""
        return self.multiply_adds * (2 if self.first else 3)

    @property
    def key(self) -> tuple[str, tuple[int, ...], bool]:
        """Equal for two parts that take the same time."""
        return self.layer, self.input, self.first


def parts(row: Architecture, batch_size: int, image_size: int) -> list[Part]:
    """The timed layers in forward order. They have all multiply-adds of the network."""
    network, image = on_meta(row), (row.in_channels, image_size, image_size)
    work = {cost.name: cost.multiply_adds for cost in layer_costs(network, image)}
    names = {module: name for name, module in network.named_modules()}
    found: list[Part] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        name = names[module]
        shape = (batch_size, *inputs[0].shape[1:])
        found.append(Part(name, stage_of(name), _kind(name, module), repr(module), shape, work.get(name, 0)))

    for module in network.modules():
        if isinstance(module, LAYERS):
            module.register_forward_pre_hook(record)
    with torch.no_grad():
        network.eval()(torch.empty(1, *image, device="meta"))
    return found


def stage_of(name: str) -> str:
    """The row of Table 1 of a layer: conv1 (with its pooling), conv2_x, ..., fc (with its pooling)."""
    top = name.split(".")[0]
    if top.startswith("layer"):
        return f"conv{int(top.removeprefix('layer')) + 1}_x"
    return "conv1" if top in ("conv1", "bn1", "maxpool") else "fc"


def stages(row: Architecture) -> tuple[str, ...]:
    """The names of all stages in order."""
    return "conv1", *(f"conv{k + 2}_x" for k in range(len(row.blocks))), "fc"


def _kind(name: str, module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        side = module.kernel_size[0]
        return PROJECTION if ".downsample." in name else f"{side}x{side} conv"
    if isinstance(module, nn.BatchNorm2d):
        return NORM
    return MAX_POOL if isinstance(module, nn.MaxPool2d) else CLASSIFIER
