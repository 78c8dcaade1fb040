"""What the harness found, as a JSON file and a page beside it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from resnetlab.files import write_json
from resnetlab.report.record import Table
from resnetlab.training.provenance import environment
from tests.faults.children import BAD
from tests.faults.harness import Result


def write(path: Path, title: str, content: Mapping[str, Any], table: Table) -> None:
    """Write PATH.json and PATH.md."""
    write_json(
        path.with_suffix(".json"), {"title": title, **content, "environment": environment(torch.device("cpu"))}
    )
    path.with_suffix(".md").write_text(f"# {title}\n\n{table.markdown()}", encoding="utf-8")


def write_cases(path: Path, results: Sequence[Result], settings: Mapping[str, Any], remark: str = "") -> None:
    """Counts by subject, and what is to be said of how they were made."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        kind = "bad" if result.kind in BAD else result.kind
        counts.setdefault(result.subject, Counter())[kind] += 1
    kinds = ("answered", "refused", "bad")
    rows = [(name, *(f"{found[kind]:,}" for kind in kinds)) for name, found in sorted(counts.items())]
    total = sum(counts.values(), Counter[str]())
    rows.append(("all", *(f"{total[kind]:,}" for kind in kinds)))
    seconds = sum(result.seconds for result in results)
    note = (
        f"{total.total():,} cases, seed {settings['seed']}, each in a process of its own; {seconds / 60:.0f} minutes "
        "in all. Bad is a traceback, a crash, more than 20 s or 1,200 MB for a file, an answer that is no "
        "number, a message that does not name the file, a warning of a library, or a file left behind."
    ) + f" {remark}" * bool(remark)
    table = Table(("what was damaged", *kinds), tuple(rows), note)
    write(
        path,
        "Damaged files",
        {"settings": dict(settings), "remark": remark, "counts": counts, "seconds": round(seconds)},
        table,
    )


def write_kills(path: Path, counts: Mapping[str, int], wrong: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Kills and differences by command."""
    rows = [
        (name, f"{count:,}", f"{sum(each.startswith(f'{name}:') for each in wrong)}")
        for name, count in sorted(counts.items())
    ]
    rows.append(("all", f"{sum(counts.values()):,}", f"{len(wrong)}"))
    note = (
        "Commands were killed (SIGKILL) at random instants, runs several times in a row, and given again; tensors, "
        "metrics and files are compared with those of a command that was not killed."
    )
    table = Table(("command", "kills", "differences"), tuple(rows), note)
    write(path, "Killed commands", {"settings": dict(settings), "kills": dict(counts), "wrong": list(wrong)}, table)
