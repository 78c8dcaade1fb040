"""From what a user asks for to a run: the defaults, stated; the same for the command line and for Python."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnetlab.choices import DeviceName, OnBad, TaskName, Version
from resnetlab.data.dataset import Dataset
from resnetlab.data.folds import Fold
from resnetlab.data.named import DataSource, data_for, has_own_images, network_for, refuse_unknown, task_for
from resnetlab.devices import has_fast_bfloat16
from resnetlab.errors import ResnetlabError
from resnetlab.models.published import located, published
from resnetlab.models.starting import architecture_of
from resnetlab.networks.architecture import parse
from resnetlab.runs.folder import ENDED
from resnetlab.runs.settings import choose_device
from resnetlab.runs.spec import RunSpec, default_recipe, network_of
from resnetlab.runs.stored import is_run, is_started, read_result
from resnetlab.tasks.named import task_named
from resnetlab.training.resolve import RecipeOptions, describe, is_resident, resolve

USUAL = "resnet18"  # for image files without a network
SCRATCH = "scratch"


@dataclass(frozen=True)
class Request:
    """What is asked for; None is the default.

    `start` is a run, a file of weights, the name of published weights, or scratch. `variant` has options of the
    network in addition to those in its name. `group_by` and `fold` divide the images; see `DataSource`.
    """

    data: str | None = None
    task: TaskName | None = None
    network: str | None = None
    start: Path | None = None
    variant: Mapping[str, Any] = field(default_factory=dict)
    detector: tuple[str, ...] = ()
    recipe: RecipeOptions = field(default_factory=RecipeOptions)
    seed: int = 0
    out: Path | None = None
    on_bad: OnBad | None = None
    data_dir: Path | None = None
    group_by: str | None = None
    fold: Fold | None = None
    reads_files: bool = False
    """Whether threads that read files are asked for."""
    device: DeviceName = "auto"
    """On which some recipes choose their precision."""


@dataclass(frozen=True)
class Planned:
    """A run that is ready to start: its specification, its folder, its data, and what to tell the user of it."""

    spec: RunSpec
    folder: Path
    dataset: Dataset
    about: tuple[str, ...]


def plan(asked: Request) -> Planned:
    """The run that is asked for, with its data listed or loaded.

    Raises:
        ResnetlabError: an option without effect, a contradiction, data that cannot be read, weights that are missing.
    """
    data = asked.data or data_for(asked.task)
    refuse_unknown(data)
    if is_run(Path(data)):
        raise ResnetlabError(f"{data} is a run, and no data; `from_={data}` starts from its weights")
    task = asked.task or task_for(data)
    weights, why = starting_weights(asked.start, data, task, asked.network)
    start = architecture_of(weights) if weights else None
    variant = dict(asked.variant)
    if start is None and has_own_images(data):
        variant["version"] = usual_version(asked.network, variant.get("version"))
    network = network_of(asked.network or (None if start else network_for(data)), start, **variant)
    usual = default_recipe(data, network, weights is not None, task)
    made = task_named(task, asked.detector, asked.recipe.name or usual)
    resident = is_resident(asked.recipe, usual)
    size = asked.recipe.image_size if resident else None
    folder = asked.data_dir or Path("data")
    source = DataSource(data, folder, size, asked.on_bad or "stop", asked.group_by, asked.fold)
    source.refuse_unused(resident, asked.on_bad is not None, asked.data_dir is not None, asked.reads_files)
    dataset = source.load(resident)
    fast = has_fast_bfloat16(choose_device(asked.device))
    has_validation = dataset.validation is not None or not has_own_images(data)
    resolved = resolve(asked.recipe, usual, len(dataset.train), weights is not None, has_validation, fast)
    if asked.group_by and not (dataset.automatic or asked.fold or resolved.recipe.validation):
        raise ResnetlabError(
            f"`group_by={asked.group_by}` takes no effect: {data} has its own split; it is for splits that are made "
            "here"
        )
    spec = RunSpec(network, source, resolved.recipe, asked.seed, weights, made)
    place = asked.out or Path("runs") / spec.folder_name
    chosen = spec.chosen(dataset)
    held = len(chosen.validation or ()) if spec.recipe.validation else 0
    described = describe(spec.recipe, len(chosen.train), dataset.image_shape)
    apart = f"{held:,} training images are held out for validation; `validation=0` trains on all"
    resolved_notes = (*resolved.notes, *([apart] if held else []))
    notes = (note[0].upper() + note[1:] for note in (*why, *resolved_notes))
    about = (
        dataset.describe(),
        *notes,
        *_finished_before(spec, place),
        f"{network.title}, {described}: {place}",
        made.about,
    )
    return Planned(spec, place, dataset, tuple(filter(None, about)))


def _finished_before(spec: RunSpec, place: Path) -> tuple[str, ...]:
    """A message if a run of the same kind and another length is finished, which this one does not continue."""
    before, _, after = spec.folder_name.rpartition(f"-{spec.recipe.iterations}-")
    if place.exists() or place.name != spec.folder_name or not place.parent.is_dir():
        return ()
    same = re.compile(rf"{re.escape(before)}-\d+-{re.escape(after)}")
    candidates = (path for path in sorted(place.parent.iterdir()) if same.fullmatch(path.name))
    found = [path for path in candidates if read_result(path) is not None]
    return tuple(
        f"{path} is finished, and {ENDED}: this run starts from the beginning; `from_={path}` would take its weights"
        for path in found[:1]
    )


def starting_weights(
    given: Path | None, data: str, task: str, network: str | None
) -> tuple[Path | None, tuple[str, ...]]:
    """The weights to start from, or None for random ones, and what to say of that choice.

    Raises:
        ResnetlabError: published weights are neither on this machine nor can be downloaded.
    """
    if given is not None:
        return (None if str(given) == SCRATCH else located(given)), ()
    if task != "classification" or not has_own_images(data):
        return None, ()
    if network is None:
        try:
            return located(USUAL), (f"network and weights are not given: {USUAL}'s published weights",)
        except ResnetlabError as error:
            raise ResnetlabError(f"{error}. Or train without them: `from_={SCRATCH}` and `network={USUAL}`") from None
    name = parse(network).name
    hint = f"random weights; `from_={name}` starts from published ones" if published(name) else "random weights"
    return None, (hint,)


def usual_version(network: str | None, given: Version | None) -> Version | None:
    """v1.5 for a bottleneck network of no stated version: on images of one's own, as in torchvision and timm."""
    name = network or USUAL
    if given or any(word.startswith("v1") for word in name.split("-")):
        return given
    return "v1.5" if parse(name).block == "bottleneck" else None


def folds_of(asked: Request, count: int) -> tuple[Path, list[Request]]:
    """The folder of a cross-validation, and a request per fold, whose run is in a folder inside.

    Raises:
        ResnetlabError: `count` is below 2; see also `plan`.
    """
    if count < 2:
        raise ResnetlabError(f"`folds={count}`: it must be at least 2")
    root = asked.out
    if root is None:  # the name needs the plan, which loads the data
        spec = plan(replace(asked, fold=(1, count))).spec
        whole = replace(spec, data=replace(spec.data, fold=None))
        root = Path("runs") / f"{whole.folder_name}-{count}folds"
    if is_started(root):
        raise ResnetlabError(f"{root} holds a single run; give another folder for the folds with `out`")
    return root, [replace(asked, fold=(k, count), out=root / f"fold{k}") for k in range(1, count + 1)]
