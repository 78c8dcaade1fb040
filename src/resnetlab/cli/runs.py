"""`resnetlab train`, `resnetlab evaluate` and `resnetlab reproduce`."""

from pathlib import Path
from typing import Annotated

import tyro

from resnetlab.cli.common import Count, Name, Option, Place, app, at_least_one, console, introduce, say
from resnetlab.data import NAMED, Fit, Images, load
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.labels import by_name
from resnetlab.evaluation.views import single_view
from resnetlab.experiments.cell import Cell, run
from resnetlab.experiments.definitions import (
    SCALES,
    Experiment,
    ScaleName,
    cells,
    default_recipe,
    experiment,
    folder_name,
)
from resnetlab.experiments.execution import Choice, Device, Execution, choose_device
from resnetlab.experiments.runner import default_jobs, run_cells
from resnetlab.models import load as load_model
from resnetlab.networks.resnet import Version, architecture, with_options
from resnetlab.report.records import Record, by_network, finished
from resnetlab.report.tables import error_table, write_report
from resnetlab.report.terminal import Monitor, print_table
from resnetlab.report.verdict import verdict
from resnetlab.training.interrupt import Interrupted
from resnetlab.training.recipe import recipe as named_recipe
from resnetlab.training.recipe import with_fields
from resnetlab.training.run import read_execution


@app.command
def train(
    *,
    data: Annotated[str, tyro.conf.arg(metavar="NAME-OR-PATH")],
    network: Annotated[str, tyro.conf.arg(metavar="NAME")],
    recipe: Name = None,
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = (),
    iterations: Count = None,
    seed: int = 0,
    out: Place = None,
    shortcut: Option = None,
    version: Version = "v1",
    device: Device = "auto",
    threads: Count = None,
    compile: Choice = "auto",
    capture: Choice = "auto",
    recompute: Choice = "auto",
    data_dir: Path = Path("data"),
    image_size: Count = None,
) -> None:
    """Train one network. The same command goes on where it was interrupted.

    Args:
        data: digits, cifar10, cifar100, an .npz file, or a folder of images by class.
        network: A network by name; `resnetlab networks` lists them.
        recipe: digits, cifar, cifar-warmup, cifar-45k, cifar-45k-warmup or short; left out, the data set's own.
        set: Recipe fields to change, e.g. learning_rate=0.05 batch_size=64.
        iterations: Training steps; the drops of the learning rate move in proportion.
        seed: Of initialisation, order and augmentation.
        out: The run folder; left out, one under runs/ named after all this.
        shortcut: The paper's option A, B or C.
        version: v1, the paper's, or v1.5, torchvision's place for a bottleneck's stride.
        device: auto takes the GPU where there is one.
        threads: Processor threads; left out, one a core.
        compile: auto compiles runs that are long enough to repay it.
        capture: Whole steps as one CUDA graph; auto does so on a GPU.
        recompute: Activations anew for the gradients, to save memory; auto does so beyond 250 layers.
        data_dir: Where cifar10 and cifar100 are, or are downloaded to.
        image_size: Resize a folder's images to squares of this side in pixels.
    """
    at_least_one(iterations=iterations, threads=threads, image_size=image_size)
    row = with_options(architecture(network), shortcut=shortcut, version=version)
    images = load(data, data_dir, Fit.square(image_size) if image_size else None)
    chosen = named_recipe(recipe or default_recipe(data, row), len(images.train), iterations)
    chosen = with_fields(chosen, list(set))
    folder = out or Path("runs") / folder_name(data, row, chosen, seed)
    cell = Cell(data, row, chosen, seed, data_dir, image_size)
    introduce(images)
    say(f"{row.label}, recipe {chosen.name}, {chosen.iterations:,} iterations: {folder}")
    execution = Execution(device, threads, compile, capture=capture, recompute=recompute)
    with Monitor(console) as monitor:
        for progress in run(cell, folder, execution, images):
            monitor.show(row.label, progress)
    print_table(console, error_table(finished([folder])))


