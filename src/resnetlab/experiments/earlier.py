"""Read records of earlier versions and rebuild them from their runs or measurements."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from resnetlab.errors import ResnetlabError
from resnetlab.experiments.catalogue import CATALOGUE
from resnetlab.experiments.cost import cost_record
from resnetlab.experiments.depth import depth_record
from resnetlab.experiments.experiment import Experiment
from resnetlab.experiments.imagenet import protocol_record
from resnetlab.experiments.table1 import structure_record
from resnetlab.files import read_object
from resnetlab.report.record import FORMAT, Record, Table
from resnetlab.runs.finished import FinishedRun


def read_record(path: Path) -> Record:
    """A record from its JSON file, of this version or an earlier one.

    Raises:
        ResnetlabError: it is damaged or not a record.
    """
    content = read_object(path)
    try:
        if content.get("format") == FORMAT:
            return Record.from_json(content)
        if "networks" in content:
            return cost_record(content)
        if "stages" in content:
            return structure_record(content)
        if "runs" in content:
            return _of_runs(path.stem, content)
    except ResnetlabError as error:
        raise ResnetlabError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ResnetlabError(f"{path} is damaged or not a record of resnetlab: {error!r}") from error
    raise ResnetlabError(f"{path} is not a record of resnetlab")


def _of_runs(name: str, content: dict[str, Any]) -> Record:
    """Rebuild a record from its runs; tables that the runs cannot give (ensembles, without scores) stay unchanged."""
    runs = [FinishedRun.from_json(run) for run in content["runs"]]
    known = CATALOGUE.get(name)
    experiment = known if isinstance(known, Experiment) else Experiment(name, content["title"], {}, depth_record)
    if all(run.tested is None for run in runs):
        return depth_record(experiment, runs)
    record = protocol_record(experiment, runs, ())
    others = tuple(
        Table(tuple(table["header"]), tuple(map(tuple, table["rows"])), table["protocol"])
        for table in content["tables"][1:]
    )
    if not others:
        return record
    return replace(record, sentences=(content["verdict"],), tables=(*record.tables, *others))
