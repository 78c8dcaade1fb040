"""The effect of depth on plain and residual networks on small images: Figures 1 and 6, Table 6, shortcut options."""

from collections.abc import Sequence
from statistics import mean, stdev

from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Scale
from resnetlab.experiments.learning_curves import experiment_figure
from resnetlab.experiments.summary import Summary, beside_paper, by_network, in_words, mean_and_spread, protocol
from resnetlab.experiments.verdict import verdict
from resnetlab.paper.tables import TABLE6, Printed
from resnetlab.report.record import Record, Table
from resnetlab.runs.finished import FinishedRun

SMALL = Scale("digits", "digits", "digits", side_by_side=True)
SHORT = Scale("cifar10", "cifar-short", "cifar-short-warmup")
FULL = Scale("cifar10", "cifar", "cifar-warmup")


def _names(kind: str, *depths: int) -> tuple[str, ...]:
    return tuple(f"cifar_{kind}{depth}" for depth in depths)


def _options(*depths: int) -> tuple[str, ...]:
    return tuple(f"cifar_resnet{depth}-{option}" for depth in depths for option in "ABC")


def depth_record(experiment: Experiment, runs: Sequence[FinishedRun], scores: Sequence[Scored] = ()) -> Record:
    """Training and test errors, curves, and the effect of depth or options."""
    summaries = by_network(runs)
    figure = experiment_figure(runs, experiment.title, by_split=experiment.by_split)
    table = error_table(runs, experiment.paper)
    made_from = tuple(run.to_json() for run in runs)
    sentence = " ".join(verdict(summaries))
    return Record(experiment.name, experiment.title, (sentence,), (table,), (figure,), made_from)


def error_table(runs: Sequence[FinishedRun], paper: Sequence[Printed] = ()) -> Table:
    """The headline metric of each network at the last iteration, in training and in tests.

    The paper's rows are added only for runs with its data and length.
    """
    summaries = by_network(runs)
    training, test = (runs[0].metric_on(split) for split in ("train", "test"))
    header: tuple[str, ...] = ("network", "parameters", in_words(training, "training"), in_words(test, "test"))
    rows = [(s.architecture.title, s.parameters, *map(mean_and_spread, (s.train, s.test))) for s in summaries]
    if paper and beside_paper(runs):
        header += ("paper, test error %", "difference")
        beside = [_beside(summary, paper) for summary in summaries]
        return Table(header, tuple((*row, *theirs) for row, theirs in zip(rows, beside, strict=True)), protocol(runs))
    return Table(header, tuple(rows), protocol(runs))


def _beside(summary: Summary, paper: Sequence[Printed]) -> tuple[str, str]:
    """The paper's number, ours minus the paper's (its mean, if any), and whether that is within the seeds' spread."""
    name, shortcut = summary.architecture.name, summary.architecture.shortcut
    printed = next((row for row in paper if row.network == name and shortcut == "A"), None)
    if printed is None or printed.top1_error is None:
        return "-", "-"
    theirs = printed.top1_error if printed.mean is None else printed.mean
    shown = f"{printed.top1_error:.2f}"
    if printed.mean is not None:
        shown += f" (best of 5; {printed.mean:.2f} ± {printed.std:.2f})"
    difference = mean(summary.test) - theirs
    if len(summary.test) == 1:
        return shown, f"{difference:+.2f}"
    spread = stdev(summary.test)
    return shown, f"{difference:+.2f} ({'within' if abs(difference) <= spread else 'beyond'} ± {spread:.2f})"


EXPERIMENTS = (
    Experiment(
        "figure1",
        "Figure 1: deeper plain networks train worse",
        {
            "digits": SMALL.of(*_names("plain", 20, 56)),
            "short": SHORT.of(*_names("plain", 20, 56)),
            "full": FULL.of(*_names("plain", 20, 56)),
        },
        depth_record,
        paper=TABLE6,
        by_split=True,
    ),
    Experiment(
        "figure6",
        "Figure 6: plain and residual networks of growing depth",
        {
            "digits": SMALL.of(*_names("plain", 20, 56), *_names("resnet", 20, 56)),
            "short": SHORT.of(*_names("plain", 20, 56), *_names("resnet", 20, 56)),
            "full": FULL.of(*_names("plain", 20, 32, 44, 56), *_names("resnet", 20, 32, 44, 56, 110, 1202)),
        },
        depth_record,
        paper=TABLE6,
    ),
    Experiment(
        "table6",
        "Table 6: test error of residual networks of growing depth",
        {
            "digits": SMALL.of(*_names("resnet", 20, 32, 44, 56)),
            "short": SHORT.of(*_names("resnet", 20, 32, 44, 56)),
            "full": FULL.of(*_names("resnet", 20, 32, 44, 56, 110, 1202)),
        },
        depth_record,
        paper=TABLE6,
    ),
    Experiment(
        "options",
        "Shortcut options A, B and C on small images",
        {"digits": SMALL.of(*_options(20, 56)), "full": FULL.of(*_options(20, 56, 110))},
        depth_record,
        paper=TABLE6,
    ),
)
