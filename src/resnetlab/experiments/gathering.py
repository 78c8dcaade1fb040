"""Find records and runs in files and folders."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from resnetlab.errors import ResnetlabError
from resnetlab.experiments.earlier import read_record
from resnetlab.files import read_object
from resnetlab.report.record import Record
from resnetlab.runs.finished import FinishedRun, checked_run, finished_runs
from resnetlab.runs.stored import analysis_folder, is_finished, walk

MOST_BYTES = 1 << 26  # of a record
PARTS = {"format", "name", "title", "tables", "figures"}, {"title", "runs"}, {"networks", "settings", "reference"}
"""What the JSON of a record has, of this version and of earlier ones."""


@dataclass
class Gathered:
    """Records by file, finished runs by folder with the records of each alone, and runs that are not finished."""

    records: dict[Path, Record] = field(default_factory=dict)
    runs: dict[Path, FinishedRun] = field(default_factory=dict)
    of_run: dict[Path, list[Record]] = field(default_factory=dict)
    unfinished: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What could not be read of what was not named itself."""


def gather(places: Sequence[Path]) -> Gathered:
    """All records and runs in these files and folders, and below them.

    Raises:
        ResnetlabError: a path does not exist, a named file is no record, or a file is damaged.
    """
    found = Gathered()
    for place in places:
        if place.is_file():
            found.records[place] = _read(place)
        elif not place.is_dir():
            raise ResnetlabError(f"{place} does not exist; expected a run folder, a record, or a folder of them")
        else:
            _below(place, found)
    return found


def _below(place: Path, found: Gathered) -> None:
    for folder, has_run in walk(place):
        try:
            _one(folder, has_run, found)
        except ResnetlabError as error:
            if folder == place:
                raise
            found.problems.append(str(error))


def _one(folder: Path, has_run: bool, found: Gathered) -> None:
    if not has_run:
        found.records |= _records(folder)
    elif not is_finished(folder):
        found.unfinished.append(folder)
    else:
        runs, analyses = finished_runs([folder]), analysis_folder(folder)
        found.of_run[folder] = list(_records(analyses).values()) if analyses.is_dir() else []
        found.runs |= runs


def _records(folder: Path) -> dict[Path, Record]:
    """The records in a folder; its other files are for something else.

    Raises:
        ResnetlabError: a record is damaged.
    """
    return {path: _read(path) for path in sorted(folder.iterdir()) if _is_record(path)}


def _read(path: Path) -> Record:
    """A record whose runs can be read.

    Raises:
        ResnetlabError: it or one of its runs is damaged.
    """
    record = read_record(path)
    for said in record.runs:
        checked_run(said, path)
    return record


def _is_record(path: Path) -> bool:
    if path.suffix != ".json" or not path.is_file() or path.stat().st_size > MOST_BYTES:
        return False
    with suppress(ResnetlabError):
        content = read_object(path)
        return any(content.keys() >= parts for parts in PARTS)
    return False
