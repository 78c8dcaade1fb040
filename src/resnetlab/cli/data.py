"""`resnetlab check-data` and `resnetlab pack`."""

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnetlab.choices import OnBad
from resnetlab.cli.command import command
from resnetlab.cli.common import (
    as_flags,
    at_least_one,
    complain,
    console,
    counted,
    ends_in,
    print_table,
    say,
    watched,
)
from resnetlab.errors import ResnetlabError
from resnetlab.files import csv_writer, resolved, write_json

if TYPE_CHECKING:
    from resnetlab.data.check import Report, Seen
    from resnetlab.data.findings import Finding
    from resnetlab.data.sources.raw_boxes import Annotations
    from resnetlab.detection.options import DetectorOptions

SHOWN = 5  # findings per kind
CLASSES_SHOWN = 20
ANCHORS = "anchor_sizes", "anchor_ratios", "anchor_offset"
"""The options of the detector on which it depends where anchors are."""
HEADINGS = {"stops": "STOPS TRAINING", "misleads": "MAKES RESULTS WRONG", "note": "worth knowing"}


@command(name="check-data")
def check_data(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    out: Path | None = None,
    workers: int | None = None,
    image_size: int | None = None,
    detector: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTION=VALUE ...", help_behavior_hint="")] = (),
) -> None:
    """Decode every image and report what stops training or makes its results wrong (then the exit status is 1).

    Of images with boxes also how many objects have an anchor of the detector that overlaps them enough to learn.

    Example: resnetlab check-data photos

    Args:
        source: A folder of images by class, a .csv of path and label, or a folder of tar shards. Of images with
            boxes, a Pascal VOC folder, or COCO's folder or .json file.
        out: Write all findings to this .csv or .json file.
        workers: Threads that read and decode. Default: one per core.
        image_size: Shorter side in detection, to see which objects have an anchor; the longer side is 5/3 of it at
            most. Default: 600.
        detector: Anchors, as in training: anchor_sizes=32,64,128 anchor_ratios=0.5,1,2 preset=coco. Default:
            preset=small.
    """
    at_least_one(workers=workers, image_size=image_size)
    ends_in("out", out, ".csv", ".json")
    from resnetlab.data.sources.annotated import is_annotated

    if is_annotated(source):
        checked, total = _with_boxes(source, workers, image_size, detector)
    elif image_size or detector:
        given = f"image_size={image_size}" if image_size else f"detector={' '.join(detector)}"
        raise ResnetlabError(f"`{given}` takes no effect: {source} has no boxes, and only a detector has anchors")
    else:
        checked, total = _by_class(source, workers)
    if checked.sides:
        low, middle, high = checked.sides
        say(f"Shorter sides: {low:,} to {high:,} pixels, median {middle:,.0f}")
    for kind, group in groupby(checked.findings, lambda finding: finding.kind):
        _show(kind, list(group))
    if out:
        _write(out, checked.findings)
        say(f"All findings: {out}")
    if checked.sound:
        say(f"{counted(total, 'image')}: nothing stops training or makes its results wrong.")
        return
    wrong = sum(finding.weight != "note" for finding in checked.findings)
    say(f"{counted(total, 'image')}: {counted(wrong, 'finding')} to fix before training.")
    sys.exit(1)


