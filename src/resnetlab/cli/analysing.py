"""`resnetlab analyse`: look inside a finished run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from resnetlab.choices import DeviceName
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, provenance, show_record
from resnetlab.errors import ResnetlabError


@dataclass(frozen=True)
class AnalysisSettings:
    """How the measurements are executed."""

    device: DeviceName = "auto"
    """auto uses the GPU if there is one."""
    threads: int | None = None
    """CPU threads of the network. Default: one per core."""
    workers: int | None = None
    """Threads that read image files. Default: one per core."""


@command
def analyse(
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN ...", help_behavior_hint="")],
    /,
    *,
    only: tuple[str, ...] = (),
    out: Path | None = None,
    data: Annotated[str | None, tyro.conf.arg(metavar="NAME-OR-PATH", help_behavior_hint="")] = None,
    images: int | None = None,
    surface: int | None = None,
    settings: AnalysisSettings = AnalysisSettings(),
) -> None:
    """Look inside finished runs of any plain or residual network, your own images' too, and check claims on them.

    Several runs on the same data are compared, e.g. a plain and a residual network. Measurements are kept in the run
    folders and not repeated.

    Example: resnetlab analyse runs/photos --only figure7

    Args:
        runs: Folders of finished runs.
        only: Some of figure7, gradients, lesions, refinement, landscape and overfit. Default: all of them.
        out: The folder for records, pages and pictures. Default: analysis/ in the first run's folder.
        data: Where the training data is now, if it was moved. Default: where it was in training.
        images: Images of each split to measure on. Default: 2000, or all if fewer.
        surface: landscape: also the loss surface in two directions, at N x N points; its cost is printed first.
        settings: How the measurements are executed.
    """
    at_least_one(settings, images=images, surface=surface)
    from resnetlab.cli.terminal import Terminal
    from resnetlab.errors import near_matches
    from resnetlab.experiments.catalogue import inspections
    from resnetlab.experiments.inspecting import analyse as record_of
    from resnetlab.experiments.options import Options
    from resnetlab.runs.settings import Settings
    from resnetlab.runs.stored import analysis_folder

    known = inspections()
    for name in only:
        if name not in known:
            raise ResnetlabError(f"unknown study {name!r}: {near_matches(name, known)}")
    if not runs:
        raise ResnetlabError("give the folder of a finished run, e.g. runs/...")
    chosen = only or tuple(known)
    if surface and "landscape" not in chosen:
        raise ResnetlabError("`surface` takes no effect without landscape; add it to `only`")
    how = Settings(settings.device, settings.threads, settings.workers)
    options, listener = Options(data=data, images=images, surface=surface, settings=how), Terminal()
    options.check()
    for run in runs:
        if run.is_file():
            raise ResnetlabError(f"{run} is a file; give the folder of a finished run, which has its recipe and data")
    runs = tuple(dict.fromkeys(runs))
    folder = out or analysis_folder(runs[0])
    here = provenance(settings.device)
    for name in chosen:
        record = record_of(known[name], runs, options, listener)
        show_record(replace(record, provenance=here), folder)
