"""The numbers in the tables of "Deep Residual Learning for Image Recognition" (arXiv:1512.03385v1), with protocols.

Errors are percentages. The dagger in Table 4 (errors on the test set) is part of the protocol here.
"""

from dataclasses import dataclass

TEN_CROP = "ImageNet val, 10-crop"
SINGLE_MODEL = "ImageNet val, single model"
SINGLE_MODEL_TEST = "ImageNet test, single model"
ONE_CROP = "ImageNet val, 1 centre crop, the authors' release"
ENSEMBLE = "ImageNet test, ensemble"
CIFAR = "CIFAR-10 test, single view, with data augmentation"


@dataclass(frozen=True)
class Printed:
    """One row of a table: errors in percent, multiply-adds and parameters as printed; None for empty cells."""

    table: int | None
    method: str
    protocol: str
    top1_error: float | None = None
    top5_error: float | None = None
    multiply_adds: float | None = None
    layers: int | None = None
    parameters: str | None = None
    mean: float | None = None
    """Mean of several runs, with `std` their standard deviation; `top1_error` is then the best run's."""
    std: float | None = None
    network: str | None = None
    """Our name of the network, if it is one of the paper's own."""
    shortcut: str | None = None
    """Its shortcut option, "none" for a plain network."""


def _ours(method: str) -> str | None:
    """Our name of one of the paper's own networks."""
    name = method.split(" ")[0].lower().replace("-", "")
    return name if name.startswith(("plain", "resnet")) else None


def _option(method: str, otherwise: str) -> str | None:
    if _ours(method) is None:
        return None
    named = method.rpartition(" ")[2]
    return "none" if method.startswith("plain") else named if named in ("A", "B", "C") else otherwise


TABLE1 = tuple(
    Printed(1, f"{depth}-layer", "one 224x224 image", multiply_adds=work, layers=depth, network=f"resnet{depth}")
    for depth, work in ((18, 1.8e9), (34, 3.6e9), (50, 3.8e9), (101, 7.6e9), (152, 11.3e9))
)


@dataclass(frozen=True)
class Table1Row:
    """One row of Table 1 for one depth: `repeats` blocks of convolutions (kernel side, filters).

    `output` is the side of the feature map in pixels. `stride` is that of the row's first block or convolution,
    `pool` the kernel and stride of a max pooling before it. The last row has the fully connected layer.
    """

    network: str
    stage: str
    output: int
    layers: tuple[tuple[int, int], ...]
    repeats: int = 1
    stride: int = 1
    pool: tuple[int, int] | None = None


TABLE1_STAGES = tuple(
    row
    for network, expansion, repeats in (
        ("resnet18", None, (2, 2, 2, 2)),
        ("resnet34", None, (3, 4, 6, 3)),
        ("resnet50", 4, (3, 4, 6, 3)),
        ("resnet101", 4, (3, 4, 23, 3)),
        ("resnet152", 4, (3, 8, 36, 3)),
    )
    for row in (
        Table1Row(network, "conv1", 112, ((7, 64),), stride=2),
        *(
            Table1Row(
                network,
                stage,
                output,
                ((1, width), (3, width), (1, expansion * width)) if expansion else ((3, width), (3, width)),
                count,
                stride=1 if stage == "conv2_x" else 2,
                pool=(3, 2) if stage == "conv2_x" else None,
            )
            for (stage, output, width), count in zip(
                (("conv2_x", 56, 64), ("conv3_x", 28, 128), ("conv4_x", 14, 256), ("conv5_x", 7, 512)),
                repeats,
                strict=True,
            )
        ),
        Table1Row(network, "fc", 1, ((1, 1000),)),
    )
)


@dataclass(frozen=True)
class PrintedCount:
    """Multiply-adds for one 224x224 image that the paper prints outside its tables, and where."""

    where: str
    method: str
    multiply_adds: float
    network: str


