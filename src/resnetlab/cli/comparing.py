"""`resnetlab compare`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from resnetlab.choices import ProtocolName
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, ends_in, main_process, print_table, say
from resnetlab.cli.evaluation import TestData, TestSettings, scored_by
from resnetlab.errors import ResnetlabError


@command
def compare(
    first: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FIRST")],
    second: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SECOND")],
    /,
    *,
    protocol: ProtocolName | None = None,
    out: Path | None = None,
    on: TestData = TestData(),  # noqa: B008 -- frozen
    settings: TestSettings = TestSettings(),  # noqa: B008 -- frozen
) -> None:
    """Say whether one of two models is better, by a paired test on the same images.

    Example: resnetlab compare runs/a runs/b

    Args:
        first: A model, or a folder that `resnetlab evaluate --out` wrote.
        second: Another one, of the same classes.
        protocol: How models are tested, as in evaluate. Default: center.
        out: Write the numbers to this .json file.
        on: The test data.
        settings: How testing is executed.
    """
    at_least_one(settings)
    ends_in("out", out, ".json")
    from resnetlab.evaluation.certainty import Paired, interval_of_error
    from resnetlab.evaluation.scores import SCORES, Scored
    from resnetlab.files import write_json
    from resnetlab.report.record import Table

    kept = [(path / SCORES).is_file() for path in (first, second)]
    changed = [name for name, value in vars(TestData()).items() if getattr(on, name) != value]
    if all(kept) and (protocol or changed):
        given = f"protocol={protocol}" if protocol else changed[0]
        raise ResnetlabError(f"`{given}` takes no effect: {first} and {second} are finished evaluations")
    one, two = (
        Scored.load(path) if is_kept else scored_by(path, protocol or "center", (), on, settings).scored
        for path, is_kept in zip((first, second), kept, strict=True)
    )
    places = {name: k for k, name in enumerate(two.names)}
    if set(places) != set(one.names) or set(one.classes) != set(two.classes):
        what = "classes" if set(one.classes) != set(two.classes) else "images"
        hint = "test both on the same data with `data`"
        if changed and what == "images":
            hint = "they hold out other images, by groups or folds; give data that is new to both"
        raise ResnetlabError(f"{first} and {second} have different {what}; {hint}")
    for note in dict.fromkeys(str(each.about.get("note", "")) for each in (one, two)):
        if note:
            say(f"{one.about['data']}: {note}")
    order = [places[name] for name in one.names]
    answers = one.answers(), two.ordered(order).answers()
    paired = Paired.of(*answers)
    rows = []
    for name, found in zip((first, second), answers, strict=True):
        interval = interval_of_error(found.errors, len(found))
        rows.append((str(name), f"{found.error:.2f}", f"{100 - found.error:.2f}", f"{interval}", f"{found.errors:,}"))
    where = f"{one.about.get('data', '?')}, {one.about.get('split', '?')}: {paired.images:,} images"
    note = (
        f"{where}. Right on: both {paired.both:,}, only the first {paired.only_first:,}, only the second "
        f"{paired.only_second:,}, neither {paired.neither:,}. Intervals: Wilson, 95 %."
    )
    print_table(Table(("model", "error %", "accuracy %", "interval of the error", "errors"), tuple(rows), note))
    say(paired.in_words(str(first), str(second)))
    if out and main_process:
        interval = paired.interval
        numbers = asdict(paired) | {"difference": paired.difference, "interval": [interval.low, interval.high]}
        numbers |= {"p_value": paired.p_value, "test": "McNemar, exact"}
        write_json(out, {"first": str(first), "second": str(second), "data": where, **numbers})
        say(f"Numbers: {out}")
