"""`resnetlab train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnetlab.choices import OnBad, TaskName
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, console, main_process, print_table, say
from resnetlab.cli.option_groups import NetworkOptions
from resnetlab.runs.settings import Settings
from resnetlab.training.resolve import RecipeOptions

if TYPE_CHECKING:
    from resnetlab.runs.spec import RunSpec


@command
def train(
    *,
    data: Annotated[str | None, tyro.conf.arg(metavar="NAME-OR-PATH", help_behavior_hint="")] = None,
    task: TaskName | None = None,
    network: str | None = None,
    from_: Annotated[Path | None, tyro.conf.arg(name="from", metavar="WEIGHTS", help_behavior_hint="")] = None,
    narrow: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    on_bad: OnBad | None = None,
    data_dir: Path | None = None,
    tensorboard: bool = False,
    detector: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTION=VALUE ...", help_behavior_hint="")] = (),
    variant: NetworkOptions = NetworkOptions(),  # noqa: B008 -- frozen
    recipe: RecipeOptions = RecipeOptions(),  # noqa: B008 -- frozen
    settings: Settings = Settings(),  # noqa: B008
) -> None:
    """Train one network. After an interruption, the same command continues.

    With several processes, use torchrun: `torchrun --nproc-per-node N -m resnetlab train ...`.

    Args:
        data: digits, cifar10, cifar100, an .npz file, a folder of images by class, a .csv of path and label, or a
            folder of tar shards. For detection digit-scenes (the default with --task detection), or a folder with
            boxes as in Pascal VOC or COCO.
        task: What is learned. Default: detection if the data has boxes, otherwise classification.
        network: A network with its options: resnet50, resnet50-v1.5, resnet34-A. `resnetlab networks` lists all.
            Default: the network of --from, or for digit-scenes resnet18-narrow4.
        from_: Start from a model file, a finished run or weights of another library. The last layer is kept if the
            class names match; the preprocessing is that of the weights.
        narrow: Divide all widths by this, for large networks on small images. Default: 1.
        seed: Seed of initialisation, order and augmentation.
        out: The run folder. Default: a folder in runs/ with a name from these options.
        on_bad: Stop at an unreadable file, or skip and count it. Default: stop.
        data_dir: Folder of cifar10 and cifar100, also for downloads. Default: data.
        detector: Options of the detector, e.g. preset=paper context=yes anchor_sizes=64,128,256.
        tensorboard: Also write the curves for TensorBoard into the run folder.
        variant: Options of the network, in addition to those in its name.
        recipe: How the network is trained.
        settings: How the run is executed; results are the same up to rounding.
    """
    at_least_one(recipe, settings, narrow=narrow)
    from resnetlab.cli.tensorboard import board
    from resnetlab.cli.terminal import Monitor
    from resnetlab.data.named import DataSource, data_for, network_for, task_for
    from resnetlab.models.starting import architecture_of
    from resnetlab.runs.run import run
    from resnetlab.runs.settings import crowded
    from resnetlab.runs.spec import RunSpec, default_recipe, network_of
    from resnetlab.tasks.named import task_named
    from resnetlab.training.resolve import describe, is_resident, resolve

    data = data or data_for(task)
    kind = task or task_for(data)
    start = architecture_of(from_) if from_ else None
    usual_network = None if start else network_for(data)
    chosen = network_of(network or usual_network, start, **vars(variant), narrow=narrow)
    usual = default_recipe(data, chosen, from_ is not None, kind)
    made = task_named(kind, detector, recipe.name or usual)
    resident = is_resident(recipe, usual)
    size = recipe.image_size if resident else None
    source = DataSource(data, data_dir or Path("data"), size, on_bad or "stop")
    source.refuse_unused(resident, on_bad is not None, data_dir is not None, settings.workers is not None)
    dataset = source.load(resident)
    say(dataset.describe())
    resolved = resolve(recipe, usual, len(dataset.train), started=from_ is not None)
    spec = RunSpec(chosen, source, resolved.recipe, seed, from_, made)
    folder = out or Path("runs") / spec.folder_name
    for note in resolved.notes:
        say(note[0].upper() + note[1:])
    say(f"{chosen.title}, {describe(spec.recipe, len(dataset.train), dataset.image_shape)}: {folder}")
    if made.about:
        say(made.about)
    if busy := crowded(settings):
        complain(busy)
    with Monitor(console) as monitor, board(folder if tensorboard else None) as write:
        for progress in run(spec, folder, settings, dataset):
            monitor.show(chosen.label, progress)
            write()
    _show(spec, folder, settings)


def _show(spec: "RunSpec", folder: Path, settings: Settings) -> None:
    """Print the table of a finished run; write its curves and its evaluation by class."""
    from resnetlab.cli import detecting, evaluation
    from resnetlab.experiments.depth import error_table
    from resnetlab.experiments.learning_curves import run_figure
    from resnetlab.report.figures import draw
    from resnetlab.runs.finished import finished_runs
    from resnetlab.runs.folder import picture_file

    if main_process:
        (finished,) = finished_runs([folder]).values()
        print_table(error_table([finished]))
        draw(run_figure(finished), picture_file(folder))
    evaluations = {"classification": evaluation.evaluation_of_run, "detection": detecting.evaluation_of_run}
    evaluations[spec.task.name](folder, settings)
    say(f"Model, curves, metrics, sample of training images, evaluation by class: {folder}")