COUNTS = (
    PrintedCount("Figure 3", "VGG-19", 19.6e9, "vgg19"),
    PrintedCount("Figure 3", "34-layer plain", 3.6e9, "plain34"),
    PrintedCount("Figure 3", "34-layer residual", 3.6e9, "resnet34"),
    PrintedCount("Section 4.1", "VGG-16", 15.3e9, "vgg16"),
)
PLAIN34_OF_VGG19 = 18  # percent of its multiply-adds, Section 3.3
TABLE2 = tuple(
    Printed(2, name, TEN_CROP, error, layers=depth, network=_ours(name), shortcut=_option(name, "A"))
    for name, depth, error in (
        ("plain-18", 18, 27.94),
        ("ResNet-18", 18, 27.88),
        ("plain-34", 34, 28.54),
        ("ResNet-34", 34, 25.03),
    )
)
TABLE3 = tuple(
    Printed(3, method, TEN_CROP, top1, top5, network=_ours(method), shortcut=_option(method, "B"))
    for method, top1, top5 in (
        ("VGG-16", 28.07, 9.33),
        ("GoogLeNet", None, 9.15),
        ("PReLU-net", 24.27, 7.38),
        ("plain-34", 28.54, 10.02),
        ("ResNet-34 A", 25.03, 7.76),
        ("ResNet-34 B", 24.52, 7.46),
        ("ResNet-34 C", 24.19, 7.40),
        ("ResNet-50", 22.85, 6.71),
        ("ResNet-101", 21.75, 6.05),
        ("ResNet-152", 21.43, 5.71),
    )
)
TABLE4 = tuple(
    Printed(4, method, protocol, top1, top5, network=_ours(method), shortcut=_option(method, "B"))
    for method, protocol, top1, top5 in (
        ("VGG (ILSVRC'14)", SINGLE_MODEL_TEST, None, 8.43),
        ("GoogLeNet (ILSVRC'14)", SINGLE_MODEL, None, 7.89),
        ("VGG (v5)", SINGLE_MODEL, 24.4, 7.1),
        ("PReLU-net", SINGLE_MODEL, 21.59, 5.71),
        ("BN-inception", SINGLE_MODEL, 21.99, 5.81),
        ("ResNet-34 B", SINGLE_MODEL, 21.84, 5.71),
        ("ResNet-34 C", SINGLE_MODEL, 21.53, 5.60),
        ("ResNet-50", SINGLE_MODEL, 20.74, 5.25),
        ("ResNet-101", SINGLE_MODEL, 19.87, 4.60),
        ("ResNet-152", SINGLE_MODEL, 19.38, 4.49),
    )
)
RELEASE = tuple(
    Printed(None, method, ONE_CROP, top1, top5, network=_ours(method), shortcut="B")
    for method, top1, top5 in (("ResNet-50", 24.7, 7.8), ("ResNet-101", 23.6, 7.1), ("ResNet-152", 23.0, 6.7))
)
"""Errors with one centre crop, from the README of the authors' release; the paper has them only in Figure 4."""
TABLE5 = tuple(
    Printed(5, method, ENSEMBLE, top5_error=top5)
    for method, top5 in (
        ("VGG (ILSVRC'14)", 7.32),
        ("GoogLeNet (ILSVRC'14)", 6.66),
        ("VGG (v5)", 6.8),
        ("PReLU-net", 4.94),
        ("BN-inception", 4.82),
        ("ResNet (ILSVRC'15)", 3.57),
    )
)
TABLE6 = (
    Printed(6, "Maxout", CIFAR, 9.38),
    Printed(6, "NIN", CIFAR, 8.81),
    Printed(6, "DSN", CIFAR, 8.22),
    Printed(6, "FitNet", CIFAR, 8.39, layers=19, parameters="2.5M"),
    Printed(6, "Highway", CIFAR, 7.54, layers=19, parameters="2.3M", mean=7.72, std=0.16),
    Printed(6, "Highway", CIFAR, 8.80, layers=32, parameters="1.25M"),
    Printed(6, "ResNet", CIFAR, 8.75, layers=20, parameters="0.27M", network="cifar_resnet20"),
    Printed(6, "ResNet", CIFAR, 7.51, layers=32, parameters="0.46M", network="cifar_resnet32"),
    Printed(6, "ResNet", CIFAR, 7.17, layers=44, parameters="0.66M", network="cifar_resnet44"),
    Printed(6, "ResNet", CIFAR, 6.97, layers=56, parameters="0.85M", network="cifar_resnet56"),
    Printed(6, "ResNet", CIFAR, 6.43, layers=110, parameters="1.7M", mean=6.61, std=0.16, network="cifar_resnet110"),
    Printed(6, "ResNet", CIFAR, 7.93, layers=1202, parameters="19.4M", network="cifar_resnet1202"),
)
TABLES = {1: TABLE1, 2: TABLE2, 3: TABLE3, 4: TABLE4, 5: TABLE5, 6: TABLE6}


def printed(network: str, shortcut: str, protocol: str) -> Printed | None:
    """The printed result of a network (our name) under a protocol: center, ten-crop or dense; None if not printed.

    center is from the authors' release; the paper's tables do not have it.
    """
    rows = {"center": RELEASE, "ten-crop": TABLE3 + TABLE2, "dense": TABLE4}[protocol]
    return next((row for row in rows if (row.network, row.shortcut) == (network, shortcut)), None)
