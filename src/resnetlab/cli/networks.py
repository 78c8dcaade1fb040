"""`resnetlab networks`."""

from typing import Annotated

import tyro

from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, print_table
from resnetlab.cli.option_groups import NetworkOptions
from resnetlab.errors import ResnetlabError


@command
def networks(
    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None,
    /,
    *,
    image_size: int | None = None,
    variant: NetworkOptions = NetworkOptions(),  # noqa: B008 -- frozen
) -> None:
    """List the networks of the paper, or print the layer table of one in the style of Table 1.

    Example: resnetlab networks resnet50

    Args:
        name: A network, e.g. resnet50, resnet34-A or cifar_resnet110. Default: list all.
        image_size: Side of the image in pixels. Default: the paper's.
        variant: Options of the network, in addition to those in its name.
    """
    from resnetlab.networks.architecture import NAMES, architecture, parse
    from resnetlab.networks.measure import stage_table
    from resnetlab.report.record import Table

    given = vars(variant) | {"image_size": image_size}
    if name is None:
        if unused := [f"`{option}`" for option, value in given.items() if value is not None]:
            raise ResnetlabError(f"{' and '.join(unused)} takes no effect without a network; name one, e.g. resnet50")
        rows = []
        for known in NAMES:
            stages = stage_table(row := architecture(known))
            counts = (sum(s.parameters for s in stages), sum(s.multiply_adds for s in stages))
            rows.append((known, f"{row.depth:,}", row.shortcut, f"{row.image_size}", *(f"{n:,}" for n in counts)))
        header = ("network", "depth", "shortcut", "image", "parameters", "multiply-adds")
        note = "CIFAR networks exist at every depth 6n+2. Batch normalisation and bias count as parameters only."
        print_table(Table(header, tuple(rows), note))
        return
    at_least_one(image_size=image_size)
    row = parse(name, **variant.given)
    stages = stage_table(row, image_size)
    lines: list[tuple[str, ...]] = [
        (s.name, s.output, s.layers, f"{s.parameters:,}", f"{s.multiply_adds:,}") for s in stages
    ]
    total = (sum(s.parameters for s in stages), sum(s.multiply_adds for s in stages))
    lines.append(("total", "", f"{row.depth} layers, shortcut {row.shortcut}", *(f"{n:,}" for n in total)))
    print_table(Table(("layer", "output", str(row), "parameters", "multiply-adds"), tuple(lines)))
