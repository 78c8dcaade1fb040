"""`resnetlab train`."""

from dataclasses import replace
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
    from resnetlab.choices import Version
    from resnetlab.runs.spec import RunSpec


USUAL = "resnet18"  # for image files without a network
SCRATCH = "scratch"


@command
def train(
    folder: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="DATA", help_behavior_hint="")] = None,
    /,
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

    On image files of your own and without a network, it is ResNet-18 from torchvision's weights, fine-tuned.

    Args:
        folder: The data, as in --data.
        data: digits, cifar10, cifar100, an .npz file, a folder of images by class, a .csv of path and label, or a
            folder of tar shards. For detection digit-scenes (the default with --task detection), or a folder with
            boxes as in Pascal VOC or COCO.
        task: What is learned. Default: detection if the data has boxes, otherwise classification.
        network: A network with its options: resnet50, resnet50-v1.5, resnet34-A. `resnetlab networks` lists all.
            Default: the network of --from; for image files resnet18, for digit-scenes resnet18-narrow4. On image
            files bottleneck networks are v1.5, as torchvision's and timm's.
        from_: Start from a model file, a finished run, weights of another library, published weights by name
            (resnet50, timm/resnet50.a1_in1k; see `resnetlab weights`), or scratch, which is random weights. The last
            layer is kept if the class names match; the preprocessing is that of the weights. Default: for image files
            without a network resnet18's published weights, otherwise scratch.
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
    if folder and data:
        raise ResnetlabError(f"the data is given twice, as {folder} and as `data={data}`; give it once")
    from resnetlab.cli.tensorboard import board
    from resnetlab.cli.terminal import Monitor
    from resnetlab.data.named import DataSource, data_for, has_own_images, network_for, task_for
    from resnetlab.devices import has_fast_bfloat16
    from resnetlab.models.starting import architecture_of
    from resnetlab.runs.run import run
    from resnetlab.runs.settings import choose_device, crowded
    from resnetlab.runs.spec import RunSpec, default_recipe, network_of
    from resnetlab.tasks.named import task_named
    from resnetlab.training.resolve import describe, is_resident, resolve

    data = folder or data or data_for(task)
    kind = task or task_for(data)
    from_, why = starting_weights(from_, data, kind, network)
    start = architecture_of(from_) if from_ else None
    usual_network = None if start else network_for(data)
    if start is None and has_own_images(data):
        variant = replace(variant, version=usual_version(network, variant.version))
    chosen = network_of(network or usual_network, start, **vars(variant), narrow=narrow)
    usual = default_recipe(data, chosen, from_ is not None, kind)
    made = task_named(kind, detector, recipe.name or usual)
    resident = is_resident(recipe, usual)
    size = recipe.image_size if resident else None
    source = DataSource(data, data_dir or Path("data"), size, on_bad or "stop")
    source.refuse_unused(resident, on_bad is not None, data_dir is not None, settings.workers is not None)
    dataset = source.load(resident)
    say(dataset.describe())
    fast = has_fast_bfloat16(choose_device(settings.device))
    resolved = resolve(recipe, usual, len(dataset.train), from_ is not None, fast)
    spec = RunSpec(chosen, source, resolved.recipe, seed, from_, made)
    place = out or Path("runs") / spec.folder_name
    for note in (*why, *resolved.notes):
        say(note[0].upper() + note[1:])
    say(f"{chosen.title}, {describe(spec.recipe, len(dataset.train), dataset.image_shape)}: {place}")
    if made.about:
        say(made.about)
    if busy := crowded(settings):
        complain(busy)
    with Monitor(console) as monitor, board(place if tensorboard else None) as write:
        for progress in run(spec, place, settings, dataset):
            monitor.show(chosen.label, progress)
            write()
    _show(spec, place, settings)


def starting_weights(
    given: Path | None, data: str, task: str, network: str | None
) -> tuple[Path | None, tuple[str, ...]]:
    """The weights to start from, or None for random ones, and what to say of that choice.

    Raises:
        ResnetlabError: published weights are neither on this machine nor can be downloaded.
    """
    from resnetlab.data.named import has_own_images
    from resnetlab.models.published import located, published
    from resnetlab.networks.architecture import parse

    if given is not None:
        return (None if str(given) == SCRATCH else located(given)), ()
    if task != "classification" or not has_own_images(data):
        return None, ()
    if network is None:
        try:
            return located(USUAL), (f"network and weights are not given: {USUAL}'s published weights",)
        except ResnetlabError as error:
            raise ResnetlabError(f"{error}. Or train without them: `from={SCRATCH}` and `network={USUAL}`") from None
    name = parse(network).name
    hint = f"random weights; `from={name}` starts from published ones" if published(name) else "random weights"
    return None, (hint,)


def usual_version(network: str | None, given: "Version | None") -> "Version | None":
    """v1.5 for a bottleneck network of no stated version: on images of one's own, as in torchvision and timm."""
    from resnetlab.networks.architecture import parse

    name = network or USUAL
    if given or any(word.startswith("v1") for word in name.split("-")):
        return given
    return "v1.5" if parse(name).block == "bottleneck" else None


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
    ways = {
        "classification": f"predict {folder} IMAGES, or resnetlab export {folder} --to onnx",
        "detection": f"detect {folder} IMAGES --out PICTURES",
    }
    say(f"Next: resnetlab {ways[spec.task.name]}")
