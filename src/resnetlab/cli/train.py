"""`resnetlab train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnetlab.choices import OnBad, TaskName
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, console, main_process, print_table, say
from resnetlab.cli.option_groups import NetworkOptions
from resnetlab.errors import ResnetlabError
from resnetlab.runs.settings import Settings
from resnetlab.training.resolve import RecipeOptions

if TYPE_CHECKING:
    from resnetlab.runs.request import Planned, Request


@dataclass(frozen=True)
class DataOptions:
    """What it is trained on."""

    data: Annotated[str | None, tyro.conf.arg(metavar="NAME-OR-PATH", help_behavior_hint="")] = None
    """digits, cifar10, cifar100, an .npz file, a folder of images by class, a .csv of path and label, or a folder of
    tar shards. For detection digit-scenes (the default with --task detection), or a folder with boxes as in Pascal
    VOC or COCO."""
    data_dir: Path | None = None
    """Folder of cifar10 and cifar100, also for downloads. Default: data."""
    on_bad: OnBad | None = None
    """Stop at an unreadable file, or skip and count it. Default: stop."""
    group_by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN-OR-PATTERN", help_behavior_hint="")] = None
    """Keep images of one group in one split where splits are made here: a column of the .csv, or a regular expression
    for a part of the file names, e.g. "([^/_]+)_[^/]*$". Identical files always stay together."""
    folds: int | None = None
    """Cross-validation: train and test so many networks, each tested on another part of the images, and report mean,
    spread and all images together. Default: one network."""


@dataclass(frozen=True)
class NetworkChoice(NetworkOptions):
    """What is trained, and from which weights."""

    network: str | None = None
    """A network with its options: resnet50, resnet50-v1.5, resnet34-A. `resnetlab networks` lists all. Default: the
    network of --from; for image files resnet18, for digit-scenes resnet18-narrow4."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from", metavar="WEIGHTS", help_behavior_hint="")] = None
    """Start from a model file, a finished run, weights of another library, published weights by name (resnet50,
    timm/resnet50.a1_in1k; see `resnetlab weights`), or scratch, which is random weights. The last layer is kept if
    the class names match; the preprocessing is that of the weights. Default: for image files without a network
    resnet18's published weights, otherwise scratch."""
    narrow: int | None = None
    """Divide all widths by this, for large networks on small images. Default: 1."""
    task: TaskName | None = None
    """What is learned. Default: detection if the data has boxes, otherwise classification."""
    detector: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTION=VALUE ...", help_behavior_hint="")] = ()
    """Options of the detector, e.g. preset=paper context=yes anchor_sizes=64,128,256."""


@dataclass(frozen=True)
class RunOptions:
    """Which run it is, and where it is kept."""

    out: Path | None = None
    """The run folder. Default: a folder in runs/ with a name from these options."""
    seed: int = 0
    """Seed of initialisation, order and augmentation."""
    tensorboard: bool = False
    """Also write the curves for TensorBoard into the run folder."""


@command
def train(
    folder: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="DATA", help_behavior_hint="")] = None,
    /,
    *,
    data: DataOptions = DataOptions(),
    network: NetworkChoice = NetworkChoice(),
    recipe: RecipeOptions = RecipeOptions(),  # noqa: B008 -- frozen
    to: RunOptions = RunOptions(),
    machine: Settings = Settings(),  # noqa: B008
) -> None:
    """Train one network. After an interruption, the same command continues.

    With several processes, use torchrun: `torchrun --nproc-per-node N -m resnetlab train ...`.

    On image files of your own and without a network, it is ResNet-18 from torchvision's weights, fine-tuned.

    Example: resnetlab train photos --out runs/photos

    Args:
        folder: The data, as in --data.
        data: What it is trained on.
        network: What is trained, and from which weights.
        recipe: How the network is trained.
        to: Which run it is, and where it is kept.
        machine: How the run is executed; results are the same up to rounding.
    """
    at_least_one(recipe, machine, network, data)
    if folder and data.data:
        raise ResnetlabError(f"the data is given twice, as {folder} and as `data={data.data}`; give it once")
    from resnetlab.runs.request import Request, folds_of

    asked = Request(
        data=folder or data.data,
        task=network.task,
        network=network.network,
        start=network.from_,
        variant={**network.given, "narrow": network.narrow},
        detector=network.detector,
        recipe=recipe,
        seed=to.seed,
        out=to.out,
        on_bad=data.on_bad,
        data_dir=data.data_dir,
        group_by=data.group_by,
        reads_files=machine.workers is not None,
        device=machine.device,
    )
    settings, tensorboard, folds = machine, to.tensorboard, data.folds
    if folds is None:
        _show(_trained(asked, settings, tensorboard), settings)
        return
    root, requests = folds_of(asked, folds)
    plans = [_trained(each, settings, tensorboard) for each in requests]
    _show_folds(root, plans, settings)


def _trained(asked: "Request", settings: Settings, tensorboard: bool) -> "Planned":
    """Train what is asked for, with progress; a finished run is left as it is."""
    from resnetlab.cli.tensorboard import board
    from resnetlab.cli.terminal import Monitor
    from resnetlab.runs.request import plan
    from resnetlab.runs.run import run
    from resnetlab.runs.settings import crowded

    planned = plan(asked)
    for line in planned.about:
        say(line)
    if busy := crowded(settings):
        complain(busy)
    spec, place = planned.spec, planned.folder
    with Monitor(console) as monitor, board(place if tensorboard else None) as write:
        for progress in run(spec, place, settings, planned.dataset):
            monitor.show(spec.architecture.label, progress)
            write()
    return planned


def _show(planned: "Planned", settings: Settings) -> None:
    """Print the table of a finished run; write its curves and its evaluation by class."""
    from resnetlab.cli import detecting, evaluation
    from resnetlab.experiments.depth import error_table
    from resnetlab.experiments.learning_curves import run_figure
    from resnetlab.report.figures import draw
    from resnetlab.runs.finished import finished_runs
    from resnetlab.runs.stored import picture_file

    spec, folder = planned.spec, planned.folder
    if main_process:
        (finished,) = finished_runs([folder]).values()
        print_table(error_table([finished]))
        draw(run_figure(finished), picture_file(folder))
    evaluations = {"classification": evaluation.evaluation_of_run, "detection": detecting.evaluation_of_run}
    evaluations[spec.task.name](folder, settings)
    say(f"Model, curves, metrics, sample of training images, evaluation by class: {folder}")
    ways = {
        "classification": f"predict {folder} IMAGES, or resnetlab export {folder} --to onnx",
        "detection": f"detect {folder} IMAGES --out PICTURES",
    }
    say(f"Next: resnetlab {ways[spec.task.name]}")


def _show_folds(root: Path, plans: "list[Planned]", settings: Settings) -> None:
    """Test the network of each fold on its test images; print and write the results of all folds together."""
    from resnetlab.cli import evaluation

    for planned in plans:
        evaluation.evaluation_of_run(planned.folder, settings)
    if main_process:
        say(evaluation.write_folds(root, [planned.folder for planned in plans]))
        say(f"Numbers, confusion matrix, tables and the most confident mistakes of all folds: {root / 'evaluation'}")
        say(f"Next: resnetlab train {plans[0].spec.data.name} with the same options trains the network to use")
