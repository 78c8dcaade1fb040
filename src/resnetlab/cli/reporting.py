"""`resnetlab report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from resnetlab.cli.command import On, command
from resnetlab.cli.common import complain, counted, runs_in, say, watched
from resnetlab.errors import ResnetlabError


@command
def report(
    places: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN-OR-RECORD ...", help_behavior_hint="Default: runs"),
    ] = (),
    /,
    *,
    out: Path = Path("report"),
    evaluate: On = True,
    estimate: On = True,
) -> None:
    """Write one page of records and runs, to look at in a browser: curves, tables, mistakes, the paper beside them.

    The page is one file. It needs no server and no network. Runs that were not tested by class are tested first, and
    keep the result in their folders.

    Example: resnetlab report runs --out report

    Args:
        places: Run folders, records (.json) of `reproduce` and `analyse`, or folders of them.
        out: The folder of the page, index.html.
        evaluate: Do not test runs that were not tested by class; their confusion matrix and mistakes are left out.
        estimate: Do not measure how long what was not run would take on this machine (about half a minute).
    """
    if out.exists() and not out.is_dir():
        raise ResnetlabError(f"`out={out}` is a file; give the folder of the page")
    write_page_of(runs_in(places), out, evaluate=evaluate, estimate=estimate)


def write_page_of(places: Sequence[Path], out: Path, *, evaluate: bool, estimate: bool) -> Path:
    """Write the page of all records and runs in these places, and return its path; see `report`."""
    from resnetlab.experiments.gathering import gather
    from resnetlab.experiments.options import Options
    from resnetlab.experiments.overview import Expected, missing
    from resnetlab.experiments.sections import page
    from resnetlab.report.webpage import write_html

    found = gather(places)
    if not found.records and not found.runs:
        raise ResnetlabError(
            f"{', '.join(map(str, places))}: no finished run and no record of an experiment is there"
        )
    for folder in found.unfinished:
        say(f"{folder} has not finished, so it is not on the page")
    if evaluate:
        _evaluate(list(found.runs))
    expected = {}
    if estimate and found.records:
        entries, measured = missing(found.records.values()), Expected(Options())
        expected = {entry.name: measured(entry) for entry in watched(entries, "estimating times", len(entries))}
    say(f"The page of {counted(len(found.records), 'record')} and {counted(len(found.runs), 'run')} ...")
    made = page(found, expected)
    for problem in found.problems:
        complain(f"{problem}; left out")
    written = write_html(made, out)
    say(f"{written}: {written.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return written


def _evaluate(folders: list[Path]) -> None:
    """Test the runs for classification that were not tested by class, where their data are."""
    from resnetlab.cli.evaluation import evaluation_of_run
    from resnetlab.evaluation.scores import SCORES
    from resnetlab.models.modelfile import CLASSIFICATION, task_of
    from resnetlab.runs.settings import Settings
    from resnetlab.runs.stored import evaluation_folder

    for folder in folders:
        if task_of(folder) == CLASSIFICATION and not (evaluation_folder(folder) / SCORES).exists():
            say(f"{folder}: testing by class")
            try:
                evaluation_of_run(folder, Settings())
            except (ResnetlabError, OSError) as error:
                complain(f"{folder} is shown without its mistakes: {error}")
