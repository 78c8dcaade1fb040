"""Make the pages and pictures in results/, and the numbers in docs/, again from the records.

`python -m benchmarks.pages`. In a document, the lines between `<!-- RECORD WHAT -->` and `<!-- end -->` come from a
record in results/, e.g. `<!-- why-digits/lesions.json claims -->`: WHAT is `sentences`, `claims`, or a table's title.
Those after `<!-- overview -->`, `<!-- speeds -->` and `<!-- catalogue -->` come from all records.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from resnetlab.experiments.catalogue import ENTRIES
from resnetlab.experiments.earlier import read_record
from resnetlab.experiments.overview import HEADER, NONE, overview
from resnetlab.experiments.study import experiment_of
from resnetlab.report.record import Record, Table
from resnetlab.report.writing import write_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
FILLED = re.compile(r"<!-- (\S+\.json) (.+?) -->\n.*?<!-- end -->", re.DOTALL)
MADE = re.compile(r"<!-- (overview|speeds|catalogue) -->\n.*?<!-- end -->", re.DOTALL)
CLAIMS = "Claims and measurements"


def main() -> None:
    """Every record of an experiment or a study; those of benchmarks have pages of their own."""
    for path in sorted(RESULTS.glob("*/*.json")):
        for written in write_page(read_record(path), path.parent):
            print(written.relative_to(ROOT))
    for path in documents():
        text = path.read_text()
        if (new := filled(text)) != text:
            path.write_text(new)
            print(path.relative_to(ROOT))


def documents() -> list[Path]:
    """The documents with numbers from records."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """A document with what comes from records made again."""

    def made(match: re.Match[str]) -> str:
        record = read_record(RESULTS / match[1])
        return f"<!-- {match[1]} {match[2]} -->\n{_part(record, match[2]).strip()}\n<!-- end -->"

    tables = {"overview": overview_table, "speeds": speeds, "catalogue": catalogue}
    text = MADE.sub(lambda match: f"<!-- {match[1]} -->\n{tables[match[1]]().markdown().strip()}\n<!-- end -->", text)
    return FILLED.sub(made, text)


@cache
def records() -> dict[str, Record]:
    """The records of experiments and studies, by their path in the repository."""
    return {path.relative_to(ROOT).as_posix(): read_record(path) for path in sorted(RESULTS.glob("*/*.json"))}


def overview_table() -> Table:
    """Our number beside the paper's, where it has one, with a link to the page of each record."""
    rows = []
    for row in overview(records(), {}).rows:
        title, state, here, paper, difference = row.cells
        if row.anchor and paper != NONE:
            page = Path(row.anchor).with_suffix(".md").as_posix()
            rows.append((f"[{title}]({page})", state.removeprefix("run: "), here, paper, difference))
    return Table((*HEADER[:1], "run", *HEADER[2:]), tuple(rows))


def catalogue() -> Table:
    """What can be reproduced, the time at the smallest scale, and what came out, with links to the records' pages."""
    minutes = json.loads((RESULTS / "durations-cpu.json").read_text())["minutes"]
    rows = []
    for entry in ENTRIES:
        made = [path for path, record in records().items() if record.name == entry.name]
        places = [Path(path).with_suffix(".md").as_posix() for path in made]
        links = ", ".join(f"[{Path(place).parent.name}](../{place})" for place in places)
        experiment = experiment_of(entry)
        scales = "computed or measured" if experiment is None else ", ".join(experiment.scales)
        time = f"{max(1, round(minutes[entry.name]))}" if entry.name in minutes else "–"
        rows.append((f"`resnetlab reproduce {entry.name}`", entry.title, scales, time, links or "–"))
    return Table(("command", "what it shows", "scales", "minutes", "what came out"), tuple(rows))


def speeds() -> Table:
    """How many times faster something is than a named peer in the same run."""
    rows = []
    for name, what, peer, number in SPEEDS:
        record = json.loads((RESULTS / name).read_text())
        where = f"[{record['environment']['device']}](results/{Path(name).with_suffix('.md')})"
        rows.append((what, peer, f"{number(record):.1f}", where))
    return Table(("work", "peer", "times as fast", "measured on"), tuple(rows))


def _over(trainers: Any, trainer: str, peer: str) -> float:
    """How many times faster one trainer is than another, over the whole run."""
    return float(trainers[trainer]["ratio_whole_run"] / trainers[peer]["ratio_whole_run"])


SPEEDS: tuple[tuple[str, str, str, Callable[[Any], float]], ...] = (
    (
        "training-gpu.json",
        "training ResNet-20 on images of 32x32, bfloat16",
        "a tutorial's PyTorch loop in float32",
        lambda record: record["trainers"]["bfloat16, compiled, captured"]["ratio_whole_run"],
    ),
    (
        "training-gpu.json",
        "the same, four runs at a time",
        "a tutorial's PyTorch loop in float32",
        lambda record: record["trainers"]["bfloat16, compiled, captured, 4 at a time"]["ratio_whole_run"],
    ),
    (
        "training-cpu.json",
        "the same on a CPU, bfloat16",
        "a tutorial's PyTorch loop in float32",
        lambda record: record["trainers"]["bfloat16, compiled"]["ratio_whole_run"],
    ),
    (
        "training-cpu.json",
        "the same",
        "timm's training loop in bfloat16",
        lambda record: _over(record["trainers"], "bfloat16, compiled", "timm"),
    ),
    (
        "training-cpu.json",
        "the same in float32",
        "a tutorial's PyTorch loop in float32",
        lambda record: record["trainers"]["float32, compiled"]["ratio_whole_run"],
    ),
    (
        "input-pipeline-cpu.json",
        "photographs to training batches",
        "torchvision with Pillow",
        lambda record: record["speed"]["random area (modern)"]["ratio"],
    ),
    (
        "inference-cpu.json",
        "ResNet-50, from pixels to logits, by default",
        "torchvision's network",
        lambda record: record["speed"]["torch, bfloat16 (the default)"]["ratio"],
    ),
    (
        "inference-cpu.json",
        "the same in 8 bits by OpenVINO",
        "torchvision's network",
        lambda record: record["speed"]["openvino, int8"]["ratio"],
    ),
    (
        "protocols-cpu.json",
        "ResNet-50 by ten crops",
        "view by view",
        lambda record: record["protocols"][0]["ratio"],
    ),
    (
        "serving-cpu.json",
        "requests to a server of ResNet-18, float32",
        "a FastAPI handler of torchvision's network",
        lambda record: record["ratio"],
    ),
)


def _part(record: Record, what: str) -> str:
    if what == "sentences":
        return " ".join(filter(None, record.sentences))
    if what == "claims":
        tables = [table for table in record.tables if table.title == CLAIMS]
        rows = [row for table in tables for row in table.rows]
        return "\n".join(f"- **{verdict}**: {claim} ({by}). {told}." for claim, by, told, verdict in rows)
    (table,) = (table for table in record.tables if table.title == what)
    return table.markdown().split("\n\n", 1)[1]


if __name__ == "__main__":
    main()
