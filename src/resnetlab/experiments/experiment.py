"""An experiment: networks at several scales, their training and testing, and the record."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from resnetlab.choices import ProtocolName
from resnetlab.data.named import DataSource
from resnetlab.devices import has_fast_bfloat16
from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.options import Options
from resnetlab.experiments.plan import Counted
from resnetlab.networks.architecture import NAMES, Architecture, parse, with_options
from resnetlab.paper.tables import Printed
from resnetlab.report.record import Record, Table
from resnetlab.runs.finished import FinishedRun
from resnetlab.runs.settings import Settings, choose_device
from resnetlab.runs.several import Update
from resnetlab.runs.spec import DEEP, RunSpec
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.tasks.task import Task
from resnetlab.training.resolve import parse_fields, resolve

LEAST_FOR_DENSE = 96  # pixels: three positions of the last feature map
T = TypeVar("T")


@runtime_checkable
class Listener(Protocol):
    """Receives the progress of an experiment, e.g. to print it."""

    def say(self, text: str) -> None:
        """Show a line of text."""

    def show(self, table: Table) -> None:
        """Show a table."""

    def watched(self, items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
        """Yield the items and show progress."""

    def runs(
        self, labels: Mapping[str, str], lengths: Mapping[str, int]
    ) -> AbstractContextManager[Callable[[Update], None]]:
        """A context whose callback gets updates of runs; `lengths` are their numbers of steps."""


@dataclass(frozen=True)
class Made:
    """The record, if any, and the reason if some runs are missing."""

    record: Record | None
    failure: Exception | None = None


@runtime_checkable
class Entry(Protocol):
    """An entry of the catalogue, which makes a record from runs or measurements."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    @property
    def title(self) -> str:
        """A short description."""

    @property
    def options(self) -> frozenset[str]:
        """The options that it uses."""

    def make(self, options: Options, listener: Listener) -> Made:
        """Make the record; None for a dry run, or if no run has finished."""

    def folder(self, options: Options) -> str:
        """The name of the record's folder."""


@dataclass(frozen=True)
class Inspection:
    """Measurements on the trained network of every run, of which a study makes its record; see `analyse`.

    `subject` reads it from the run's folder; None: a network for classification and `images` of its data. `measure`
    gets the subject, a function that shows progress, and those of the options in `takes` that are given; it
    returns JSON. `replays` are the shares of the training after which the network is
    measured too, by training again. `announce` says what a long measurement will take, before it starts.
    """

    measure: Callable[..., Mapping[str, Any]]
    takes: frozenset[str] = frozenset()
    replays: tuple[float, ...] = ()
    announce: Callable[[Any, Options], str] = lambda subject, options: ""
    subject: Callable[[Path, Options], Any] | None = None

    @property
    def options(self) -> frozenset[str]:
        """The options that it uses."""
        return self.takes | ({"images"} if self.subject is None else set())


@dataclass(frozen=True)
class Scale:
    """The size of an experiment: data set, recipes, and networks in display order.

    Network names are in the syntax of `architecture.parse`, for detection with options of the detector after a plus
    sign; widths are divided by `narrow`. A repeated network gets another seed. `side_by_side`: a run on such small
    images cannot use more than one core. Each network is trained under each of the `variants`, which are changed
    recipe fields. `known` are the counts of data that is not there, for a plan, and `preset` is the detector's.
    """

    data: str
    recipe: str
    deep_recipe: str
    side_by_side: bool = False
    narrow: int = 1
    networks: tuple[str, ...] = ()
    variants: tuple[Mapping[str, Any], ...] = ({},)
    known: Counted | None = None
    preset: str = ""

    def of(self, *networks: str) -> "Scale":
        """A copy with these networks."""
        return replace(self, networks=networks)


def classification(words: Sequence[str], scale: Scale) -> Task:
    """The task of experiments whose networks have no options of their own.

    Raises:
        ResnetlabError: a network has some.
    """
    if words:
        raise ResnetlabError(f"+{words[0]} is an option of detectors; networks for classification have none")
    return CLASSIFICATION


RecordMaker = Callable[["Experiment", Sequence[FinishedRun], Sequence[Scored]], Record]
RUN_OPTIONS = frozenset(
    {
        *("scale", "seeds", "networks", "data", "data_dir", "jobs", "dry_run"),
        *("epochs", "iterations", "batch_size", "accumulate", "fields"),
        *(field.name for field in fields(Settings)),
    }
)


@dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper that is made from runs.

    `paper` are its rows in the paper. Finished networks are tested under `protocol`, and `record` gets the scores;
    without a protocol, the errors of the last report count. `stem` is the kind of networks. `by_split`: see
    `experiment_figure`. `planned`: the expected time is printed before it starts. `task` makes the task of a network
    from the words after its name.
    """

    name: str
    title: str
    scales: Mapping[str, Scale]
    record: RecordMaker
    paper: tuple[Printed, ...] = ()
    protocol: ProtocolName | None = None
    stem: Literal["cifar", "imagenet"] = "cifar"
    ensemble: Printed | None = None
    """The paper's row of an ensemble, if that is what the experiment is about."""
    others: tuple[str, ...] = ()
    """Networks of other kinds that it takes too."""
    by_split: bool = False
    inspection: Inspection | None = None
    planned: bool = False
    task: Callable[[Sequence[str], Scale], Task] = classification
    further: frozenset[str] = frozenset()
    """Further options that it uses."""

    @property
    def options(self) -> frozenset[str]:
        """The options that it uses."""
        found = RUN_OPTIONS | (frozenset({"narrow", "image_size"}) if self.stem == "imagenet" else frozenset())
        return found | self.further | (self.inspection.options if self.inspection else frozenset())

    def make(self, options: Options, listener: Listener) -> Made:
        """Execute the missing runs, test them, and make the record."""
        from resnetlab.experiments.making import make

        return make(self, options, listener)

    def folder(self, options: Options) -> str:
        """The name of the record's folder: the experiment's name with its scale or data."""
        options = self.settled(options)
        return f"{self.name}-{options.scale if options.data is None else DataSource(options.data).stem}"

    def settled(self, options: Options) -> Options:
        """The options with the implied scale and data.

        Raises:
            ResnetlabError: the experiment has no such scale.
        """
        if self.stem == "cifar" and options.data is None and options.data_dir and options.data_dir.is_file():
            options = replace(options, data=str(options.data_dir))
        if self.stem == "imagenet" and options.data is not None and options.scale in (None, "digits"):
            options = replace(options, scale="folder")
        options = replace(options, scale=options.scale or "digits")
        self.scale(str(options.scale))
        return options

    def scale(self, name: str) -> Scale:
        """The scale of this name.

        Raises:
            ResnetlabError: the experiment has no such scale.
        """
        if name not in self.scales:
            raise ResnetlabError(f"{self.name} has the scales {', '.join(self.scales)}; take one of them")
        return self.scales[name]

    def specs(self, options: Options, images: int = 0) -> dict[str, RunSpec]:
        """The runs by folder name; `images` is the number of training images, on which some recipes depend.

        Raises:
            ResnetlabError: an unknown network or field (with similar names), or an invalid value.
        """
        at = self.scale(options.scale or "digits")
        data = DataSource(options.data or at.data, options.data_dir or Path("data"))
        rows = [self.row(text, options) for text in options.networks or at.networks]
        repeats = max(Counter(rows).values())
        varied = {name for variant in at.variants for name in variant}
        if given := varied & parse_fields(options.recipe.fields).keys():
            raise ResnetlabError(f"{self.name} varies {' and '.join(sorted(given))} itself; remove it from `fields`")
        fast = has_fast_bfloat16(choose_device(options.settings.device))
        found = {}
        for seed, variant in product(range(options.seeds), at.variants):
            seen: Counter[tuple[Architecture, Task]] = Counter()
            for row, task in rows:
                usual = at.deep_recipe if row.depth >= DEEP and self.stem == "cifar" else at.recipe
                start = _weights(options.weights, row) if options.weights else None
                resolved = resolve(options.recipe, usual, images, start is not None, fast_bfloat16=fast)
                recipe = replace(resolved.recipe, **variant)
                spec = RunSpec(row, data, recipe, seed * repeats + seen[row, task], start, task)
                seen[row, task] += 1
                found[spec.folder_name] = spec
        return found

    def row(self, text: str, options: Options) -> tuple[Architecture, Task]:
        """The network and the task of a row, e.g. `resnet50+context`.

        Raises:
            ResnetlabError: an unknown network or option.
        """
        at, (name, *words) = self.scale(options.scale or "digits"), text.split("+")
        return self.network(name, options.narrow, at.narrow), self.task(words, at)

    def protocol_for(self, crop_size: int) -> ProtocolName | None:
        """The protocol; ten-crop replaces fully convolutional testing for small images.

        A crop of 32 pixels has one position in the last feature map, which sees mostly zero padding; in larger
        images, positions away from the border would have inputs unlike those in training.
        """
        return "ten-crop" if self.protocol == "dense" and crop_size < LEAST_FOR_DENSE else self.protocol

    def network(self, name: str, narrow: int | None = None, usually: int = 1) -> Architecture:
        """One of its networks by name; the prefix `cifar_` is optional.

        Raises:
            ResnetlabError: unknown, or of the other kind.
        """
        known = [known for known in NAMES if known.startswith("cifar_") == (self.stem == "cifar")] + list(self.others)
        base = name.partition("-")[0]
        row = parse(f"cifar_{name}" if f"cifar_{base}" in known else name, narrow=narrow)
        if row.name not in self.others and row.stem != self.stem:
            kind = "ImageNet" if row.stem == "imagenet" else "CIFAR"
            raise ResnetlabError(f"{name} is for {kind}, this experiment is not; {near_matches(base, known)}")
        return row if narrow or row.narrow > 1 else with_options(row, narrow=usually)


def _weights(folder: Path, row: Architecture) -> Path:
    """The weights to start from, by the network's name."""
    for suffix in (".safetensors", ".pth", ".pt"):
        if (found := folder / f"{row.name}{suffix}").exists():
            return found
    raise ResnetlabError(f"{folder} has no {row.name}.safetensors or {row.name}.pth to start from")


def refuse_unused(entry: Entry, options: Options, others: Iterable[Entry]) -> None:
    """Refuse options without effect.

    Raises:
        ResnetlabError: an option has no effect; the message lists the experiments that use it.
    """
    for name in options.given():
        if name not in entry.options:
            users = [other.name for other in others if name in other.options]
            hint = f"it is for {', '.join(users)}" if users else "remove it"
            raise ResnetlabError(f"`{name}` takes no effect with {entry.name}; {hint}")
