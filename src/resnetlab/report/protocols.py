"""Tables 2 to 5: finished runs tested by the paper's protocols, with its numbers beside them."""

from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

from resnetlab.evaluation.answers import TOP
from resnetlab.evaluation.ensemble import Choice, best_ensembles, ensemble
from resnetlab.evaluation.protocol import ProtocolName
from resnetlab.evaluation.scores import Scored
from resnetlab.files import replacing, write_json
from resnetlab.networks.measure import on_meta, parameter_count
from resnetlab.paper.tables import TABLE5, printed
from resnetlab.report.records import Record, by_network, mean_and_spread
from resnetlab.report.tables import Table, is_the_papers, runs_of, trained
from resnetlab.report.verdict import depth_effect, depth_verdict, option_sentences


@dataclass(frozen=True)
class Tested:
    """A finished run and its scores by a protocol."""

    record: Record
    scores: Scored

    @property
    def errors(self) -> tuple[float, float]:
        """Top-1 and top-5 error, percent."""
        found = self.scores.answers()
        return found.error, found.top5_error


def protocol_table(tested: list[Tested], way: ProtocolName, papers: ProtocolName) -> Table:
    """Errors of each network by the protocol, the paper's beside them; the difference where the data is its own."""
    ours = all(is_the_papers(one.record) for one in tested)
    top5 = len(tested[0].scores.classes) > TOP
    header: tuple[str, ...] = ("network", "params", "training error %", "top-1 error %")
    header += (("top-5 error %",) if top5 else ()) + ("paper top-1", "paper top-5")
    header += ("difference",) if ours else ()
    rows = []
    for summary in by_network(one.record for one in tested):
        errors = [one.errors for one in tested if one.record.row == summary.row]
        found = printed(summary.row.name, summary.row.shortcut, papers)
        theirs = (None, None) if found is None else (found.top1_error, found.top5_error)
        cells = [summary.row.title, f"{parameter_count(on_meta(summary.row)) / 1e6:.2f}M"]
        cells.append(mean_and_spread(summary.train_errors))
        cells += [mean_and_spread(tuple(values)) for values in zip(*errors, strict=True)][: 1 + top5]
        cells += ["-" if value is None else f"{value:.2f}" for value in theirs]
        if ours:
            top1 = mean(error for error, _ in errors)
            cells.append("-" if theirs[0] is None else f"{top1 - theirs[0]:+.2f}")
        rows.append(tuple(cells))
    elsewhere = "" if ours else " The paper's errors are on ImageNet's validation images."
    if way != papers:
        elsewhere += (
            " Its protocol, fully convolutional at several scales, is not for crops as small as these: the last "
            "feature map is a position or two, and mostly zero padding."
        )
    return Table(header, rows, _protocol(tested) + elsewhere)


def ensemble_table(tested: list[Tested]) -> Table:
    """Each single model, the best ensembles of fewer of them, and all of them together, by top-5 error."""
    parts = [one.scores for one in tested]
    top5 = len(parts[0].classes) > TOP
    single = [best_ensembles([part], 1)[0] for part in parts]
    rows = [
        _ensemble_row(one.record.row.title + f", seed {one.record.seed}", c, top5)
        for one, c in zip(tested, single, strict=True)
    ]
    for size in range(2, len(parts)):
        best = best_ensembles(parts, size)[0]
        titles = ", ".join(tested[k].record.row.title for k in best.members)
        rows.append(_ensemble_row(f"best {size} of {len(parts)}: {titles}", best, top5))
    together = best_ensembles(parts, len(parts))[0]
    rows.append(_ensemble_row(f"all {len(parts)}", together, top5))
    theirs = next(row for row in TABLE5 if row.method.startswith("ResNet")).top5_error
    note = (
        "Softmax scores averaged. The best of fewer are the best on these very images. "
        f"The paper's six: {theirs} % top-5 error on ImageNet's test server."
    )
    return Table(("ensemble", "top-1 error %", *(["top-5 error %"] * top5)), rows, note)


def write_protocols(tested: list[Tested], tables: list[Table], path: Path, title: str) -> str:
    """`path`.json as a record, and `path`.md made of it for reading; the sentence that they come to."""
    sentence = _sentence(tested, ensembles=len(tables) > 1)
    runs = runs_of([one.record for one in tested])
    for run, one in zip(runs, tested, strict=True):
        error, top5_error = one.errors
        run["tested"] = {**one.scores.about, "images": len(one.scores.names), "top1_error": error}
        run["tested"] |= {"top5_error": top5_error} if len(one.scores.classes) > TOP else {}
    record = {"title": title, "tables": [asdict(table) for table in tables], "verdict": sentence, "runs": runs}
    write_json(path.with_suffix(".json"), record)
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(page(record, path.name))
    return sentence


def page(record: dict[str, Any], name: str) -> str:
    """The record as Markdown, beside a picture of its name."""
    found = [Table(tuple(t["header"]), [tuple(row) for row in t["rows"]], t["protocol"]) for t in record["tables"]]
    tables = "\n".join(table.markdown() for table in found)
    return f"# {record['title']}\n\n{record['verdict']}\n\n![{record['title']}]({name}.png)\n\n{tables}"


def _sentence(tested: list[Tested], ensembles: bool) -> str:
    """What depth did, what options did and what the ensemble did, computed from the numbers."""
    summaries = by_network(one.record for one in tested)
    by_row = {row: mean(one.errors[0] for one in group) for row, group in _by_row(tested)}
    sentences = option_sentences(by_row) if not ensembles else []
    if not ensembles and any(depth_effect(summaries, residual) for residual in (False, True)):
        sentences.insert(0, depth_verdict(summaries))
    if ensembles:
        found = ensemble([one.scores for one in tested]).answers()
        singles = [one.scores.answers() for one in tested]
        kind = "top-5" if len(found.classes) > TOP else "top-1"
        errors = [answers.top5_error if kind == "top-5" else answers.error for answers in (found, *singles)]
        sentences.append(
            f"All {len(tested)} together make {errors[0]:.2f} % {kind} error, the best of them alone "
            f"{min(errors[1:]):.2f} %, the worst {max(errors[1:]):.2f} %."
        )
    return " ".join(sentences)


def _by_row(tested: list[Tested]) -> list[tuple[Any, list[Tested]]]:
    order = sorted(tested, key=lambda one: (one.record.row.depth, one.record.row.title))
    return [(row, list(group)) for row, group in groupby(order, key=lambda one: one.record.row)]


def _protocol(tested: list[Tested]) -> str:
    first = tested[0]
    narrow = first.record.row.narrow
    narrower = f" The networks have 1/{narrow} of the paper's widths." if narrow > 1 else ""
    return (
        f"Data: {first.record.data}, {first.record.config['data']['split']}. "
        f"Errors: {first.scores.about['protocol']}; {len(first.scores.names):,} test images.{narrower} "
        + trained([one.record for one in tested])
    )


def _ensemble_row(name: str, choice: Choice, top5: bool) -> tuple[str, ...]:
    return (name, f"{choice.error:.2f}", *([f"{choice.top5_error:.2f}"] * top5))
