"""`resnetlab reproduce`: the paper's tables and figures, each by its name."""

from pathlib import Path
from typing import Annotated

import torch
import tyro

from resnetlab.cli.common import Count, Name, app, at_least_one, console, introduce, say, watched
from resnetlab.cli.computed import cost, table1
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.protocol import ProtocolName
from resnetlab.experiments.cell import Cell
from resnetlab.experiments.definitions import (
    Experiment,
    ScaleName,
    cells,
    experiment,
    network_row,
    protocol_of,
    scale_of,
)
from resnetlab.experiments.execution import Choice, Device, Execution, choose_device
from resnetlab.experiments.material import Data, load_data
from resnetlab.experiments.plan import IMAGENET, Counted, counted, plan
from resnetlab.experiments.protocols import scores_of_run
from resnetlab.experiments.runner import default_jobs, run_cells
from resnetlab.report.plan import plan_table
from resnetlab.report.protocols import Tested, ensemble_table, protocol_table, write_protocols
from resnetlab.report.records import Record, by_network, finished
from resnetlab.report.tables import error_table, write_report
from resnetlab.report.terminal import Monitor, print_table
from resnetlab.report.verdict import verdict
from resnetlab.training.distributed import World, joined, wait_for_all
from resnetlab.training.interrupt import Interrupted
from resnetlab.training.recipes import RECIPES


@app.command
def reproduce(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    /,
    *,
    scale: ScaleName = "digits",
    dry_run: bool = False,
    seeds: int = 1,
    networks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = (),
    iterations: Count = None,
    epochs: Count = None,
    image_size: Count = None,
    narrow: Count = None,
    batch_size: Count = None,
    rounds: Count = None,
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = (),
    device: Device = "auto",
    out: Path = Path("runs"),
    jobs: Count = None,
    threads: Count = None,
    workers: Count = None,
    compile: Choice = "auto",
    capture: Choice = "auto",
    recompute: Choice = "auto",
    data: Name = None,
    data_dir: Path = Path("data"),
) -> None:
    """Reproduce a figure or table of the paper: figure1, figure4, figure6, table1 to table6, options or cost.

    Runs that are finished in OUT are not run again, and interrupted ones go on. Tables 2 to 5 and Figure 4 share
    their runs. Several processes train together under torchrun.

    Args:
        name: figure1, figure4, figure6, table1, ..., table6; options compares shortcut options A, B and C on small
            images; cost measures time against multiply-adds.
        scale: digits takes minutes on a laptop, with narrower networks for Tables 2 to 5 and Figure 4; folder is your
            own images, with --data; full is the paper's experiment, on CIFAR-10 or ImageNet.
        dry_run: Measure each network for some seconds, and print what all of it would take.
        seeds: Runs of each network, for mean and spread.
        networks: Only these, e.g. cifar_plain20 cifar_resnet56, or resnet34-A with its option.
        iterations: Training steps; the drops of the learning rate move in proportion.
        epochs: The same in passes through the training images.
        image_size: Pixels of the squares that networks of Tables 2 to 5, or cost, see.
        narrow: Divide the widths of networks of Tables 2 to 5 and Figure 4 by this; 8 for the digits, else 1.
        batch_size: Images at a time, of cost.
        rounds: Times that cost measures each network.
        set: Recipe fields to change, e.g. precision=bfloat16 validation=5000.
        device: auto takes the GPU where there is one.
        out: The folder of all runs and reports.
        jobs: Runs at the same time; left out, four on a GPU, on a CPU one a core for the digits, else one.
        threads: Processor threads a run; left out, they share the cores.
        workers: Threads that read image files; left out, one a core.
        compile: auto compiles runs that are long enough to repay it.
        capture: Whole steps as one CUDA graph; auto does so on a GPU.
        recompute: Activations anew for the gradients, to save memory; auto does so beyond 250 layers.
        data: Another data set in place of the scale's own; a folder of images for Tables 2 to 5 and Figure 4.
        data_dir: Where CIFAR is, or is downloaded to, and ImageNet is, in imagenet/; or an .npz file for CIFAR.
    """
    at_least_one(
        seeds=seeds, iterations=iterations, epochs=epochs, image_size=image_size, narrow=narrow, jobs=jobs,
        threads=threads, workers=workers, batch_size=batch_size, rounds=rounds,
    )  # fmt: skip
    if name == "table1":
        return table1(out)
    if name == "cost":
        return cost(
            out, networks=networks, device=device, threads=threads, batch_size=batch_size, rounds=rounds,
            image_size=image_size,
        )  # fmt: skip
    chosen = experiment(name)
    if batch_size or rounds:
        raise ResnetlabError(f"--batch-size and --rounds are for cost; for {name} give --set batch_size=N")
    if epochs and iterations:
        raise ResnetlabError("give --epochs or --iterations, not both")
    if chosen.family == "cifar":
        if image_size or narrow:
            raise ResnetlabError(f"--image-size and --narrow are for Tables 2 to 5 and Figure 4, not for {name}")
        data = str(data_dir) if data is None and data_dir.is_file() else data
    elif data is not None and scale == "digits":
        scale = "folder"
    for network in networks:
        network_row(network, chosen)
    source, loaded, numbers = _data(chosen, scale, data, data_dir, dry_run)
    wanted = cells(
        chosen, scale, seeds=seeds, networks=networks, iterations=iterations, epochs=epochs, image_size=image_size,
        narrow=narrow, changes=set, data=source, data_dir=data_dir, images=numbers.train,
    )  # fmt: skip
    way = protocol_of(chosen, min(cell.recipe.crop_size for cell in wanted.values()))
    started = any((out / key / "execution.json").exists() for key in wanted)
    if dry_run or (World.here().main and chosen.family == "imagenet" and scale != "digits" and not started):
        where = World.here().device(choose_device(device).type)
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        found = plan(wanted, way, numbers, where, loaded, lambda c: watched(c, "measuring", len(c)))
        print_table(console, plan_table(found, where, numbers, read=loaded is not None))
        torch.set_num_threads(before)
    if dry_run:
        return None
    execution = Execution(device, threads, compile, capture=capture, recompute=recompute, workers=workers)
    jobs = jobs or default_jobs(wanted, scale_of(chosen, scale).side_by_side, choose_device(device))
    folder = out / (f"{name}-{scale}" if data is None else f"{name}-{Path(data).resolve().stem}")
    with joined(World.here().device(choose_device(device).type)):
        interrupted, failed = _run(wanted, out, execution, jobs, seeds)
        wait_for_all()  # or one may look for results before another has written them
        _report(chosen, way, wanted, out, folder / name, execution)
    if interrupted:
        raise Interrupted("stopped; the same command goes on from there")
    if failed:
        raise ResnetlabError(f"{len(failed)} of {len(wanted)} runs failed: {failed[0]}")
    return None


