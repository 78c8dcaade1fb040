"""The page's sections: one for each record, one for each run."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resnetlab.data.class_names import spoken
from resnetlab.data.preprocessing import is_image
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.gathering import Gathered
from resnetlab.experiments.learning_curves import run_figure
from resnetlab.experiments.overview import lead, overview, runs_of
from resnetlab.experiments.summary import in_words, parameters_of, protocol
from resnetlab.files import read_object, read_text
from resnetlab.models.modelfile import load
from resnetlab.networks.measure import stage_table
from resnetlab.report.record import Record, Table
from resnetlab.report.webpage import Page, Picture, Section
from resnetlab.runs.finished import FinishedRun
from resnetlab.runs.stored import evaluation_folder, last_command, sample_file
from resnetlab.tasks.classification import CLASSIFICATION

TITLE = "Deep residual networks"
ABOUT = (
    "Deeper plain networks train worse than shallower ones. Residual networks (He, Zhang, Ren, Sun, 2015) do not: "
    "each block adds to its input, so a deeper network can always fall back on the shallower one. "
    "Everything below was measured by resnetlab; the paper's numbers stand beside it.",
)
RUNS = "Trained networks"
ABOUT_RUNS = "Runs of resnetlab: their curves, their numbers, and what they get wrong."
PICTURES = {
    "confusion.png": "Confusion matrix of the test images",
    "reliability.png": "Calibration: how often the network is right, by how sure it is",
    "mistakes.png": "The most confident mistakes",
    "explained.png": "Where the network sees the wrong and the true class of its mistakes",
}
MOST_PICTURES = 6  # with boxes
WORST = 10  # classes
SPOKEN = {"f1": "F1", "ap50": "AP50 %", "ap": "AP %", "voc_11_points": "VOC, 11 points %", "voc_area": "VOC, area %"}
"""Columns of an evaluation that are not called as in its file."""
LAYERS = ("layer", "output", "layers", "parameters", "multiply-adds")


def page(found: Gathered, expected: Mapping[str, str]) -> Page:
    """The page of records and runs; `expected` says how long what is missing takes, by its name."""
    named = {f"record-{number}": record for number, record in enumerate(found.records.values(), 1)}
    records = tuple(_of_record(anchor, record) for anchor, record in named.items())
    runs = tuple(_runs(found))
    figure, text = lead(list(named.values())) or (None, "")
    groups = {title: sections for title, sections in (("Experiments", records), ("Runs", runs)) if sections}
    if not records:
        return Page(RUNS, (ABOUT_RUNS,), None, groups)
    return Page(TITLE, ABOUT, overview(named, expected), groups, figure, text)


def _runs(found: Gathered) -> Iterator[Section]:
    """A section for each run; what is wrong with damaged ones among others is noted."""
    for number, (folder, run) in enumerate(found.runs.items(), 1):
        try:
            yield of_run(f"run-{number}", folder, run, found.of_run.get(folder, ()))
        except ResnetlabError as error:
            if len(found.runs) == 1:
                raise
            found.problems.append(str(error))


def _of_record(anchor: str, record: Record) -> Section:
    facts = _facts(record.provenance)
    if runs := runs_of(record):
        facts |= {"trained": _dates(run.result for run in runs)}
    return Section(anchor, record, facts=facts, command=str(record.provenance.get("command", "")))


def of_run(anchor: str, folder: Path, run: FinishedRun, analyses: Iterable[Record] = ()) -> Section:
    """One run: numbers, curves, pictures of its evaluation, layers, and the command.

    Raises:
        ResnetlabError: a file of the run is damaged.
    """
    try:
        return _of_run(anchor, folder, run, analyses)
    except ResnetlabError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ResnetlabError(f"the configuration or result of {folder} is damaged: {error!r}") from None


def _of_run(anchor: str, folder: Path, run: FinishedRun, analyses: Iterable[Record]) -> Section:
    place = evaluation_folder(folder)
    shown = {sample_file(folder): "The first training images, as the network gets them"}
    shown |= {place / name: caption for name, caption in PICTURES.items()}
    boxes = sorted(filter(is_image, (place / "pictures").rglob("*")), key=_by_number)[:MOST_PICTURES]
    shown |= {path: f"What was found in {path.name}; boxes of the annotation are yellow" for path in boxes}
    pictures = tuple(Picture(caption, path) for path, caption in shown.items() if path.is_file())
    title = f"{run.architecture.title} on {run.data}, seed {run.seed}: {folder.name}"
    tables = (_numbers(run, place), *_classes(place), *_layers(run, folder))
    record = Record(folder.name, title, (), tables, (run_figure(run),))
    facts = {"folder": str(folder)} | _facts(run.result.get("environment", {})) | {"trained": _dates([run.result])}
    return Section(anchor, record, pictures, facts, last_command(folder), tuple(analyses))


def _numbers(run: FinishedRun, place: Path) -> Table:
    """The result, and what the evaluation says of it."""
    rows = []
    with suppress(ResnetlabError):  # a detector, without the packages for detection
        rows.append(("parameters", f"{parameters_of(run):,}"))
    for split in ("train", "validation", "test"):
        metric = run.metric_on(split)
        if f"{split}_{metric.name}" in run.result:
            name = {"train": "training"}.get(split, split)
            rows.append((in_words(metric, name), f"{run.final(split):.2f}"))
    if run.metric == CLASSIFICATION.headline and (place / "metrics.json").is_file():
        said = read_object(place / "metrics.json")
        try:
            low, high = said["top1_error_95_wilson"]
            rows.append(("95 % interval of the test error", f"{low:.2f} to {high:.2f}"))
            rows.append(("macro-F1", f"{said['macro_f1']:.3f}"))
            rows.append(("expected calibration error, points", f"{said['expected_calibration_error']:.2f}"))
        except (KeyError, TypeError, ValueError) as error:
            raise ResnetlabError(f"{place / 'metrics.json'} is damaged: {error!r}") from None
    return Table(("number", "value"), tuple(rows), protocol([run]))


def _classes(place: Path) -> list[Table]:
    """The classes of an evaluation, the worst of many."""
    if not (place / "per_class.csv").is_file():
        return []
    header, *rows = csv.reader(io.StringIO(read_text(place / "per_class.csv", "surrogateescape"), newline=""))
    titles = tuple(SPOKEN.get(name, name.replace("_", " ")) for name in header)
    shares = {k for k, name in enumerate(header) if SPOKEN.get(name, "").endswith("%")}
    rows = [row for row in rows if len(row) == len(header)]
    title = "By class"
    if "f1" in header and len(rows) > WORST:
        title = f"The {WORST} worst of {len(rows):,} classes"
        rows = sorted(rows, key=lambda row: _as_number(row[header.index("f1")]))[:WORST]
    cells = [
        (spoken(row[0]), *(_percent(text) if k in shares else _short(text) for k, text in enumerate(row[1:], 1)))
        for row in rows
    ]
    return [Table(titles, tuple(cells), "", title)]


def _short(text: str) -> str:
    """A number with three decimals, other text as it is."""
    number = _as_number(text)
    return f"{number:.3f}" if "." in text and math.isfinite(number) else text


def _percent(text: str) -> str:
    """A share in percent, other text as it is."""
    number = _as_number(text)
    return f"{100 * number:.2f}" if math.isfinite(number) else text


def _by_number(path: Path) -> list[tuple[int, str]]:
    """A key under which `test 2.jpg` comes before `test 10.jpg`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _as_number(text: str) -> float:
    """A number; infinity for text that is none."""
    try:
        return float(text)
    except ValueError:
        return math.inf


def _layers(run: FinishedRun, folder: Path) -> list[Table]:
    """The layer table of a network for classification, for the images that it takes."""
    if run.metric != CLASSIFICATION.headline or run.architecture.stem == "vgg":
        return []
    row, (height, width) = run.architecture, load(folder).fit.crop
    if height != width:
        return []
    stages = stage_table(row, height)
    cells = [(s.name, s.output, s.layers, f"{s.parameters:,}", f"{s.multiply_adds:,}") for s in stages]
    about = f"{row.depth} layers, shortcut {row.shortcut}, images of {width}x{height} pixels"
    return [Table(LAYERS, tuple(cells), about, "Layers")]


def _facts(said: Mapping[str, Any]) -> dict[str, str]:
    """What is known of machine and code."""
    names = {"device": "machine", "torch": "torch", "resnetlab": "resnetlab", "commit": "commit"}
    return {title: str(said[name]) for name, title in names.items() if said.get(name)}


def _dates(results: Iterable[Mapping[str, Any]]) -> str:
    days = sorted({str(result.get("finished", ""))[:10] for result in results} - {""})
    return days[0] + (f" to {days[-1]}" if len(days) > 1 else "") if days else "unknown"
