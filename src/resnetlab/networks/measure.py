"""What a network costs, by layer and by row of Table 1."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnetlab.networks.architecture import Architecture
from resnetlab.networks.modes import modes_kept
from resnetlab.networks.resnet import ResNet


@dataclass(frozen=True)
class LayerCost:
    """One convolution or fully connected layer, for one image."""

    name: str
    output: tuple[int, ...]  # shape without the batch: channels, height, width
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class StageCost:
    """One row of a network's layer table, as in Table 1, for one image."""

    name: str
    output: str
    layers: str
    parameters: int
    multiply_adds: int


def parameter_count(network: nn.Module) -> int:
    """Learned parameters: weights, biases, and batch normalisation's scale and shift."""
    return sum(p.numel() for p in network.parameters())


def multiply_adds(network: nn.Module, image: tuple[int, int, int]) -> int:
    """Multiply-adds of the convolutions and fully connected layers for one image (channels, height, width).

    The paper calls them FLOPs (Section 3.3).
    """
    return sum(layer.multiply_adds for layer in layer_costs(network, image))


def layer_costs(network: nn.Module, image: tuple[int, int, int]) -> list[LayerCost]:
    """Every convolution and fully connected layer in the order of the forward pass, by running it once."""
    costs: list[LayerCost] = []
    names = {module: name for name, module in network.named_modules()}

    def record(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.get_parameter("weight")
        positions = output[0].numel() // weight.shape[0]
        parameters = sum(p.numel() for p in module.parameters())
        costs.append(LayerCost(names[module], tuple(output.shape[1:]), parameters, weight.numel() * positions))

    hooks = [
        module.register_forward_hook(record)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    device = next(network.parameters()).device
    try:
        with modes_kept(network), torch.no_grad():
            network.eval()(torch.empty(1, *image, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return costs


def on_meta(row: Architecture) -> ResNet:
    """The network without memory for its weights: enough to count, at any depth, at once."""
    with torch.device("meta"):
        return ResNet(row)


def stage_table(row: Architecture, image_size: int | None = None) -> list[StageCost]:
    """The network's layer table in the style of Table 1: conv1, conv2_x and on, classifier; sums add up."""
    size = image_size or row.image_size
    network = on_meta(row)
    costs = layer_costs(network, (row.in_channels, size, size))

    def stage(name: str, prefixes: tuple[str, ...], output: str, layers: str) -> StageCost:
        parameters = sum(p.numel() for key, p in network.named_parameters() if key.split(".")[0] in prefixes)
        work = sum(cost.multiply_adds for cost in costs if cost.name.split(".")[0] in prefixes)
        return StageCost(name, output, layers, parameters, work)

    by_name = {cost.name: cost for cost in costs}
    stem = by_name["conv1"]
    kernel, stride = network.conv1.kernel_size[0], network.conv1.stride[0]
    text = f"{kernel}x{kernel}, {stem.output[0]}, stride {stride}"
    rows = [stage("conv1", ("conv1", "bn1"), _side(stem), text)]
    for k, count in enumerate(row.blocks, start=1):
        block = [cost for cost in costs if cost.name.startswith(f"layer{k}.0.conv")]
        kernels = ("3x3", "3x3") if row.block == "basic" else ("1x1", "3x3", "1x1")
        inside = "; ".join(f"{kernel}, {cost.output[0]}" for kernel, cost in zip(kernels, block, strict=True))
        pool = "3x3 max pool, stride 2\n" if row.stem == "imagenet" and k == 1 else ""
        rows.append(stage(f"conv{k + 1}_x", (f"layer{k}",), _side(block[-1]), f"{pool}[{inside}] x{count}"))
    rows.append(stage("fc", ("fc",), "1x1", f"average pool, {row.num_classes}-d fc, softmax"))
    return rows


def _side(cost: LayerCost) -> str:
    return f"{cost.output[1]}x{cost.output[2]}"
