"""`resnetlab reproduce`: the paper's tables and figures by name."""

import shlex
import sys
from dataclasses import replace
from typing import Annotated

import tyro

from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, console, main_process, print_table, say
from resnetlab.experiments.options import Options


@command
def reproduce(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    /,
    options: Options = Options(),  # noqa: B008 -- frozen
) -> None:
    """Reproduce a figure or table of the paper: figure1, figure4, figure6, table1 to table6, options or cost.

    Finished runs in OUT are not repeated; interrupted ones continue. Tables 2 to 5 and Figure 4 share their runs.
    With several processes, use torchrun.

    Args:
        name: figure1, figure4, figure6, table1, ..., table6; options compares shortcut options A, B and C on small
            images; cost measures time against multiply-adds.
        options: What is run.
    """
    at_least_one(options)
    from resnetlab.cli.terminal import Terminal
    from resnetlab.experiments.catalogue import CATALOGUE, find
    from resnetlab.experiments.experiment import refuse_unused
    from resnetlab.report.writing import write_record
    from resnetlab.runs.settings import choose_device
    from resnetlab.training.provenance import environment

    entry = find(name)
    refuse_unused(entry, options, CATALOGUE.values())
    made = entry.make(options, Terminal())
    if made.record is not None and main_process:
        folder = options.out / entry.folder(options)
        here = {
            "command": shlex.join(["resnetlab", *sys.argv[1:]]),
            **environment(choose_device(options.settings.device)),
        }
        written = write_record(replace(made.record, provenance=here), folder)
        for table in made.record.tables:
            print_table(table)
        console.print(" ".join(made.record.sentences), highlight=False, markup=False)
        first, *others = [path.suffix for path in written if path.stem == name]
        say(f"Record, page and pictures: {folder / name}{first} {' '.join(others)}")
    if made.failure is not None:
        raise made.failure
