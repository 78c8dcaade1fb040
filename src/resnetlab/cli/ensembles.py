"""`resnetlab ensemble`."""

from pathlib import Path
from typing import Annotated

import tyro

from resnetlab.cli.common import Count, Place, app, at_least_one, console, say
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import TOP, Answers
from resnetlab.evaluation.ensemble import By, best_ensembles, ensemble
from resnetlab.evaluation.scores import Scored
from resnetlab.report.tables import Table
from resnetlab.report.terminal import print_table

SHOWN = 10


@app.command(name="ensemble")
def ensemble_(
    scores: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="SCORES ...")],
    /,
    *,
    choose: Count = None,
    by: By = "top-5",
    out: Place = None,
) -> None:
    """Average the scores of several models, or protocols, on the same images; nothing is run again.

    Args:
        scores: Folders that `resnetlab evaluate --out` wrote, or the scores.safetensors in them; two at least.
        choose: Try all ensembles of so many of them, and show the best. They are the best on these very images.
        by: The error that decides which is best.
        out: Write the ensemble's scores, of all or of the best choice, to this .safetensors file.
    """
    at_least_one(choose=choose)
    if len(scores) < 2:
        raise ResnetlabError("an ensemble takes the scores of two models at least")
    if out and out.suffix != ".safetensors":
        raise ResnetlabError(f"--out {out}: expected the name of a file that ends in .safetensors")
    parts = [Scored.load(path) for path in scores]
    choices = [] if choose is None else best_ensembles(parts, choose, by)  # refuse before anything is printed
    rows = []
    for path, part in zip(scores, parts, strict=True):
        found = part.answers()
        rows.append((str(path), part.about.get("network", "?"), part.about.get("protocol", "?"), *_errors(found)))
    together = ensemble(parts)
    if choose is None:
        rows.append((f"all {len(parts)}", "ensemble", "softmax averaged", *_errors(together.answers())))
    header = ("scores", "network", "protocol", "top-1 error %", *(["top-5 error %"] * (len(parts[0].classes) > TOP)))
    where = f"{parts[0].about.get('data', '?')}, {parts[0].about.get('split', '?')}: {len(parts[0].names):,} images."
    print_table(console, Table(header, rows, where))
    if choose is not None:
        best = [
            (
                ", ".join(str(scores[k]) for k in c.members),
                f"{c.error:.2f}",
                *_top5(c.top5_error, len(parts[0].classes)),
            )
            for c in choices[:SHOWN]
        ]
        note = f"The best {len(best)} of {len(choices):,} ensembles of {choose}, by {by} error on these very images."
        print_table(console, Table(("ensemble", *header[3:]), best, note))
        together = ensemble([parts[k] for k in choices[0].members])
    if out:
        together.save(out)
        say(f"Scores of the ensemble: {out}")


def _errors(found: Answers) -> tuple[str, ...]:
    return (f"{found.error:.2f}", *_top5(found.top5_error, len(found.classes)))


def _top5(error: float, classes: int) -> list[str]:
    return [f"{error:.2f}"] if classes > TOP else []
