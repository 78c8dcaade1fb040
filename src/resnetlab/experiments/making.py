"""Execute an experiment: load, plan, train, test, and make the record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from resnetlab.choices import ProtocolName
from resnetlab.data.dataset import Dataset
from resnetlab.data.named import DataSource
from resnetlab.errors import Interrupted, ResnetlabError
from resnetlab.evaluation.answers import TOP
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments.experiment import Experiment, Listener, Made
from resnetlab.experiments.inspecting import inspected
from resnetlab.experiments.options import Options
from resnetlab.experiments.plan import Counted, counted, labels, plan, plan_table
from resnetlab.report.record import Record
from resnetlab.runs.finished import FinishedRun, finished_runs
from resnetlab.runs.scores_of_run import scores_of_run
from resnetlab.runs.settings import choose_device
from resnetlab.runs.several import default_jobs, run_all
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import is_finished, is_started
from resnetlab.training.distributed import World, joined, wait_for_all
from resnetlab.training.named_recipes import RECIPES
from resnetlab.training.resolve import describe


def make(experiment: Experiment, options: Options, listener: Listener) -> Made:
    """Execute the missing runs, test them, and make the record (None for a dry run, or if no run has finished).

    Raises:
        ResnetlabError: the data cannot be read, or options do not fit the experiment.
    """
    options = experiment.settled(options)
    for text in options.networks:
        experiment.row(text, options)
    source, dataset, numbers = _data(experiment, options, listener)
    specs = experiment.specs(replace(options, data=source), numbers.train)
    protocol = experiment.protocol_for(min(spec.recipe.crop_size for spec in specs.values()))
    device = choose_device(options.settings.device)
    side_by_side = experiment.scale(options.scale or "digits").side_by_side
    jobs = options.jobs or default_jobs(specs, side_by_side, device)
    missing = {name: spec for name, spec in specs.items() if not is_finished(options.out / name)}
    started = any(is_started(options.out / name) for name in specs)
    long = experiment.planned or (experiment.stem == "imagenet" and options.scale != "digits" and not started)
    if options.dry_run or (World.here().main and long and missing):
        _show_plan(missing or specs, protocol, numbers, dataset, jobs, options, listener)
    _say_recipes(specs, numbers, dataset, listener)
    if options.dry_run:
        if done := [label for name, label in labels(specs).items() if name not in missing]:
            listener.say(f"Finished in {options.out}, not repeated: {'; '.join(done)}")
        return Made(None)
    with joined(World.here().device(device.type)):
        interrupted, failed = _train(specs, options, jobs, listener)
        wait_for_all()  # before any process reads results that another one writes
        runs = finished_runs(options.out / name for name in specs)
        scores = _scores_of(runs, protocol, options, listener)
    record = _record(experiment, runs, scores, options, listener) if runs and World.here().main else None
    if interrupted:
        return Made(record, Interrupted("stopped; the same command continues from there"))
    if failed:
        return Made(record, ResnetlabError(f"{len(failed)} of {len(specs)} runs failed: {failed[0]}"))
    return Made(record)


def _data(experiment: Experiment, options: Options, listener: Listener) -> tuple[str, Dataset | None, Counted]:
    """The source, its images and their counts; without ImageNet, a dry run uses its known counts."""
    at = experiment.scale(str(options.scale))
    data_dir = options.data_dir or Path("data")
    source, recipe = options.data or at.data, RECIPES[at.recipe]
    if not source:
        raise ResnetlabError(f"`scale={options.scale}` needs a folder of your images with `data`")
    if at.known is not None and options.data is None:
        source = str(data_dir / at.data)
        if not Path(source).is_dir():
            if options.dry_run:
                return source, None, at.known
            raise ResnetlabError(
                f"{source} does not exist; expected {at.known.layout} in it. Give its folder with `data`, or "
                "estimate the time without it with `dry_run`"
            )
    dataset = DataSource(source, data_dir).load(recipe.resident)
    listener.say(dataset.describe())
    return source, dataset, counted(dataset, recipe)


def _say_recipes(specs: Mapping[str, RunSpec], numbers: Counted, dataset: Dataset | None, listener: Listener) -> None:
    """Print the recipes, one line each."""
    shape = dataset.image_shape if dataset is not None else None
    networks: dict[str, list[str]] = {}
    for spec in specs.values():
        titles = networks.setdefault(describe(spec.recipe, numbers.train, shape), [])
        titles += [spec.architecture.title] * (spec.architecture.title not in titles)
    for text, titles in networks.items():
        listener.say(f"{', '.join(titles)}: {text}")


def _show_plan(
    specs: dict[str, RunSpec],
    protocol: ProtocolName | None,
    numbers: Counted,
    dataset: Dataset | None,
    jobs: int,
    options: Options,
    listener: Listener,
) -> None:
    device = World.here().device(choose_device(options.settings.device).type)
    before = torch.get_num_threads()
    at_a_time = jobs if device.type == "cpu" else 1  # on a GPU, runs are measured one at a time
    torch.set_num_threads(options.settings.threads or max(1, before // at_a_time))
    reading = "without reading of files, which do not exist" if dataset is None else "with reading of files"
    reading = "" if dataset is not None and dataset.resident else reading
    try:
        watch = lambda each: listener.watched(each, "measuring", len(each))
        planned = plan(specs, protocol, numbers, device, dataset, watch)
        listener.show(plan_table(planned, device, numbers, reading, at_a_time))
    finally:
        torch.set_num_threads(before)


def _train(specs: dict[str, RunSpec], options: Options, jobs: int, listener: Listener) -> tuple[bool, list[str]]:
    """Execute the unfinished runs. Returns whether they were interrupted, and the errors of failed ones."""
    shown = labels(specs)
    lengths = {name: spec.recipe.iterations for name, spec in specs.items()}
    ends: dict[str, tuple[str, str]] = {}
    with listener.runs(shown, lengths) as tell:
        for update in run_all(specs, options.out, options.settings, jobs):
            tell(update)
            if update.ended:
                ends[update.name] = (update.ended, update.message)
    failed = [f"{shown[name]}: {message}" for name, (end, message) in ends.items() if end == "failed"]
    return any(end == "interrupted" for end, _ in ends.values()), failed


def _record(
    experiment: Experiment,
    runs: Mapping[Path, FinishedRun],
    scores: Sequence[Scored],
    options: Options,
    listener: Listener,
) -> Record:
    """The record of the finished runs, by one process that others do not wait for."""
    shown = list(runs.values())
    if scores:
        shown = [_tested(run, scored) for run, scored in zip(shown, scores, strict=True)]
    if experiment.inspection is not None:
        shown = inspected(experiment, runs, options, listener)
    return experiment.record(experiment, shown, scores)


def _scores_of(
    runs: Mapping[Path, FinishedRun], protocol: ProtocolName | None, options: Options, listener: Listener
) -> list[Scored]:
    """The scores of the networks under the experiment's protocol, if it has one, in all processes together."""
    return [_scores(folder, run, protocol, options, listener) for folder, run in runs.items()] if protocol else []


def _scores(folder: Path, run: FinishedRun, protocol: ProtocolName, options: Options, listener: Listener) -> Scored:
    what = f"{protocol}, {run.architecture.title}"
    settings = options.settings
    watch = lambda items, total: listener.watched(items, what, total)
    return scores_of_run(folder, protocol, settings.device, settings.workers, watch=watch)


def _tested(run: FinishedRun, scored: Scored) -> FinishedRun:
    answers = scored.answers()
    found = {**scored.about, "images": len(scored.names), "top1_error": answers.error}
    return replace(run, tested=found | ({"top5_error": answers.top5_error} if len(scored.classes) > TOP else {}))
