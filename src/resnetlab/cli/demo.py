"""`resnetlab demo`: see it happen, then look at it."""

import os
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path

from resnetlab.cli.command import On, command
from resnetlab.cli.common import at_least_one, provenance, say, show_record
from resnetlab.errors import ResnetlabError
from resnetlab.files import resolved

EXPERIMENT = "figure6"
INSIDE = ("figure7", "lesions")


@command
def demo(*, out: Path = Path("runs"), seeds: int = 1, page: Path = Path("report"), browser: On = True) -> None:
    """Train plain and residual networks of 20 and 56 layers on handwritten digits, look inside, and open the page.

    It takes some minutes without a GPU. Deeper plain networks get worse, deeper residual ones do not. Afterwards a
    page shows the curves, the paper's beside them, and what the layers do. Stopped, the same command continues.

    Example: resnetlab demo

    Args:
        out: The folder of the runs.
        seeds: Runs per network; several show the spread.
        page: The folder of the page, index.html.
        browser: Only write the page, and do not open a browser.
    """
    at_least_one(seeds=seeds)
    if page.exists() and not page.is_dir():
        raise ResnetlabError(f"`page={page}` is a file; give the folder of the page")
    from resnetlab.cli.reporting import write_page_of
    from resnetlab.cli.terminal import Terminal
    from resnetlab.experiments.catalogue import find, inspections
    from resnetlab.experiments.experiment import Experiment
    from resnetlab.experiments.inspecting import analyse
    from resnetlab.experiments.options import Options

    entry, listener, options = find(EXPERIMENT), Terminal(), Options(out=out, seeds=seeds)
    assert isinstance(entry, Experiment)  # noqa: S101 -- for the type checker
    made, here = entry.make(options, listener), provenance("auto")
    if made.record is not None:
        show_record(replace(made.record, provenance=here), out / entry.folder(options))
    if made.failure is not None:
        raise made.failure
    folders = [out / name for name, spec in entry.specs(entry.settled(options)).items() if spec.seed == 0]
    for name in INSIDE:
        record = analyse(inspections()[name], folders, options, listener)
        show_record(replace(record, provenance=here), out / f"{EXPERIMENT}-inside", tables=False)
    written = write_page_of((out,), page, evaluate=True, estimate=True)
    if browser and has_browser() and webbrowser.open(resolved(written).as_uri()):
        say("The page is open in your browser.")


def has_browser() -> bool:
    """Whether there is a screen, and so a browser that does not take over the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
