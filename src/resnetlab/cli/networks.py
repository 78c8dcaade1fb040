"""`resnetlab networks`."""

import tyro

from resnetlab.cli.common import Count, Name, Option, app, at_least_one, console
from resnetlab.networks.measure import stage_table
from resnetlab.networks.resnet import NAMES, Version, architecture, with_options
from resnetlab.report.tables import Table
from resnetlab.report.terminal import print_table


@app.command
def networks(
    name: tyro.conf.Positional[Name] = None,
    /,
    *,
    shortcut: Option = None,
    version: Version = "v1",
    image_size: Count = None,
) -> None:
    """List the networks of the paper, or print one's layer table in the style of Table 1.

    Args:
        name: A network, e.g. resnet50 or cifar_resnet110; all of them if left out.
        shortcut: The paper's option A, B or C; left out, B on ImageNet and A on CIFAR.
        version: Stride of a bottleneck on the first 1x1 (v1, the paper's) or on the 3x3 (v1.5, torchvision's).
        image_size: Side of the image in pixels; left out, the paper's.
    """
    if name is None:
        rows = []
        for known in NAMES:
            stages = stage_table(row := architecture(known))
            counts = (sum(s.parameters for s in stages), sum(s.multiply_adds for s in stages))
            rows.append((known, f"{row.depth:,}", row.shortcut, f"{row.image_size}", *(f"{n:,}" for n in counts)))
        header = ("network", "depth", "shortcut", "image", "parameters", "multiply-adds")
        note = "CIFAR networks exist at every depth 6n+2. Batch normalisation and bias count as parameters only."
        print_table(console, Table(header, rows, note))
        return
    at_least_one(image_size=image_size)
    row = with_options(architecture(name), shortcut=shortcut, version=version)
    stages = stage_table(row, image_size)
    lines: list[tuple[str, ...]] = [
        (s.name, s.output, s.layers, f"{s.parameters:,}", f"{s.multiply_adds:,}") for s in stages
    ]
    total = (sum(s.parameters for s in stages), sum(s.multiply_adds for s in stages))
    lines.append(("total", "", f"{row.depth} layers, shortcut {row.shortcut}", *(f"{n:,}" for n in total)))
    print_table(console, Table(("layer", "output", name, "parameters", "multiply-adds"), lines, ""))
