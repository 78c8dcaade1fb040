"""`resnetlab weights`."""

from typing import Annotated

import tyro

from resnetlab.cli.command import command
from resnetlab.cli.common import print_table, say


@command
def weights(
    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME", help_behavior_hint="")
    ] = (),
    /,
) -> None:
    """List published weights and which of them are on this machine, or download some.

    Every command that takes a model takes their names, and downloads them if need be.

    Example: resnetlab weights resnet18

    Args:
        names: Weights to download, e.g. resnet50 or timm/resnet50.a1_in1k. Default: list those of torchvision.
    """
    from resnetlab.models.published import HOME, PUBLISHED, home, located, refuse_unknown

    for name in names:
        refuse_unknown(name)
    for name in names:
        say(f"{name}: {located(name)}")
    if names:
        return
    from resnetlab.report.record import Table

    rows = []
    for each in PUBLISHED:
        short = each.name.removeprefix("torchvision/")
        here = "yes" if each.cached else "no"
        rows.append((short, each.network, f"{each.top1:.2f}", f"{each.top5:.2f}", f"{each.megabytes} MB", here))
    header = ("name", "network", "top-1 accuracy %", "top-5 accuracy %", "size", "here")
    note = (
        "Published accuracies of one centre crop on ImageNet's validation images. .v1: trained much as in the paper; "
        ".v2: torchvision's later recipe, which a name without version means. Of torchvision, licence BSD-3-Clause. "
        f"Downloads go to {home() / 'weights'} (change it with {HOME}); a file that you put there is found. "
        "timm/NAME and microsoft/NAME are read from Hugging Face's hub (with the extra hub)."
    )
    print_table(Table(header, tuple(rows), note))