@command
def pack(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    size: int = 256,
    quality: int = 90,
    group_by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN-OR-PATTERN", help_behavior_hint="")] = None,
    workers: int | None = None,
    on_bad: OnBad | None = None,
) -> None:
    """Make a smaller copy of a data set for faster training. After an interruption, the same command continues.

    Example: resnetlab pack photos --out packed --size 256

    Args:
        source: A folder of images by class, a .csv of path and label, or a folder of tar shards.
        out: The folder of the copy: tar shards with the same split, for --data.
        size: Scale shorter sides down to this many pixels; 480 keeps the paper's augmentation unchanged.
        quality: JPEG quality, 1 to 95.
        group_by: Keep images of one group in one split, where the split is made here; see `resnetlab train`.
        workers: Threads that read and encode. Default: one per core.
        on_bad: At a file that cannot be read: stop, or skip it. Default: name it, go on, and end with status 2.
    """
    at_least_one(size=size, workers=workers)
    if not 1 <= quality <= 95:
        raise ResnetlabError(f"`quality={quality}`: it must be 1 to 95")
    from resnetlab.data.pack import pack as make_pack
    from resnetlab.data.sources.annotated import is_annotated
    from resnetlab.data.sources.splitting import list_images

    if resolved(source) in (resolved(out), *resolved(out).parents):
        raise ResnetlabError(f"`out={out}` is inside {source}, which is read; give another folder")
    if is_annotated(source):
        raise ResnetlabError(f"{source} has boxes; pack makes copies of images by class only")
    dataset = list_images(source, group_by)
    if group_by and not dataset.automatic:
        raise ResnetlabError(f"`group_by={group_by}` takes no effect: {source} has its own split")
    say(dataset.describe())
    total, unreadable = sum(map(len, dataset.splits.values())), 0
    for reason in watched(make_pack(dataset, out, size, quality, workers), "packing", total):
        if reason is not None:
            if on_bad == "stop":
                raise ResnetlabError(reason)
            unreadable += 1
            complain(reason)
    written = sum(path.stat().st_size for path in out.glob("*.tar"))
    say(f"{out}: {total - unreadable:,} images in {written / 1e6:,.0f} MB; use it as --data {out}")
    if unreadable and on_bad is None:
        raise ResnetlabError(f"{unreadable:,} files could not be read and were skipped; they are named above")


def _by_class(source: Path, workers: int | None) -> "tuple[Report, int]":
    """Check images by class, and print their counts; also returns the number of images."""
    from resnetlab.data.check import examine, report
    from resnetlab.data.sources.layouts import find_images
    from resnetlab.data.sources.splitting import LAYOUT

    found = find_images(source)
    total = sum(len(files) for by_class in found.splits.values() for files in by_class.values())
    if not total:
        raise ResnetlabError(f"{source} has no images in class folders; expected {LAYOUT}")
    checked = report(found, watched(examine(found, workers, hashes=True), "decoding", total))
    splits = list(checked.counts)
    classes = sorted({label for by_class in checked.counts.values() for label in by_class})
    rows = [(label, *(f"{checked.counts[split].get(label, 0):,}" for split in splits)) for label in classes]
    totals = [sum(checked.counts[split].values()) for split in splits]
    _counts(tuple(split or "images" for split in splits), rows, (f"{count:,}" for count in totals))
    return checked, total


def _with_boxes(
    source: Path, workers: int | None, image_size: int | None, detector: tuple[str, ...]
) -> "tuple[Report, int]":
    """Check images with boxes, and print their counts and anchors; also returns the number of images."""
    from resnetlab.data.check import examine
    from resnetlab.data.check_boxes import images_of, report_boxes
    from resnetlab.data.sources.annotated import read_annotations

    options, missing = _anchor_options(detector), _missing_for_anchors()
    if missing and (image_size or detector):
        raise ResnetlabError(missing)
    found = read_annotations(source)
    images = images_of(found)
    total = sum(len(files) for by_class in images.splits.values() for files in by_class.values())
    seen = list(watched(examine(images, workers), "decoding", total))
    checked = report_boxes(found, seen)
    splits = list(checked.counts)
    rows = [
        (label, *(f"{part[split][label]:,}" for split in splits for part in (checked.counts, checked.containing)))
        for label in dict.fromkeys(found.classes)
    ]
    totals = [(sum(checked.counts[split].values()), checked.images[split]) for split in splits]
    header = tuple(f"{split or ''} {what}".strip() for split in splits for what in ("boxes", "images"))
    _counts(header, rows, (f"{count:,}" for pair in totals for count in pair))
    if missing:
        say(missing)
    else:
        _anchors(found, seen, image_size, options)
    return checked, total


def _missing_for_anchors() -> str:
    """What is to be installed to see which objects have an anchor, if anything."""
    try:
        import resnetlab.detection.proposals  # noqa: F401
    except ModuleNotFoundError as error:
        return f"to see which objects have an anchor, install `resnetlab[detection]`: {error.name} is missing"
    return ""


