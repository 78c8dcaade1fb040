"""What `resnetlab reproduce` computes or measures without training: Table 1, and what multiply-adds cost in time."""

from pathlib import Path

import torch

from resnetlab.analysis.cost import BATCH_SIZE, NETWORKS, ROUNDS, study
from resnetlab.analysis.structure import structure_record
from resnetlab.cli.common import at_least_one, console, say, watched
from resnetlab.experiments.execution import Device, choose_device
from resnetlab.report.structure import count_table, stage_table, write_table1
from resnetlab.report.structure import verdict as structure_verdict
from resnetlab.report.terminal import print_table


def table1(out: Path) -> None:
    """Print Table 1 and Figure 3's counts beside the computed ones, and write them to `out`/table1/."""
    record = structure_record()
    write_table1(record, out / "table1")
    print_table(console, stage_table(record))
    print_table(console, count_table(record))
    say(structure_verdict(record))
    say(f"Tables and record: {out / 'table1' / 'table1'}.md .json")


def cost(
    out: Path,
    *,
    networks: tuple[str, ...] = (),
    device: Device = "auto",
    threads: int | None = None,
    batch_size: int | None = None,
    rounds: int | None = None,
    image_size: int | None = None,
) -> None:
    """Measure networks' time against their multiply-adds, print it and write it to `out`/cost/.

    `networks` are names, with `-v1.5` after them for that version; left out, those of Table 1. Batch size and rounds
    left out suit the device, an image size left out is the network's own.

    Raises:
        ResnetlabError: a count below 1, an unknown name, images that are too small, no GPU, or not memory enough.
    """
    from resnetlab.report.cost import NOTES, compared, network_table, reference, share_table, verdict, write_cost

    at_least_one(threads=threads, batch_size=batch_size, rounds=rounds, image_size=image_size)
    where = choose_device(device)
    if threads:
        torch.set_num_threads(threads)
    record = study(
        networks or NETWORKS,
        where,
        batch_size or BATCH_SIZE[where.type],
        rounds or ROUNDS[where.type],
        image_size,
        lambda turns: watched(turns, "measuring", len(turns)),
    )
    write_cost(record, out / "cost")
    print_table(console, network_table(record))
    say(reference(record))
    for by in ("kinds", "stages"):
        for name in dict.fromkeys(compared(record)):
            print_table(console, share_table(record, name, by))
        say(NOTES[by])
    say(verdict(record))
    say(f"Picture, tables of all networks and record: {out / 'cost' / 'cost'}.png .svg .md .json")
