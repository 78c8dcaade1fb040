"""The numbers that the paper prints, by table and cell, each with its protocol.

"Deep Residual Learning for Image Recognition", arXiv:1512.03385v1. Errors are percentages. A dagger in
Table 4 (errors on the test set) is part of the protocol here.
"""

from dataclasses import dataclass

TEN_CROP = "ImageNet val, 10-crop"
SINGLE_MODEL = "ImageNet val, single model"
SINGLE_MODEL_TEST = "ImageNet test, single model"
ENSEMBLE = "ImageNet test, ensemble"
CIFAR = "CIFAR-10 test, single view, with data augmentation"


@dataclass(frozen=True)
class Printed:
    """One row of a table: errors in percent, multiply-adds and parameters as printed; None where nothing is."""

    table: int
    method: str
    protocol: str
    top1_error: float | None = None
    top5_error: float | None = None
    multiply_adds: float | None = None
    layers: int | None = None
    parameters: str | None = None
    mean: float | None = None
    """Of several runs, where `top1_error` is the best of them; `std` is their standard deviation."""
    std: float | None = None
    network: str | None = None
    """Our name of it, where it is one of the paper's own networks."""


TABLE1 = tuple(
    Printed(1, f"{depth}-layer", "one 224x224 image", multiply_adds=work, layers=depth, network=f"resnet{depth}")
    for depth, work in ((18, 1.8e9), (34, 3.6e9), (50, 3.8e9), (101, 7.6e9), (152, 11.3e9))
)
TABLE2 = tuple(
    Printed(2, name, TEN_CROP, error, layers=depth, network=name.lower().replace("-", ""))
    for name, depth, error in (
        ("plain-18", 18, 27.94),
        ("ResNet-18", 18, 27.88),
        ("plain-34", 34, 28.54),
        ("ResNet-34", 34, 25.03),
    )
)
TABLE3 = tuple(
    Printed(3, method, TEN_CROP, top1, top5, network=network)
    for method, top1, top5, network in (
        ("VGG-16", 28.07, 9.33, None),
        ("GoogLeNet", None, 9.15, None),
        ("PReLU-net", 24.27, 7.38, None),
        ("plain-34", 28.54, 10.02, "plain34"),
        ("ResNet-34 A", 25.03, 7.76, "resnet34"),
        ("ResNet-34 B", 24.52, 7.46, "resnet34"),
        ("ResNet-34 C", 24.19, 7.40, "resnet34"),
        ("ResNet-50", 22.85, 6.71, "resnet50"),
        ("ResNet-101", 21.75, 6.05, "resnet101"),
        ("ResNet-152", 21.43, 5.71, "resnet152"),
    )
)
TABLE4 = tuple(
    Printed(4, method, protocol, top1, top5, network=network)
    for method, protocol, top1, top5, network in (
        ("VGG (ILSVRC'14)", SINGLE_MODEL_TEST, None, 8.43, None),
        ("GoogLeNet (ILSVRC'14)", SINGLE_MODEL, None, 7.89, None),
        ("VGG (v5)", SINGLE_MODEL, 24.4, 7.1, None),
        ("PReLU-net", SINGLE_MODEL, 21.59, 5.71, None),
        ("BN-inception", SINGLE_MODEL, 21.99, 5.81, None),
        ("ResNet-34 B", SINGLE_MODEL, 21.84, 5.71, "resnet34"),
        ("ResNet-34 C", SINGLE_MODEL, 21.53, 5.60, "resnet34"),
        ("ResNet-50", SINGLE_MODEL, 20.74, 5.25, "resnet50"),
        ("ResNet-101", SINGLE_MODEL, 19.87, 4.60, "resnet101"),
        ("ResNet-152", SINGLE_MODEL, 19.38, 4.49, "resnet152"),
    )
)
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
    Printed(
        6,
        "ResNet",
        CIFAR,
        6.43,
        layers=110,
        parameters="1.7M",
        mean=6.61,
        std=0.16,
        network="cifar_resnet110",
    ),
    Printed(6, "ResNet", CIFAR, 7.93, layers=1202, parameters="19.4M", network="cifar_resnet1202"),
)
TABLES = {1: TABLE1, 2: TABLE2, 3: TABLE3, 4: TABLE4, 5: TABLE5, 6: TABLE6}
