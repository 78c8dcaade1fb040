"""`resnetlab check-data` and `resnetlab pack`."""

import sys
from csv import writer as csv_writer
from itertools import groupby
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from resnetlab.cli.common import Count, app, at_least_one, complain, console, introduce, say, watched
from resnetlab.data.check import KINDS, Finding, Report, examine, report
from resnetlab.data.layouts import find_images
from resnetlab.data.listing import LAYOUT, list_images
from resnetlab.data.pack import pack as make_pack
from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing

SHOWN = 5  # findings of a kind
CLASSES_SHOWN = 20
HEADINGS = {"stops": "STOPS TRAINING", "misleads": "MAKES NUMBERS WRONG", "note": "worth knowing"}


@app.command(name="check-data")
def check_data(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    threads: Count = None,
) -> None:
    """Decode every image and report what would stop training or make its numbers wrong; status 1 if anything would.

    Args:
        source: A folder of images by class, a .csv of path and label, or a folder of tar shards.
        csv: Write all findings to this file.
        threads: Files at a time; left out, one a core.
    """
    at_least_one(threads=threads)
    if csv and csv.suffix != ".csv":
        raise ResnetlabError(f"--csv {csv}: expected the name of a file that ends in .csv")
    found = find_images(source)
    total = sum(len(files) for by_class in found.splits.values() for files in by_class.values())
    if not total:
        raise ResnetlabError(f"{source} has no images in class folders; expected {LAYOUT}")
    checked = report(found, watched(examine(found, threads), "decoding", total))
    _counts(checked)
    if checked.sides:
        low, middle, high = checked.sides
        say(f"Shorter sides: {low:,} to {high:,} pixels, median {middle:,.0f}")
    for kind, group in groupby(checked.findings, lambda finding: finding.kind):
        _show(kind, list(group))
    if csv:
        _write(csv, checked.findings)
        say(f"All findings: {csv}")
    counted = f"{total:,} image{'s' * (total != 1)}"
    if checked.sound:
        say(f"{counted}: nothing that would stop training or make its numbers wrong.")
        return
    wrong = sum(finding.weight != "note" for finding in checked.findings)
    say(f"{counted}: {wrong:,} finding{'s' * (wrong != 1)} to mend before training.")
    sys.exit(1)


@app.command
def pack(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    size: int = 256,
    quality: int = 90,
    threads: Count = None,
) -> None:
    """Make a smaller copy of a data set, which training reads several times faster. The same command goes on.

    Args:
        source: A folder of images by class, a .csv of path and label, or a folder of tar shards.
        out: The folder of the copy: tar shards, which --data takes as they are, with the same split.
        size: Pixels that the shorter side is scaled down to; 480 leaves the paper's augmentation as it is.
        quality: Of the JPEG files, 1 to 95.
        threads: Files at a time; left out, one a core.
    """
    at_least_one(size=size, threads=threads)
    if not 1 <= quality <= 95:
        raise ResnetlabError(f"--quality {quality}: it must be 1 to 95")
    listing = list_images(source)
    introduce(listing)
    splits = [listing.train, listing.test] + ([listing.validation] if listing.validation is not None else [])
    total, unreadable = sum(map(len, splits)), 0
    for reason in watched(make_pack(listing, out, size, quality, threads), "packing", total):
        if reason is not None:
            unreadable += 1
            complain(reason)
    written = sum(path.stat().st_size for path in out.glob("*.tar"))
    say(f"{out}: {total - unreadable:,} images in {written / 1e6:,.0f} MB; use it as --data {out}")
    if unreadable:
        raise ResnetlabError(f"{unreadable:,} files could not be read and are left out; they are named above")


def _counts(checked: Report) -> None:
    splits = list(checked.counts)
    classes = sorted({label for by_class in checked.counts.values() for label in by_class})
    grid = Table("class", *(split or "images" for split in splits))
    for column in grid.columns[1:]:
        column.justify = "right"
    for label in classes[:CLASSES_SHOWN]:
        grid.add_row(label, *(f"{checked.counts[split].get(label, 0):,}" for split in splits))
    if len(classes) > CLASSES_SHOWN:
        grid.add_row(f"... {len(classes) - CLASSES_SHOWN:,} more", *("" for _ in splits))
    totals = [sum(checked.counts[split].values()) for split in splits]
    grid.add_row(f"all {len(classes):,}", *(f"{count:,}" for count in totals), style="bold")
    console.print(grid)


def _show(kind: str, findings: list[Finding]) -> None:
    weight, advice = KINDS[kind]
    say(f"{HEADINGS[weight]}: {kind}, {len(findings):,} time{'s' * (len(findings) != 1)}: {advice}")
    for finding in findings[:SHOWN] if weight != "note" else findings[:1]:
        say(f"    {finding.file}" + (f": {finding.detail}" if finding.detail else ""))
    hidden = len(findings) - (SHOWN if weight != "note" else 1)
    if hidden > 0:
        say(f"    and {hidden:,} more; --csv FILE lists them all")


def _write(path: Path, findings: tuple[Finding, ...]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(["weight", "kind", "file", "detail"])
        writer.writerows([finding.weight, finding.kind, finding.file, finding.detail] for finding in findings)
