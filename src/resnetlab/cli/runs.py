"""`resnetlab train` and `resnetlab reproduce`."""

from pathlib import Path
from typing import Annotated

import tyro

from resnetlab.cli.common import Count, Name, Option, Place, app, at_least_one, console, introduce, say
from resnetlab.cli.evaluation import confusion_of_run
from resnetlab.data import load
from resnetlab.data.reading import OnBad
from resnetlab.errors import ResnetlabError
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
from resnetlab.experiments.material import load_data
from resnetlab.experiments.runner import default_jobs, run_cells
from resnetlab.models.importing import read_model
from resnetlab.networks.resnet import Architecture, Shortcut, Version, architecture, with_options
from resnetlab.report.board import board
from resnetlab.report.records import Record, by_network, finished
from resnetlab.report.tables import error_table, write_report
from resnetlab.report.terminal import Monitor, print_table
from resnetlab.report.verdict import verdict
from resnetlab.training.distributed import World
from resnetlab.training.interrupt import Interrupted
from resnetlab.training.recipe import Balance, with_fields
from resnetlab.training.recipe import recipe as named_recipe


@app.command
def train(
    *,
    data: Annotated[str, tyro.conf.arg(metavar="NAME-OR-PATH")],
    network: Name = None,
    from_: Annotated[Path | None, tyro.conf.arg(name="from", metavar="WEIGHTS")] = None,
    recipe: Name = None,
    epochs: Count = None,
    iterations: Count = None,
    batch_size: Count = None,
    image_size: Count = None,
    freeze: Annotated[str | None, tyro.conf.arg(metavar="STAGE")] = None,
    balance: Annotated[Balance | None, tyro.conf.arg(metavar="{none,loss,sampling}")] = None,
    accumulate: Count = None,
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = (),
    seed: int = 0,
    out: Place = None,
    shortcut: Option = None,
    version: Version = "v1",
    on_bad: OnBad = "stop",
    device: Device = "auto",
    threads: Count = None,
    workers: Count = None,
    compile: Choice = "auto",
    capture: Choice = "auto",
    recompute: Choice = "auto",
    tensorboard: bool = False,
    data_dir: Path = Path("data"),
) -> None:
    """Train one network. The same command goes on where it was interrupted.

    Several processes train together under torchrun: `torchrun --nproc-per-node N -m resnetlab train ...`.

    Args:
        data: digits, cifar10, cifar100, an .npz file, or a folder of images by class, a .csv of path and label, a
            folder of tar shards.
        network: A network by name; `resnetlab networks` lists them. Left out, the one of --from.
        from_: A model file, a finished run or other people's weights to train on from. Its head is kept if the
            classes are the same; preprocessing is the weights' own.
        recipe: digits, cifar, cifar-warmup, cifar-45k, cifar-45k-warmup or short; for image files of any size
            paper-imagenet, modern or finetune; left out, what suits the data, the network and --from.
        epochs: Passes through the training images; the schedule moves in proportion.
        iterations: The same in training steps.
        batch_size: Images a step, of all processes together; the learning rate is scaled in proportion, and the
            number of steps too.
        image_size: Pixels of the squares that the network sees.
        freeze: Up to this part, e.g. layer2, weights and batch statistics stay as they are.
        balance: For classes of different sizes: weights in the loss, or drawing each class equally often.
        accumulate: Run each batch in so many parts, for memory.
        set: Recipe fields to change, e.g. learning_rate=0.05 validation=500 patience=5 keep=best.
        seed: Of initialisation, order and augmentation.
        out: The run folder; left out, one under runs/ named after all this.
        shortcut: The paper's option A, B or C.
        version: v1, the paper's, or v1.5, torchvision's place for a bottleneck's stride.
        on_bad: Stop at a file that cannot be read, or skip and count it.
        device: auto takes the GPU where there is one.
        threads: Processor threads; left out, one a core.
        workers: Threads that read image files; left out, one a core.
        compile: auto compiles runs that are long enough to repay it.
        capture: Whole steps as one CUDA graph; auto does so on a GPU.
        recompute: Activations anew for the gradients, to save memory; auto does so beyond 250 layers.
        tensorboard: Write the curves for TensorBoard too, into the run folder.
        data_dir: Where cifar10 and cifar100 are, or are downloaded to.
    """
    at_least_one(
        iterations=iterations, epochs=epochs, batch_size=batch_size, accumulate=accumulate, threads=threads,
        workers=workers, image_size=image_size,
    )  # fmt: skip
    if epochs and iterations:
        raise ResnetlabError("give --epochs or --iterations, not both")
    row = _row(network, from_, shortcut, version)
    options = {"freeze": freeze, "balance": balance, "accumulate": accumulate}
    changes = [*set, *(f"{name}={value}" for name, value in options.items() if value is not None)]
    name = recipe or default_recipe(data, row, started=from_ is not None)
    crop = with_fields(named_recipe(name, 1), changes).crop
    images = load_data(data, data_dir, image_size, crop)
    introduce(images)
    chosen = named_recipe(name, len(images.train))
    if batch_size and batch_size != chosen.batch_size:
        usual, chosen = chosen, chosen.with_batch_size(batch_size)
        say(
            f"Batches of {batch_size} images in place of {usual.batch_size}: learning rate "
            f"{chosen.learning_rate:g} in place of {usual.learning_rate:g}"
            + ("" if epochs or iterations else f", {chosen.iterations:,} steps in place of {usual.iterations:,}")
        )
    chosen = chosen.for_epochs(epochs, len(images.train)) if epochs else chosen
    chosen = chosen.for_iterations(iterations, len(images.train)) if iterations else chosen
    chosen = chosen.for_crop_size(image_size) if image_size and crop != "padded" else chosen
    chosen = with_fields(chosen, changes)
    folder = out or Path("runs") / folder_name(data, row, chosen, seed, from_)
    cell = Cell(data, row, chosen, seed, data_dir, image_size, from_, on_bad)
    passes = chosen.iterations * chosen.batch_size / len(images.train)
    say(
        f"{row.label}, recipe {chosen.name}, {chosen.iterations:,} steps of {chosen.batch_size} images "
        f"({passes:.1f} epochs): {folder}"
    )
    execution = Execution(device, threads, compile, capture=capture, recompute=recompute, workers=workers)
    with Monitor(console) as monitor, board(folder if tensorboard else None) as write:
        for progress in run(cell, folder, execution, images):
            monitor.show(row.label, progress)
            write()
    if World.here().main:
        records = finished([folder])
        print_table(console, error_table(records))
        _draw(folder, records)


def _draw(folder: Path, records: list[Record]) -> None:
    from resnetlab.report.figures import draw_run  # matplotlib takes a second to come

    for record in records:
        draw_run(record, folder)
        if not (folder / "evaluation").exists():
            confusion_of_run(folder)
        say(f"Model, curves, metrics, sample of the training images, evaluation by class: {folder}")


def _row(network: str | None, start: Path | None, shortcut: Shortcut | None, version: Version) -> Architecture:
    """The network by name and options; from weights, the network that they are of."""
    if start is None:
        if network is None:
            raise ResnetlabError("give a --network by name, e.g. resnet50, or weights to start --from")
        return with_options(architecture(network), shortcut=shortcut, version=version)
    row = read_model(start).network.architecture
    if network is not None and architecture(network).name != row.name:
        raise ResnetlabError(f"--from {start} is {row.name}, not --network {network}; leave --network out")
    return row


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
