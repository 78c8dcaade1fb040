"""The table of an experiment, and its record, from run folders."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from resnetlab.data.labels import imagenet
from resnetlab.files import replacing, write_json
from resnetlab.networks.measure import on_meta, parameter_count
from resnetlab.paper.tables import TABLE6
from resnetlab.report.records import Record, Summary, by_network, mean_and_spread
from resnetlab.report.verdict import verdict
from resnetlab.training.recipes import CIFAR, PAPER_IMAGENET, RECIPES

END_OF_FIGURE_4 = 550_000  # iterations; the text says up to 600,000


@dataclass(frozen=True)
class Table:
    """Text cells under a header, with a line that says how the numbers came about."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    protocol: str

    def markdown(self) -> str:
        """The table as Markdown, its protocol under it."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{self.protocol}\n"


def error_table(records: list[Record]) -> Table:
    """Training and test error of each network at the last iteration; on CIFAR-10 with Table 6 beside them."""
    summaries = by_network(records)
    header: tuple[str, ...] = ("network", "parameters", "training error %", "test error %")
    rows = [_row(summary) for summary in summaries]
    if beside_paper(records):
        header += ("paper, test error %", "difference")
        rows = [row + _beside(summary) for row, summary in zip(rows, summaries, strict=True)]
    return Table(header, rows, protocol(records))


def beside_paper(records: list[Record]) -> bool:
    """Whether these runs are the paper's in data and length, so that its numbers and curves may stand beside them."""
    on_cifar = all(r.data == "cifar10" and r.config["recipe"]["iterations"] == CIFAR.iterations for r in records)
    return on_cifar or all(map(is_the_papers, records))


def is_the_papers(record: Record) -> bool:
    """Whether a run is one of the paper's on ImageNet in data, length and width."""
    recipe, classes = record.config["recipe"], record.config["data"].get("classes", ())
    lengths = (PAPER_IMAGENET.iterations, END_OF_FIGURE_4)
    return tuple(classes) == tuple(imagenet()) and recipe["iterations"] in lengths and record.row.narrow == 1


def protocol(records: list[Record]) -> str:
    """Data, split, views, seeds, which iteration, hardware: what a number is never shown without."""
    first = records[0]
    data = first.config["data"]
    return (
        f"Data: {data['name']}, {data['split']} ({first.result['test_images']:,} test images). "
        f"Test: {first.result['protocol']}. {trained(records)}"
    )


def trained(records: list[Record]) -> str:
    """How networks were trained, what their training error is, and on what."""
    first = records[0]
    recipe = first.config["recipe"]
    seeds = sorted({record.seed for record in records})
    machines = sorted({_machine(record.result["environment"]) for record in records})
    last = [0, *(point["step"] for point in first.curve)][-2:]
    return (
        f"Training error: augmented batches of the last {last[1] - last[0]:,} iterations. "
        f"Recipe: {_recipe(recipe)}, {recipe['iterations']:,} iterations of "
        f"{recipe['batch_size']} images, {recipe['precision']}. "
        f"{'Seed' if len(seeds) == 1 else 'Seeds'}: {', '.join(map(str, seeds))}. Trained on: {', '.join(machines)}."
    )


def page(records: list[Record], title: str) -> str:
    """Table, protocol and verdict as Markdown."""
    return f"# {title}\n\n{error_table(records).markdown()}\n{verdict(by_network(records))}\n"


def write_report(records: list[Record], path: Path, title: str) -> None:
    """`path`.md for reading and `path`.json as a record that the same page and figure can be made from."""
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(page(records, title))
    write_json(path.with_suffix(".json"), {"title": title, "runs": runs_of(records)})


def runs_of(records: list[Record]) -> list[dict[str, Any]]:
    """The runs as they are written into a record."""
    return [
        {"network": r.network, "seed": r.seed, "config": r.config, "result": r.result, "curve": r.curve}
        for r in records
    ]


def read_report(path: Path) -> tuple[str, list[Record]]:
    """Title and runs of a record that `write_report` wrote."""
    content = json.loads(path.read_text())
    return content["title"], [Record(data=run["config"]["data"]["name"], **run) for run in content["runs"]]


def _machine(environment: dict[str, Any]) -> str:
    processes = environment.get("processes", 1)
    return str(environment["device"]) + (f" in {processes} processes" if processes > 1 else "")


def _recipe(fields: dict[str, Any]) -> str:
    """The recipe's name, and what was changed in it."""
    name: str = fields["name"]
    named = json.loads(json.dumps(asdict(RECIPES[name].scaled(fields["iterations"]))))
    changed = [
        f"{field} {value}" for field, value in fields.items() if value != named[field] and field != "report_every"
    ]
    return name + (f" with {', '.join(changed)}" if changed else "")


def _row(summary: Summary) -> tuple[str, ...]:
    parameters = parameter_count(on_meta(summary.row))
    return (
        summary.row.title,
        f"{parameters / 1e6:.2f}M",
        mean_and_spread(summary.train_errors),
        mean_and_spread(summary.test_errors),
    )


def _beside(summary: Summary) -> tuple[str, str]:
    """The paper's number, and ours less the paper's (its mean where it ran several), and whether seeds explain it."""
    printed = next((row for row in TABLE6 if row.network == summary.network and summary.row.shortcut == "A"), None)
    if printed is None or printed.top1_error is None:
        return "-", "-"
    theirs = printed.top1_error if printed.mean is None else printed.mean
    shown = f"{printed.top1_error:.2f}"
    if printed.mean is not None:
        shown += f" (best of 5; {printed.mean:.2f} ± {printed.std:.2f})"
    difference = mean(summary.test_errors) - theirs
    if len(summary.test_errors) == 1:
        return shown, f"{difference:+.2f}"
    spread = stdev(summary.test_errors)
    return shown, f"{difference:+.2f} ({'within' if abs(difference) <= spread else 'beyond'} ± {spread:.2f})"
