"""A study: a record that is computed or measured without runs, alone or joined to an experiment."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from resnetlab.experiments.experiment import Entry, Experiment, Listener, Made
from resnetlab.experiments.options import Options
from resnetlab.report.record import Record


@dataclass(frozen=True)
class Study:
    """A table or figure that is computed or measured without runs. `options` are those that it uses."""

    name: str
    title: str
    study: Callable[[Options, Listener], Record]
    options: frozenset[str] = field(default_factory=frozenset)

    def folder(self, options: Options) -> str:
        """The name of the record's folder."""
        return self.name

    def make(self, options: Options, listener: Listener) -> Made:
        """Compute or measure, and make the record."""
        return Made(self.study(options, listener))


@dataclass(frozen=True)
class Joined:
    """A study without runs and an experiment, in one record under the experiment's name."""

    study: Study
    experiment: Experiment

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.experiment.name

    @property
    def title(self) -> str:
        """The experiment's title."""
        return self.experiment.title

    @property
    def options(self) -> frozenset[str]:
        """The options that either uses."""
        return self.study.options | self.experiment.options

    def folder(self, options: Options) -> str:
        """The name of the record's folder."""
        return self.experiment.folder(options)

    def make(self, options: Options, listener: Listener) -> Made:
        """Measure, then execute the missing runs, and make one record of both."""
        if options.dry_run:
            return self.experiment.make(options, listener)
        first, then = self.study.study(options, listener), self.experiment.make(options, listener)
        return replace(then, record=first if then.record is None else joined(first, then.record))


def experiment_of(entry: Entry) -> Experiment | None:
    """The experiment of an entry of the catalogue, if it is one of runs."""
    inner = entry.experiment if isinstance(entry, Joined) else entry
    return inner if isinstance(inner, Experiment) else None


def joined(first: Record, then: Record) -> Record:
    """One record of two, under the name and title of the second."""
    return replace(
        then,
        sentences=first.sentences + then.sentences,
        tables=first.tables + then.tables,
        figures=first.figures + then.figures,
        data={**first.data, **then.data},
    )
