"""Check the image files of a data set before training."""

import difflib
import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import simplejpeg
from PIL import Image

from resnetlab.data.ahead import in_order
from resnetlab.data.class_names import is_name
from resnetlab.data.dataset import File
from resnetlab.data.decode import JPEG, ORIENTATION
from resnetlab.data.findings import BLANKS, KINDS, SMALL, Finding
from resnetlab.data.held_out import Unit
from resnetlab.data.near import perceptual_hash, similar_hashes
from resnetlab.data.preprocessing import FORMATS, check_pixels, decoding, is_image, open_image
from resnetlab.data.sources.layouts import SPLITS, Found
from resnetlab.errors import ResnetlabError

SIDEWAYS = 5, 6, 7, 8  # EXIF orientations that exchange width and height
MOST_COMPARED = 200_000  # files, for similar images
UNBALANCED = 10  # ratio of the largest to the smallest class
MODES = {"L": "grey", "LA": "grey", "1": "grey", "CMYK": "CMYK", "YCCK": "CMYK", "P": "palette", "PA": "palette"}
SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "GIF": (".gif",), "BMP": (".bmp",), "WEBP": (".webp",)}


@dataclass(frozen=True)
class Seen:
    """One image file: split, class, hash of its content, its upright size if it is readable, and its problems.

    `hash` is its perceptual hash; see `near.perceptual_hash`.
    """

    split: str | None
    label: str
    file: File
    digest: bytes = b""
    size: tuple[int, int] | None = None
    findings: tuple[Finding, ...] = ()
    hash: int | None = None


@dataclass(frozen=True)
class Report:
    """The whole check: files per split and class (unreadable ones too); least, median and greatest shorter side."""

    counts: dict[str | None, dict[str, int]]
    findings: tuple[Finding, ...]
    sides: tuple[int, float, int] | None

    @property
    def sound(self) -> bool:
        """Whether nothing stops training or makes results misleading."""
        return all(finding.weight == "note" for finding in self.findings)


def examine(found: Found, threads: int | None = None, *, hashes: bool = False) -> Iterator[Seen]:
    """Decode every image file completely, in order, with a pool of threads; with `hashes`, find how it looks."""
    files = (
        (split, label, file)
        for split, by_class in found.splits.items()
        for label, files in by_class.items()
        for file in files
    )
    threads = threads or os.cpu_count() or 1
    return in_order(partial(_examine, hashes=hashes), files, threads, 8 * threads)


def report(found: Found, seen: Iterable[Seen]) -> Report:
    """Summarise the examined files."""
    seen = list(seen)
    counts: dict[str | None, dict[str, int]] = {
        split: {label: len(files) for label, files in by_class.items()} for split, by_class in found.splits.items()
    }
    findings = [finding for each in seen for finding in each.findings]
    findings += [
        *_classes(found, counts),
        *duplicates(seen),
        *near_duplicates(seen),
        *_too_few(found, seen),
        *_strays(found),
    ]
    return Report(counts, in_report_order(findings), shorter_sides(seen))


def in_report_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By kind, the worst first, then by file."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda finding: (order[finding.kind], finding.file)))


def shorter_sides(seen: Iterable[Seen]) -> tuple[int, float, int] | None:
    """The least, the median and the greatest shorter side of the readable images."""
    sides = [min(each.size) for each in seen if each.size]
    return (min(sides), float(median(sides)), max(sides)) if sides else None


def _examine(place: tuple[str | None, str, File], hashes: bool) -> Seen:
    split, label, file = place
    name = file.name
    try:
        data = file.read()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        damage = ""
        if not data.startswith(JPEG):
            image = open_image(data, file.path)
        else:
            try:
                height, width, *_ = simplejpeg.decode_jpeg_header(data)
                with decoding(file.path):
                    check_pixels(width, height)
                image = Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", strict=True))
            except ValueError as error:  # recoverable if Pillow can read it
                image = open_image(data, file.path)
                damage = str(error)
    except ResnetlabError as error:
        return Seen(split, label, file, findings=(Finding("unreadable", name, _reason(error, file.path)),))
    try:
        with decoding(name, data):
            findings, size = _oddities(data, name)
    except ResnetlabError as error:  # the pixels can be read, but not what else the file has, such as its frames
        return Seen(split, label, file, digest, findings=(Finding("damaged", name, _reason(error, name)),))
    if damage:
        findings.append(Finding("damaged", name, damage))
    return Seen(split, label, file, digest, size, tuple(findings), perceptual_hash(image) if hashes else None)


def _reason(error: ResnetlabError, name: str) -> str:
    """What is wrong, without the name of the file and the advice."""
    return str(error).removeprefix(name).removeprefix(" is not a readable image (").split("); repair")[0].strip()


