"""`resnetlab train` and `resnetlab reproduce`."""

from pathlib import Path
from typing import Annotated

import tyro

from resnetlab.cli.common import Count, Name, Option, Place, app, at_least_one, complain, console, introduce, say
from resnetlab.cli.evaluation import confusion_of_run
from resnetlab.data.reading import OnBad
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.cell import Cell, run
from resnetlab.experiments.definitions import (
    default_recipe,
    folder_name,
)
from resnetlab.experiments.execution import Choice, Device, Execution, crowded
from resnetlab.experiments.material import load_data
from resnetlab.models.importing import read_model
from resnetlab.networks.resnet import Architecture, Shortcut, Version, architecture, with_options
from resnetlab.report.board import board
from resnetlab.report.records import Record, finished
from resnetlab.report.tables import error_table
from resnetlab.report.terminal import Monitor, print_table
from resnetlab.training.distributed import World
from resnetlab.training.recipe import Balance
from resnetlab.training.recipes import recipe as named_recipe
from resnetlab.training.recipes import with_fields


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
    narrow: Count = None,
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
            paper-imagenet, imagenet-8x32, digits-imagenet, modern or finetune; left out, what suits the data, the
            network and --from.
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
        narrow: Divide all widths by this, for large networks on small images.
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
        workers=workers, image_size=image_size, narrow=narrow,
    )  # fmt: skip
    if epochs and iterations:
        raise ResnetlabError("give --epochs or --iterations, not both")
    row = _row(network, from_, shortcut, version, narrow)
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
        f"{row.title}, recipe {chosen.name}, {chosen.iterations:,} steps of {chosen.batch_size} images "
        f"({passes:.1f} epochs): {folder}"
    )
    execution = Execution(device, threads, compile, capture=capture, recompute=recompute, workers=workers)
    if busy := crowded(execution):
        complain(busy)
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


def _row(
    network: str | None, start: Path | None, shortcut: Shortcut | None, version: Version, narrow: int | None
) -> Architecture:
    """The network by name and options; from weights, the network that they are of."""
    if start is None:
        if network is None:
            raise ResnetlabError("give a --network by name, e.g. resnet50, or weights to start --from")
        return with_options(architecture(network), shortcut=shortcut, version=version, narrow=narrow or 1)
    row = read_model(start).network.architecture
    if network is not None and architecture(network).name != row.name:
        raise ResnetlabError(f"--from {start} is {row.name}, not --network {network}; leave --network out")
    return row
