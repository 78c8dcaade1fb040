"""`resnetlab reproduce`: the paper's tables and figures by name."""

from dataclasses import replace
from typing import Annotated

import tyro

from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, main_process, provenance, show_record
from resnetlab.experiments.options import Options


@command
def reproduce(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    /,
    options: Options = Options(),  # noqa: B008 -- frozen
) -> None:
    """Reproduce a figure or table of the paper, or a study of why residual networks train well.

    Finished runs in OUT are not repeated; interrupted ones continue. Tables 2 to 5 and Figure 4 share their runs.
    With several processes, use torchrun.

    Example: resnetlab reproduce figure6 --seeds 5

    Args:
        name: figure1, figure4, figure6, figure7, table1, ..., table12 (7 to 12: detection); options compares shortcut
            options A, B and C on small images; cost measures time against multiply-adds; gradients, lesions,
            refinement, landscape and overfit look inside trained networks.
        options: What is run.
    """
    at_least_one(options)
    options.check()
    from resnetlab.cli.terminal import Terminal
    from resnetlab.experiments.catalogue import CATALOGUE, find
    from resnetlab.experiments.experiment import refuse_unused

    entry = find(name)
    refuse_unused(entry, options, CATALOGUE.values())
    made = entry.make(options, Terminal())
    if made.record is not None and main_process:
        folder = options.out / entry.folder(options)
        show_record(replace(made.record, provenance=provenance(options.settings.device)), folder)
    if made.failure is not None:
        raise made.failure
