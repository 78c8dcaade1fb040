"""The command `resnetlab`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from resnetlab.data import NAMED, ImageSet, load
from resnetlab.errors import ResnetlabError
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
from resnetlab.experiments.execution import Compile, Device, Execution, choose_device
from resnetlab.experiments.runner import default_jobs, run_cells
from resnetlab.networks.measure import stage_table
from resnetlab.networks.modelfile import load_model
from resnetlab.networks.resnet import NAMES, Version, architecture, with_options
from resnetlab.report.records import Record, by_network, finished
from resnetlab.report.tables import Table, error_table, write_report
from resnetlab.report.terminal import Monitor, print_table
from resnetlab.report.verdict import verdict
from resnetlab.training.interrupt import Interrupted
from resnetlab.training.loop import DivergedError
from resnetlab.training.recipe import recipe as named_recipe
from resnetlab.training.recipe import with_fields
from resnetlab.training.run import read_execution

Count = Annotated[int | None, tyro.conf.arg(metavar="N")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Option = Annotated[Literal["A", "B", "C"] | None, tyro.conf.arg(metavar="{A,B,C}")]
Place = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
app = tyro.extras.SubcommandApp()
console = Console()


@app.command
def networks(
    name: tyro.conf.Positional[Name] = None,
    /,
    *,
    shortcut: Option = None,
    version: Version = "v1",
    image_size: Count = None,
) -> None:
    """List the networks of the paper, or print one's layer table in the style of Table 1.

    Args:
        name: A network, e.g. resnet50 or cifar_resnet110; all of them if left out.
        shortcut: The paper's option A, B or C; left out, B on ImageNet and A on CIFAR.
        version: Stride of a bottleneck on the first 1x1 (v1, the paper's) or on the 3x3 (v1.5, torchvision's).
        image_size: Side of the image in pixels; left out, the paper's.
    """
    if name is None:
        rows = []
        for known in NAMES:
            stages = stage_table(row := architecture(known))
            counts = (sum(s.parameters for s in stages), sum(s.multiply_adds for s in stages))
            rows.append((known, f"{row.depth:,}", row.shortcut, f"{row.image_size}", *(f"{n:,}" for n in counts)))
        header = ("network", "depth", "shortcut", "image", "parameters", "multiply-adds")
        note = "CIFAR networks exist at every depth 6n+2. Batch normalisation and bias count as parameters only."
        print_table(console, Table(header, rows, note))
        return
    _at_least_one(image_size=image_size)
    row = with_options(architecture(name), shortcut=shortcut, version=version)
    stages = stage_table(row, image_size)
    lines: list[tuple[str, ...]] = [
        (s.name, s.output, s.layers, f"{s.parameters:,}", f"{s.multiply_adds:,}") for s in stages
    ]
    total = (sum(s.parameters for s in stages), sum(s.multiply_adds for s in stages))
    lines.append(("total", "", f"{row.depth} layers, shortcut {row.shortcut}", *(f"{n:,}" for n in total)))
    print_table(console, Table(("layer", "output", name, "parameters", "multiply-adds"), lines, ""))


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
    compile: Compile = "auto",
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
        data_dir: Where cifar10 and cifar100 are, or are downloaded to.
        image_size: Resize a folder's images to squares of this side in pixels.
    """
    _at_least_one(iterations=iterations, threads=threads, image_size=image_size)
    row = with_options(architecture(network), shortcut=shortcut, version=version)
    images = load(data, data_dir, image_size)
    chosen = named_recipe(recipe or default_recipe(data, row), len(images.train), iterations)
    chosen = with_fields(chosen, list(set))
    folder = out or Path("runs") / folder_name(data, row, chosen, seed)
    cell = Cell(data, row, chosen, seed, data_dir, image_size)
    _introduce(images)
    console.print(
        f"{row.label}, recipe {chosen.name}, {chosen.iterations:,} iterations: {folder}",
        highlight=False,
        soft_wrap=True,
    )
    with Monitor(console) as monitor:
        for progress in run(cell, folder, Execution(device, threads, compile), images):
            monitor.show(row.label, progress)
    print_table(console, error_table(finished([folder])))


