"""Compare the networks of Table 1 and Figure 3 as built here with the paper's numbers."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import nn

from resnetlab.networks.architecture import Architecture, architecture, with_options
from resnetlab.networks.measure import layer_costs, multiply_adds, on_meta, parameter_count
from resnetlab.paper.tables import COUNTS, PLAIN34_OF_VGG19, TABLE1, TABLE1_STAGES, Table1Row

IMAGE = (3, 224, 224)
UNIT = 1e8  # the last digit of "3.8e9"
VGG_STAGES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # 3x3 convolutions before each max pooling of stride 2
VGG_WIDTHS = (64, 128, 256, 512, 512)
VGG_CLASSIFIER = (4096, 4096, 1000)
Agreement = Literal["rounds", "cut", "differs"]


@dataclass(frozen=True)
class VggCost:
    """Multiply-adds for one 224x224 image, and parameters including biases."""

    convolutions: int
    fully_connected: int
    parameters: int


@dataclass(frozen=True)
class Count:
    """A count of multiply-adds for one image: the paper's, and a computed one under a convention."""

    where: str
    method: str
    printed: float
    convention: str
    multiply_adds: int
    parameters: int

    @property
    def agreement(self) -> Agreement:
        """How the computed count agrees with the printed one."""
        return agreement(self.printed, self.multiply_adds)


def agreement(printed: float | int, exact: float | int, unit: float = UNIT) -> Agreement:
    """Whether the printed value is the exact one rounded to `unit`, truncated, or different."""
    digits = round(printed / unit)
    if round(exact / unit) == digits:
        return "rounds"
    return "cut" if exact // unit == digits else "differs"


def vgg_cost(depth: int) -> VggCost:
    """VGG-16 or VGG-19 by its layers (Figure 3, left): 3x3 convolutions, then three fully connected layers."""
    channels, side = IMAGE[0], IMAGE[1]
    convolutions = parameters = 0
    for width, count in zip(VGG_WIDTHS, VGG_STAGES[depth], strict=True):
        for _ in range(count):
            weights = 9 * channels * width
            convolutions += weights * side * side
            parameters += weights + width
            channels = width
        side //= 2
    inputs, fully_connected = channels * side * side, 0
    for outputs in VGG_CLASSIFIER:
        fully_connected += inputs * outputs
        parameters += inputs * outputs + outputs
        inputs = outputs
    return VggCost(convolutions, fully_connected, parameters)


def table1_rows(row: Architecture) -> list[Table1Row]:
    """The rows of Table 1 for one network, read from its modules and the shapes in a forward pass."""
    network = on_meta(row)
    outputs = {cost.name: cost.output for cost in layer_costs(network, IMAGE)}
    pool = network.maxpool
    stem = network.conv1
    rows = [Table1Row(row.name, "conv1", outputs["conv1"][-1], (_layer(stem),), stride=stem.stride[0])]
    for k, stage in enumerate(network.stages(), start=1):
        blocks = [[child for child in block.children() if isinstance(child, nn.Conv2d)] for block in stage.children()]
        (layers,) = {tuple(map(_layer, block)) for block in blocks}  # Table 1 has one kind of block per row
        stride = max(convolution.stride[0] for convolution in blocks[0])
        found = Table1Row(row.name, f"conv{k + 1}_x", outputs[f"layer{k}.0.conv2"][-1], layers, len(blocks), stride)
        if k == 1 and isinstance(pool, nn.MaxPool2d):
            found = replace(found, pool=(int(str(pool.kernel_size)), int(str(pool.stride))))
        rows.append(found)
    return [*rows, Table1Row(row.name, "fc", 1, ((1, network.fc.out_features),))]


def counts() -> list[Count]:
    """Every printed count of multiply-adds with the computed count of each possible convention."""
    printed = [(f"Table {row.table}", row.method, row.multiply_adds, row.network) for row in TABLE1]
    printed += [(row.where, row.method, row.multiply_adds, row.network) for row in COUNTS]
    return [
        Count(where, method, value, *computed)
        for where, method, value, network in printed
        if value is not None and network is not None
        for computed in _conventions(network)
    ]


def compared_structure() -> dict[str, Any]:
    """Stages and counts, printed and computed, and the percentage of Section 3.3."""
    built = {row.network: table1_rows(architecture(row.network)) for row in TABLE1_STAGES}
    computed = {(row.network, row.stage): row for rows in built.values() for row in rows}
    plain34, vgg19 = multiply_adds(on_meta(architecture("plain34")), IMAGE), vgg_cost(19)
    share = 100 * plain34 / (vgg19.convolutions + vgg19.fully_connected)
    return {
        "stages": [
            {"printed": asdict(row), "computed": asdict(computed[row.network, row.stage])} for row in TABLE1_STAGES
        ],
        "counts": [asdict(count) | {"agreement": count.agreement} for count in counts()],
        "plain34_percent_of_vgg19": {
            "printed": PLAIN34_OF_VGG19,
            "computed": share,
            "agreement": agreement(PLAIN34_OF_VGG19, share, 1.0),
        },
    }


def _conventions(network: str) -> list[tuple[str, int, int]]:
    """Convention, multiply-adds and parameters; the paper's convention, if stated, comes first."""
    if network.startswith("vgg"):
        cost = vgg_cost(int(network.removeprefix("vgg")))
        both = cost.convolutions + cost.fully_connected
        return [
            ("convolutions alone", cost.convolutions, cost.parameters),
            ("convolutions and fully connected layers", both, cost.parameters),
        ]
    row = architecture(network)
    if not row.is_residual:
        rows = {"no shortcuts": row}
    elif row.block == "basic":
        rows = {"option A, the same as plain": with_options(row, shortcut="A"), "option B": row}
    else:
        rows = {
            "option B, stride on the first 1x1 (v1)": row,
            "option B, stride on the 3x3 (v1.5)": with_options(row, version="v1.5"),
        }
    networks = {convention: on_meta(chosen) for convention, chosen in rows.items()}
    return [(name, multiply_adds(built, IMAGE), parameter_count(built)) for name, built in networks.items()]


def _layer(convolution: nn.Conv2d) -> tuple[int, int]:
    return convolution.kernel_size[0], convolution.out_channels
