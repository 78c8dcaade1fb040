"""How long each table and figure takes at the smallest scale, from a short measurement of each of its networks.

    python -m benchmarks.durations --out results/durations-cpu

The same estimate as `resnetlab report` shows for what was not run.
"""

from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.writing import show
from resnetlab.experiments.catalogue import ENTRIES
from resnetlab.experiments.options import Options
from resnetlab.experiments.overview import Expected
from resnetlab.training.provenance import environment


def main(out: Path | None = None) -> None:
    """Measure and print.

    Args:
        out: Where to write the record and its page, without an ending.
    """
    expected, minutes = Expected(Options(out=Path("nothing-was-run-here"))), {}
    for entry in ENTRIES:
        if (found := expected.minutes(entry)) is not None:
            minutes[entry.name] = found
            print(f"{entry.name}: {found:.1f} min", flush=True)
    record = {"environment": environment(torch.device("cpu")), "scale": "digits", "minutes": minutes}
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    machine = record["environment"]
    rows = [f"| `reproduce {name}` | {value:.0f} |" for name, value in record["minutes"].items()]
    about = (
        f"Estimated from some steps of each network, on handwritten digits, one seed, if nothing was run before: "
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}. Tables 2 to 5 and Figure 4 "
        "share their runs, and so do the studies of trained networks."
    )
    return "\n".join(["# Durations", "", "| command | minutes |", "| --- | --- |", *rows, "", about, ""])


if __name__ == "__main__":
    tyro.cli(main)
