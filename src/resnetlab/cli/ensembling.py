"""`resnetlab ensemble`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnetlab.choices import RankedBy
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, ends_in, print_table, say
from resnetlab.errors import ResnetlabError

if TYPE_CHECKING:
    from resnetlab.evaluation.answers import Answers

SHOWN = 10


@command(name="ensemble")
def ensemble_(
    scores: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="SCORES ...", help_behavior_hint="")
    ],
    /,
    *,
    choose: int | None = None,
    by: RankedBy | None = None,
    out: Path | None = None,
) -> None:
    """Average the scores of several models or protocols on the same images, without running the models.

    Example: resnetlab ensemble a/scores.safetensors b/scores.safetensors

    Args:
        scores: At least two folders that `resnetlab evaluate --out` wrote, or their scores.safetensors.
        choose: Try all ensembles of this size and show the best, selected on these same images.
        by: The error that decides which is best. Default: top-5.
        out: Write the scores of the ensemble (of all, or the best choice) to this .safetensors file.
    """
    at_least_one(choose=choose)
    if len(scores) < 2:
        raise ResnetlabError("an ensemble needs the scores of at least two models")
    if by and choose is None:
        raise ResnetlabError("`by` takes no effect without `choose`")
    ends_in("out", out, ".safetensors")
    from resnetlab.evaluation.answers import TOP
    from resnetlab.evaluation.ensemble import best_ensembles, ensemble
    from resnetlab.evaluation.scores import Scored
    from resnetlab.models.modelfile import task_of
    from resnetlab.report.record import Table

    for path in scores:
        if path.is_dir() and (path / "detections.json").exists():
            raise ResnetlabError(
                f"{path} has boxes, not scores; `resnetlab evaluate MODEL --with ...` tests detectors together"
            )
        if path.is_dir() and task_of(path) == "detection":
            raise ResnetlabError(
                f"{path} is a detector; `resnetlab evaluate {path} --with ...` tests several together"
            )
    by = by or "top-5"
    parts = [Scored.load(path) for path in scores]
    choices = [] if choose is None else best_ensembles(parts, choose, by)  # raises before anything is printed
    rows = []
    for path, part in zip(scores, parts, strict=True):
        found = part.answers()
        rows.append((str(path), part.about.get("network", "?"), part.about.get("protocol", "?"), *_errors(found)))
    together = ensemble(parts)
    if choose is None:
        rows.append((f"all {len(parts)}", "ensemble", "softmax averaged", *_errors(together.answers())))
    header = ("scores", "network", "protocol", "top-1 error %", *(["top-5 error %"] * (len(parts[0].classes) > TOP)))
    where = f"{parts[0].about.get('data', '?')}, {parts[0].about.get('split', '?')}: {len(parts[0].names):,} images."
    print_table(Table(header, tuple(rows), where))
    if choose is not None:
        best = [
            (
                ", ".join(str(scores[k]) for k in c.members),
                f"{c.error:.2f}",
                *_top5(c.top5_error, len(parts[0].classes)),
            )
            for c in choices[:SHOWN]
        ]
        note = f"The best {len(best)} of {len(choices):,} ensembles of {choose}, by {by} error on these same images."
        print_table(Table(("ensemble", *header[3:]), tuple(best), note))
        together = ensemble([parts[k] for k in choices[0].members])
    if out:
        together.save(out)
        say(f"Scores of the ensemble: {out}")


def _errors(found: "Answers") -> tuple[str, ...]:
    return (f"{found.error:.2f}", *_top5(found.top5_error, len(found.classes)))


def _top5(error: float, classes: int) -> list[str]:
    from resnetlab.evaluation.answers import TOP

    return [f"{error:.2f}"] if classes > TOP else []