@app.command
def evaluate(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: Annotated[str | None, tyro.conf.arg(metavar="NAME-OR-PATH")] = None,
    device: Device = "auto",
    data_dir: Place = None,
) -> None:
    """Test a network on a data set's test images, prepared as its model file says.

    Args:
        model: A run folder, or a model file: model.safetensors of one, or what `resnetlab import` made.
        data: The data set; left out, the one it was trained on.
        device: auto takes the GPU where there is one.
        data_dir: Where cifar10 and cifar100 are, or are downloaded to; left out, where they were in training.
    """
    trained = load_model(model)
    source, where_data = data, data_dir
    if model.is_dir():
        execution = read_execution(model)
        source, where_data = data or execution["source"], data_dir or Path(execution["data_dir"])
    if source is None:
        source = trained.provenance.get("data", {}).get("name")
        if source not in NAMED:
            known = f"was trained on {source}" if source else "does not say what it was trained on"
            raise ResnetlabError(f"{model} {known}; give the data set to test on with --data")
    images = load(source, where_data or Path("data"), trained.preprocessing.fit)
    if images.image_shape != trained.preprocessing.image_shape:
        raise ResnetlabError(
            f"{source} has images of shape {images.image_shape}, {model} takes {trained.preprocessing.image_shape} "
            "(channels, height, width); both must agree, for arrays are not resized"
        )
    try:
        labels, remark = by_name(images.test.labels, images.classes, trained.classes)
    except ResnetlabError as error:
        raise ResnetlabError(f"{source} and {model}: {error}") from None
    where = choose_device(device)
    test, preprocessing = Images(images.test.pixels, labels).to(where), trained.preprocessing.to(where)
    counts = single_view(trained.network.to(where), test, preprocessing)
    say(
        f"{trained.network.architecture.label} on {images.name}: test error {counts.error:.2f} % "
        f"({counts.errors:,} errors of {counts.images:,} test images), single view; {trained.origin}{remark}"
    )


@app.command
def reproduce(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    /,
    *,
    scale: ScaleName = "digits",
    seeds: int = 1,
    networks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = (),
    iterations: Count = None,
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = (),
    device: Device = "auto",
    out: Path = Path("runs"),
    jobs: Count = None,
    threads: Count = None,
    compile: Choice = "auto",
    capture: Choice = "auto",
    recompute: Choice = "auto",
    data: Name = None,
    data_dir: Path = Path("data"),
) -> None:
    """Reproduce a figure or table of the paper: figure1, figure6 or table6.

    Runs that are finished in OUT are not run again, and interrupted ones go on.

    Args:
        name: figure1, figure6 or table6.
        scale: digits takes minutes on a laptop; full is the paper's experiment, 64,000 iterations on CIFAR-10.
        seeds: Runs of each network, for mean and spread.
        networks: Only these, e.g. cifar_plain20 cifar_resnet56.
        iterations: Training steps; the drops of the learning rate move in proportion.
        set: Recipe fields to change, e.g. precision=bfloat16 validation=5000.
        device: auto takes the GPU where there is one.
        out: The folder of all runs and reports.
        jobs: Runs at the same time; left out, four on a GPU, on a CPU one a core for the digits, else one.
        threads: Processor threads a run; left out, they share the cores.
        compile: auto compiles runs that are long enough to repay it.
        capture: Whole steps as one CUDA graph; auto does so on a GPU.
        recompute: Activations anew for the gradients, to save memory; auto does so beyond 250 layers.
        data: Another data set in place of the scale's own.
        data_dir: Where CIFAR is, or is downloaded to; or an .npz file in place of it.
    """
    at_least_one(seeds=seeds, iterations=iterations, jobs=jobs, threads=threads)
    chosen = experiment(name)
    if data is None and data_dir.is_file():
        data = str(data_dir)
    wanted = cells(
        chosen,
        scale,
        seeds=seeds,
        networks=networks,
        iterations=iterations,
        changes=set,
        data=data,
        data_dir=data_dir,
    )
    introduce(load(data or SCALES[scale].data, data_dir))  # fail, or download, once and before anything starts
    jobs = jobs or default_jobs(wanted, SCALES[scale].side_by_side, choose_device(device))
    labels = {key: c.network.label + (f", seed {c.seed}" if seeds > 1 else "") for key, c in wanted.items()}
    ends: dict[str, tuple[str, str]] = {}
    execution = Execution(device, threads, compile, capture=capture, recompute=recompute)
    with Monitor(console) as monitor:
        for key, cell in wanted.items():
            monitor.expect(labels[key], cell.recipe.iterations)
        for update in run_cells(wanted, out, execution, jobs):
            if update.progress:
                monitor.show(labels[update.name], update.progress)
            if update.ended:
                ends[update.name] = (update.ended, update.message)
            if update.ended and update.ended != "finished":
                monitor.say(f"{labels[update.name]}: {update.ended}: {update.message}")
    if records := finished(out / cell for cell in wanted):
        report = out / (f"{name}-{scale}" if data is None else f"{name}-{Path(data).stem}") / name
        _report(records, report, chosen)
    if any(end == "interrupted" for end, _ in ends.values()):
        raise Interrupted("stopped; the same command goes on from there")
    if failed := [message for end, message in ends.values() if end == "failed"]:
        raise ResnetlabError(f"{len(failed)} of {len(wanted)} runs failed: {failed[0]}")


def _report(records: list[Record], path: Path, chosen: Experiment) -> None:
    from resnetlab.report.figures import draw_experiment  # matplotlib takes a second to come

    write_report(records, path, chosen.title)
    draw_experiment(records, path, chosen.title)
    print_table(console, error_table(records))
    console.print(verdict(by_network(records)), highlight=False)
    say(f"Curves, table and record: {path}.png .svg .md .json")