@app.command
def evaluate(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: Name = None,
    device: Device = "auto",
    data_dir: Place = None,
    image_size: Count = None,
) -> None:
    """Test a trained network on a data set's test images.

    Args:
        model: A run folder, or a model.safetensors of one.
        data: The data set; left out, the one it was trained on.
        device: auto takes the GPU where there is one.
        data_dir: Where cifar10 and cifar100 are, or are downloaded to; left out, where they were in training.
        image_size: Resize a folder's images; left out, as in training.
    """
    path, source, where_data = model, data, data_dir
    if model.is_dir():
        execution, path = read_execution(model), model / "model.safetensors"
        if not path.exists():
            raise ResnetlabError(f"{model} has not finished training; give the command that started it again")
        source, where_data = data or execution["source"], data_dir or Path(execution["data_dir"])
    trained = load_model(path)
    if source is None:
        source = trained.provenance["data"]["name"]
        if source not in NAMED:
            raise ResnetlabError(f"{path} was trained on {source}; say where it, or another data set, is with --data")
    images = load(source, where_data or Path("data"), image_size or trained.mean.shape[1])
    if images.image_shape != tuple(trained.mean.shape) or images.classes != trained.classes:
        raise ResnetlabError(
            f"{source} has {len(images.classes)} classes of images {images.image_shape}, {path} was trained on "
            f"{len(trained.classes)} classes of images {tuple(trained.mean.shape)} (channels, height, width); "
            "both must agree, and so must the names of the classes"
        )
    where = choose_device(device)
    counts = single_view(trained.network.to(where), images.test.to(where), trained.mean.to(where))
    console.print(
        f"{trained.network.architecture.label} on {images.name}: test error {counts.error:.2f} % "
        f"({counts.errors:,} of {counts.images:,} test images), single view, last iteration; "
        f"trained by recipe {trained.provenance['recipe']['name']}, seed {trained.provenance['seed']}",
        highlight=False,
        soft_wrap=True,
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
    device: Device = "auto",
    out: Path = Path("runs"),
    jobs: Count = None,
    threads: Count = None,
    compile: Compile = "auto",
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
        device: auto takes the GPU where there is one.
        out: The folder of all runs and reports.
        jobs: Runs at the same time; left out, one a core for the digits on a CPU, else one.
        threads: Processor threads a run; left out, they share the cores.
        compile: auto compiles runs that are long enough to repay it.
        data: Another data set in place of the scale's own.
        data_dir: Where CIFAR is, or is downloaded to.
    """
    _at_least_one(seeds=seeds, iterations=iterations, jobs=jobs, threads=threads)
    chosen = experiment(name)
    wanted = cells(chosen, scale, seeds=seeds, networks=networks, iterations=iterations, data=data, data_dir=data_dir)
    _introduce(load(data or SCALES[scale].data, data_dir))  # fail, or download, once and before anything starts
    jobs = jobs or default_jobs(wanted, SCALES[scale].side_by_side, choose_device(device))
    labels = {key: c.network.label + (f", seed {c.seed}" if seeds > 1 else "") for key, c in wanted.items()}
    ends: dict[str, tuple[str, str]] = {}
    with Monitor(console) as monitor:
        for key, cell in wanted.items():
            monitor.expect(labels[key], cell.recipe.iterations)
        for update in run_cells(wanted, out, Execution(device, threads, compile), jobs):
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


def main() -> None:
    """Run the command line; mistakes in the input end in one line and exit status 2."""
    try:
        app.cli(prog="resnetlab", description="Deep residual learning, every network, recipe, table and figure.")
    except ResnetlabError as error:
        _end(f"error: {error}", 2)
    except DivergedError as error:
        _end(f"error: {error}; try a lower learning rate", 1)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        _end(f"error: {error}; what was saved before is kept, and the same command goes on from there", 2)
    except Interrupted as stopped:
        _end(str(stopped), 130)
    except KeyboardInterrupt:
        _end("stopped at once; the same command goes on from the last checkpoint", 130)


def _report(records: list[Record], path: Path, chosen: Experiment) -> None:
    from resnetlab.report.figures import draw_experiment  # matplotlib takes a second to come

    write_report(records, path, chosen.title)
    draw_experiment(records, path, chosen.title)
    print_table(console, error_table(records))
    console.print(verdict(by_network(records)), highlight=False)
    console.print(f"Curves, table and record: {path}.png .svg .md .json", highlight=False, soft_wrap=True)


def _at_least_one(**options: int | None) -> None:
    for name, value in options.items():
        if value is not None and value < 1:
            raise ResnetlabError(f"--{name.replace('_', '-')} {value}: it must be at least 1")


def _introduce(images: ImageSet) -> None:
    channels, height, width = images.image_shape
    console.print(
        f"{images.name}: {len(images.train):,} training and {len(images.test):,} test images of {width}x{height} "
        f"pixels, {channels} channel{'s' * (channels > 1)}, {len(images.classes)} classes; "
        f"{images.note or 'official split'}",
        highlight=False,
        soft_wrap=True,
    )


def _end(message: str, status: int) -> None:
    Console(stderr=True).print(message, highlight=False, soft_wrap=True, markup=False)
    sys.exit(status)
