"""The record of a benchmark, and its page beside it."""

from pathlib import Path
from typing import Any

from resnetlab.files import write_json


def show(record: dict[str, Any], page: str, out: Path | None) -> None:
    """Print the page; with `out`, a path without an ending, write record and page too."""
    print(page)
    if out:
        write(record, page, out)


def write(record: dict[str, Any], page: str, out: Path) -> None:
    """Write `out`.json and `out`.md."""
    write_json(out.with_suffix(".json"), record)
    out.with_suffix(".md").write_text(page)