def _data(
    chosen: Experiment, scale: ScaleName, data: str | None, data_dir: Path, dry_run: bool
) -> tuple[str, Data | None, Counted]:
    """The source, its images, before anything starts, and their numbers; ImageNet's by heart in a dry run."""
    at = scale_of(chosen, scale)
    source, recipe = data or at.data, RECIPES[at.recipe]
    if chosen.family == "imagenet" and scale == "folder" and data is None:
        raise ResnetlabError("--scale folder takes a folder of images by class with --data FOLDER")
    if chosen.family == "imagenet" and scale == "full" and data is None:
        source = str(data_dir / at.data)
        if not Path(source).is_dir():
            if dry_run:
                return source, None, IMAGENET
            raise ResnetlabError(
                f"{source} is not there; expected ImageNet's train/<WordNet id>/ and val/ in it, or give its folder "
                "with --data. --dry-run tells what the experiment takes without it"
            )
    loaded = load_data(source, data_dir, None, recipe.crop)
    introduce(loaded)
    return source, loaded, counted(loaded, recipe)


def _run(wanted: dict[str, Cell], out: Path, execution: Execution, jobs: int, seeds: int) -> tuple[bool, list[str]]:
    """Train all cells; whether they were interrupted, and why some failed."""
    repeated = seeds > 1 or len({cell.network for cell in wanted.values()}) < len(wanted)
    labels = {key: c.network.title + (f", seed {c.seed}" if repeated else "") for key, c in wanted.items()}
    ends: dict[str, tuple[str, str]] = {}
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
    failed = [message for end, message in ends.values() if end == "failed"]
    return any(end == "interrupted" for end, _ in ends.values()), failed


def _report(
    chosen: Experiment,
    way: ProtocolName | None,
    wanted: dict[str, Cell],
    out: Path,
    path: Path,
    execution: Execution,
) -> None:
    """Test what has finished, by the experiment's protocol, and write and print its report."""
    records = {key: found for key in wanted for found in finished([out / key])}
    if not records:
        return
    if way is None:
        _curves(list(records.values()), path, chosen)
        return
    tested = []
    for key, record in records.items():
        watch = lambda items, total, title=record.row.title: watched(items, f"{way}, {title}", total)
        kept = scores_of_run(out / key, way, execution.device, execution.workers, watch=watch)
        tested.append(Tested(record, kept))
    if not World.here().main:
        return
    tables = [protocol_table(tested, way, chosen.protocol or way)]
    if chosen.ensemble and len(records) == len(wanted):
        tables.append(ensemble_table(tested))
    from resnetlab.report.figures import draw_experiment  # matplotlib takes a second to come

    draw_experiment(list(records.values()), path, chosen.title)
    sentence = write_protocols(tested, tables, path, chosen.title)
    for table in tables:
        print_table(console, table)
    console.print(sentence, highlight=False)
    say(f"Curves, tables and record: {path}.png .svg .md .json")


def _curves(records: list[Record], path: Path, chosen: Experiment) -> None:
    if not World.here().main:
        return
    from resnetlab.report.figures import draw_experiment  # matplotlib takes a second to come

    write_report(records, path, chosen.title)
    draw_experiment(records, path, chosen.title)
    print_table(console, error_table(records))
    console.print(verdict(by_network(records)), highlight=False)
    say(f"Curves, table and record: {path}.png .svg .md .json")