def _anchor_options(assignments: tuple[str, ...]) -> "DetectorOptions":
    """The detector's options, as far as they are of anchors; the preset is that of most recipes."""
    from resnetlab.detection.options import PRESETS, DetectorOptions, parse_options

    given = parse_options(assignments)
    names = {text.partition("=")[0] for text in assignments}
    for name in sorted(names - {"preset", *ANCHORS}):
        raise ResnetlabError(f"the detector's option {name} changes no anchor; here choose {', '.join(ANCHORS)}")
    return DetectorOptions(**given if "preset" in names else {**PRESETS["small"], **given})


def _anchors(found: "Annotations", seen: "list[Seen]", image_size: int | None, options: "DetectorOptions") -> None:
    """Print how many objects have an anchor, by their size and class, and what would help."""
    from resnetlab.data.preprocessing import Fit
    from resnetlab.detection.anchor_recall import OVERLAP, STRICT, Objects, advice, anchor_recall, percent
    from resnetlab.report.record import Table
    from resnetlab.training.named_recipes import DETECTION

    objects = Objects.of(found, {each.file.path: each.size for each in seen if each.size})
    if not len(objects):
        return
    recipe = DETECTION.for_crop_size(image_size or DETECTION.crop_size)
    fit = Fit.uncropped(recipe.crop_size, recipe.longest)
    recall = anchor_recall(objects, fit, options)
    classes = sorted(recall.by_class, key=lambda share: share.found)
    shown = [*recall.by_size, *classes[:CLASSES_SHOWN], recall.all]
    rows = [(share.name, f"{share.objects:,}", percent(share.found), percent(share.strict)) for share in shown]
    header = ("objects", "number", f"anchor at IoU {OVERLAP:g}", f"at IoU {STRICT:g}")
    sizes, ratios = (", ".join(f"{x:g}" for x in values) for values in (options.anchor_sizes, options.anchor_ratios))
    lowest = f" The {CLASSES_SHOWN} lowest of {len(classes):,} classes are shown." * (len(classes) > CLASSES_SHOWN)
    note = (
        f"Shorter sides are scaled to {recipe.crop_size:,} pixels, longer ones to {recipe.longest:,} at most; an "
        f"object's size is the square root of its area then. Anchors of {sizes} pixels, height over width {ratios}, "
        f"also across the border.{lowest}"
    )
    print_table(Table(header, tuple(rows), note))
    if said := advice(objects, recall, fit, options):
        say(said)


def _counts(columns: tuple[str, ...], rows: list[tuple[str, ...]], totals: Iterable[str]) -> None:
    from resnetlab.report.record import Table

    shown = rows[:CLASSES_SHOWN]
    if len(rows) > CLASSES_SHOWN:
        shown.append((f"... {len(rows) - CLASSES_SHOWN:,} more", *("" for _ in columns)))
    shown.append((f"all {len(rows):,}", *totals))
    print_table(Table(("class", *columns), tuple(shown)))


def _show(kind: str, findings: "list[Finding]") -> None:
    from resnetlab.data.findings import KINDS

    weight, advice = KINDS[kind]
    _fitted(f"{HEADINGS[weight]}: {kind}, {counted(len(findings), 'time')}", advice, "    ")
    for finding in findings[:SHOWN] if weight != "note" else findings[:1]:
        _fitted(f"    {finding.file}", finding.detail, "        ")
    hidden = len(findings) - (SHOWN if weight != "note" else 1)
    if hidden > 0:
        say(f"    and {hidden:,} more; --out FILE.csv lists them all")


def _fitted(text: str, detail: str, indent: str) -> None:
    """Print a text and its detail on one line, or on two if that is too wide for the terminal."""
    line = f"{text}: {detail}" if detail else text
    if len(as_flags(line)) <= console.width:
        say(line)
        return
    say(f"{text}:" if detail else text)
    if detail:
        say(indent + detail)


def _write(path: Path, findings: "tuple[Finding, ...]") -> None:
    if path.suffix == ".json":
        write_json(path, [{"weight": each.weight, **vars(each)} for each in findings])
        return
    with csv_writer(path) as writer:
        writer.writerow(["weight", "kind", "file", "detail"])
        writer.writerows([finding.weight, finding.kind, finding.file, finding.detail] for finding in findings)