def _oddities(data: bytes, name: str) -> tuple[list[Finding], tuple[int, int]]:
    kinds: dict[str, str] = {}
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        mode, form = image.mode, image.format or ""
        if kind := MODES.get(mode):
            kinds[kind] = mode
        if mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            kinds["alpha"] = mode
        if mode.startswith("I"):
            kinds["16 bit"] = mode
        turned = image.getexif().get(ORIENTATION, 1)
        if turned != 1:
            kinds["rotated by EXIF"] = f"orientation {turned}"
        if getattr(image, "n_frames", 1) > 1:
            kinds["several frames"] = ""
        size = image.size[::-1] if turned in SIDEWAYS else image.size
    usual = SUFFIXES.get("JPEG" if form == "MPO" else form)
    if usual and Path(name).suffix.lower() not in usual:
        kinds["content is not what the suffix says"] = f"{form} content"
    if min(size) < SMALL:
        kinds["tiny"] = f"{size[0]}x{size[1]}"
    return [Finding(kind, name, detail) for kind, detail in kinds.items()], size


def _classes(found: Found, counts: dict[str | None, dict[str, int]]) -> Iterator[Finding]:
    for split, by_class in counts.items():
        for label, count in by_class.items():
            if not count:
                yield Finding("empty class", f"{split}/{label}" if split else label)
        held = {label: count for label, count in by_class.items() if count}
        if held and max(held.values()) >= UNBALANCED * min(held.values()):
            least, most = min(held, key=held.__getitem__), max(held, key=held.__getitem__)
            detail = f"{held[least]:,} of {least}, {held[most]:,} of {most}"
            yield Finding("unbalanced", split or "all", detail)
    for label in sorted({label for by_class in counts.values() for label in by_class if not is_name(label)}):
        yield Finding("no name of a class", label)
    classes = {label for by_class in counts.values() for label, count in by_class.items() if count}
    if len(classes) == 1:
        yield Finding("one class", *classes)
    if found.classes is None and len(counts) > 1:
        for label in sorted({label for by_class in counts.values() for label in by_class}):
            where = [str(split) for split, by_class in counts.items() if label in by_class]
            if len(where) < len(counts):
                like = difflib.get_close_matches(label, classes - {label}, n=1, cutoff=0.7)
                hint = f"; is it {like[0]}?" if like else ""
                yield Finding("class in only one split", label, f"only in {', '.join(where)}{hint}")
    yield from alike(label for by_class in counts.values() for label in by_class)


def alike(labels: Iterable[str]) -> Iterator[Finding]:
    """Class names that differ only in case, spaces, - and _."""
    same = defaultdict(set)
    for label in labels:
        same[label.casefold().translate(BLANKS)].add(label)
    for names in same.values():
        if len(names) > 1:
            yield Finding("class names alike", ", ".join(sorted(names)))


def duplicates(seen: Iterable[Seen]) -> Iterator[Finding]:
    """Files of the same content."""
    groups: dict[bytes, list[Seen]] = defaultdict(list)
    for each in seen:
        if each.digest:
            groups[each.digest].append(each)
    for group in groups.values():
        if len(group) > 1:
            yield from _repeated("same image", "same image twice in a class", group)


def near_duplicates(seen: Iterable[Seen]) -> Iterator[Finding]:
    """Files that look nearly the same, of which those of the same content count as one; not of very many files."""
    seen = list(seen)
    if len(seen) > MOST_COMPARED:
        return
    different = {each.digest: each for each in reversed(seen) if each.hash is not None}
    shown = list(different.values())[::-1]
    groups: dict[Unit, list[Seen]] = defaultdict(list)
    for each, unit in zip(shown, similar_hashes(np.array([each.hash for each in shown], np.uint64)), strict=True):
        groups[unit].append(each)
    for group in groups.values():
        if len(group) > 1:
            yield from _repeated("similar image", "similar images in a class", group)


def _repeated(what: str, in_a_class: str, group: list[Seen]) -> Iterator[Finding]:
    """What is to be said of images that belong together."""
    others = ", ".join(each.file.name for each in group[1:4]) + (" ..." if len(group) > 4 else "")
    first = group[0].file.name
    if len({each.split for each in group}) > 1:
        yield Finding(f"{what} in two splits", first, others)
    if len({each.label for each in group}) > 1:
        yield Finding(f"{what} in two classes", first, others)
    if max(Counter((each.split, each.label) for each in group).values()) > 1:
        yield Finding(in_a_class, first, others)


def _too_few(found: Found, seen: list[Seen]) -> Iterator[Finding]:
    """Classes that cannot be split into train and test: files with the same content stay in one split."""
    if found.is_split:
        return
    contents: dict[str, set[bytes]] = defaultdict(set)
    for each in seen:
        contents[each.label].add(each.digest or os.fsencode(each.file.path))
    for label, different in contents.items():
        if len(different) == 1:
            yield Finding("class of one image", label)


def _strays(found: Found) -> Iterator[Finding]:
    """Files and folders that are ignored."""
    if found.kind != "folder":
        return
    taken = {file.path for by_class in found.splits.values() for files in by_class.values() for file in files}
    for path in sorted(found.root.rglob("*")):
        name = str(path.relative_to(found.root))
        if any(part.startswith(".") for part in Path(name).parts[:-1]):
            continue  # in a hidden folder, which is itself reported
        if path.name.startswith("."):
            yield Finding("hidden", name, "folder" if path.is_dir() else "")
        elif path.is_file() and str(path) not in taken:
            inside = len(Path(name).parts) > (2 if Path(name).parts[0].lower() in SPLITS else 1)
            kind = "outside of the classes" if is_image(path) or not inside else "not an image"
            yield Finding(kind, name)
