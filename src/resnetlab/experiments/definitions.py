"""The paper's figures and tables as cells: which networks, on which data, by which recipe, tested how."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.evaluation.protocol import ProtocolName
from resnetlab.experiments.cell import Cell
from resnetlab.networks.resnet import NAMES, Architecture, Shortcut, architecture, with_options
from resnetlab.training.recipe import Recipe
from resnetlab.training.recipes import RECIPES, with_fields
from resnetlab.training.recipes import recipe as named_recipe

ScaleName = Literal["digits", "folder", "full"]
Family = Literal["cifar", "imagenet"]


@dataclass(frozen=True)
class Scale:
    """Where an experiment runs: data set and recipe. `side_by_side`: images too small to fill more than a core.

    Networks are so many times narrower than the paper's.
    """

    data: str
    recipe: str
    deep_recipe: str
    side_by_side: bool
    narrow: int = 1


@dataclass(frozen=True)
class Experiment:
    """A figure or table: its networks at each scale, in the order in which they are shown.

    A network is a name, with its option after a dash where there are several: resnet34-A. One that stands twice is
    trained from another seed. Finished networks are tested by `protocol`; `ensemble` averages all of them.
    """

    name: str
    title: str
    digits: tuple[str, ...]
    full: tuple[str, ...]
    family: Family = "cifar"
    protocol: ProtocolName | None = None
    ensemble: bool = False


SCALES: dict[ScaleName, Scale] = {
    "digits": Scale("digits", "digits", "digits", side_by_side=True),
    "full": Scale("cifar10", "cifar", "cifar-warmup", side_by_side=False),
}
IMAGENET_SCALES: dict[ScaleName, Scale] = {
    "digits": Scale("digits", "digits-imagenet", "digits-imagenet", side_by_side=True, narrow=8),
    "folder": Scale("", "paper-imagenet", "paper-imagenet", side_by_side=False),
    "full": Scale("imagenet", "imagenet-8x32", "imagenet-8x32", side_by_side=False),
}
PAPER_DATA = ("cifar10", "cifar100")
LEAST_FOR_DENSE = 96  # pixels: three positions of the last feature map
DEEP = 110  # from this depth on the paper warms up (Section 4.2)


def _names(kind: str, *depths: int) -> tuple[str, ...]:
    return tuple(f"cifar_{kind}{depth}" for depth in depths)


def _options(*depths: int) -> tuple[str, ...]:
    return tuple(f"cifar_resnet{depth}-{option}" for depth in depths for option in "ABC")


def _imagenet(name: str, title: str, networks: str, protocol: ProtocolName, ensemble: bool = False) -> Experiment:
    rows = tuple(networks.split())
    return Experiment(name, title, rows, rows, "imagenet", protocol, ensemble)


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "figure1",
            "Figure 1: deeper plain networks train worse",
            digits=_names("plain", 20, 56),
            full=_names("plain", 20, 56),
        ),
        Experiment(
            "figure6",
            "Figure 6: plain and residual networks of growing depth",
            digits=_names("plain", 20, 56) + _names("resnet", 20, 56),
            full=_names("plain", 20, 32, 44, 56) + _names("resnet", 20, 32, 44, 56, 110, 1202),
        ),
        Experiment(
            "table6",
            "Table 6: test error of residual networks of growing depth",
            digits=_names("resnet", 20, 32, 44, 56),
            full=_names("resnet", 20, 32, 44, 56, 110, 1202),
        ),
        Experiment(
            "options",
            "Shortcut options A, B and C on small images",
            digits=_options(20, 56),
            full=_options(20, 56, 110),
        ),
        _imagenet(
            "figure4",
            "Figure 4: plain and residual networks of 18 and 34 layers",
            "plain18 plain34 resnet18-A resnet34-A",
            "center",
        ),
        _imagenet(
            "table2",
            "Table 2: plain and residual networks of 18 and 34 layers",
            "plain18 plain34 resnet18-A resnet34-A",
            "ten-crop",
        ),
        _imagenet(
            "table3",
            "Table 3: options and depths",
            "plain34 resnet34-A resnet34-B resnet34-C resnet50 resnet101 resnet152",
            "ten-crop",
        ),
        _imagenet("table4", "Table 4: single models", "resnet34-B resnet34-C resnet50 resnet101 resnet152", "dense"),
        _imagenet(
            "table5",
            "Table 5: an ensemble of six models, two of them of 152 layers",
            "resnet34-B resnet34-C resnet50 resnet101 resnet152 resnet152",
            "dense",
            ensemble=True,
        ),
    )
}
COMPUTED = ("table1", "cost")


def cells(
    experiment: Experiment,
    scale: ScaleName,
    *,
    seeds: int = 1,
    networks: tuple[str, ...] = (),
    iterations: int | None = None,
    epochs: int | None = None,
    image_size: int | None = None,
    narrow: int | None = None,
    changes: tuple[str, ...] = (),
    data: str | None = None,
    data_dir: Path = Path("data"),
    images: int = 0,
) -> dict[str, Cell]:
    """The cells of an experiment by the name of their run folder, which tells all runs of ours apart.

    `networks`, `iterations` (or `epochs`), `narrow` and `data` replace the experiment's own; drops move along with
    iterations. `changes` are fields of the recipes, as `field=value`. `images` are the training images, which the
    recipes of a folder's scale go by.

    Raises:
        ResnetlabError: an unknown network or field, with its near matches, or a value that cannot be.
    """
    at = scale_of(experiment, scale)
    rows = [network_row(name, experiment, narrow or at.narrow) for name in networks or members(experiment, scale)]
    repeats = max(Counter(rows).values())
    found = {}
    for seed in range(seeds):
        seen: Counter[Architecture] = Counter()
        for row in rows:
            recipe = named_recipe(at.deep_recipe if row.depth >= DEEP else at.recipe, images)
            if experiment.family == "imagenet" and image_size:
                recipe = recipe.for_crop_size(image_size)
            recipe = recipe.for_epochs(epochs, images) if epochs else recipe.scaled(iterations or recipe.iterations)
            recipe = with_fields(recipe, list(changes))
            source = data or at.data
            cell = Cell(source, row, recipe, seed * repeats + seen[row], data_dir)
            seen[row] += 1
            found[folder_name(source, row, recipe, cell.seed)] = cell
    return found


def protocol_of(experiment: Experiment, crop_size: int) -> ProtocolName | None:
    """The experiment's protocol; ten crops in place of fully convolutional testing for small images.

    A crop of 32 pixels is one position of the last feature map, most of what is seen there is zero padding, and away
    from the border the network sees what it was never trained on.
    """
    return "ten-crop" if experiment.protocol == "dense" and crop_size < LEAST_FOR_DENSE else experiment.protocol


def members(experiment: Experiment, scale: ScaleName) -> tuple[str, ...]:
    """The experiment's networks at a scale."""
    return experiment.digits if scale == "digits" else experiment.full


def scale_of(experiment: Experiment, scale: ScaleName) -> Scale:
    """A scale as the experiment has it.

    Raises:
        ResnetlabError: it has no such scale.
    """
    scales = SCALES if experiment.family == "cifar" else IMAGENET_SCALES
    if scale not in scales:
        raise ResnetlabError(f"{experiment.name} has the scales {', '.join(scales)}; take one of them, with --data")
    return scales[scale]


def experiment(name: str) -> Experiment:
    """An experiment by name.

    Raises:
        ResnetlabError: an unknown one, with its near matches.
    """
    if name not in EXPERIMENTS:
        raise ResnetlabError(f"unknown experiment {name!r}: {near_matches(name, (*EXPERIMENTS, *COMPUTED))}")
    return EXPERIMENTS[name]


def default_recipe(source: str, row: Architecture, started: bool = False) -> str:
    """The recipe for a data set: the paper's on CIFAR, `digits` on the digits; for networks of ImageNet's size, on
    image files, `modern`, or `finetune` where training starts from weights; else `short`.
    """
    for at in SCALES.values():
        if source == at.data or (source in PAPER_DATA and at.data in PAPER_DATA):
            return at.deep_recipe if row.depth >= DEEP else at.recipe
    if row.stem == "imagenet":
        return "finetune" if started else "modern"
    return "short"


def folder_name(source: str, row: Architecture, recipe: Recipe, seed: int, start: Path | None = None) -> str:
    """The name of a run's folder, e.g. `digits-cifar_plain20-digits-1000-seed0`.

    A network or recipe with changed options or fields has a name of its own.
    """
    options = "" if row == architecture(row.name) else f"-{row.shortcut}-{row.version}"
    options += f"-{row.narrow}x-narrower" if row.narrow > 1 else ""
    usual = asdict(RECIPES[recipe.name].scaled(recipe.iterations))
    changed = sorted((name, value) for name, value in asdict(recipe).items() if value != usual[name])
    fields = f"-{hashlib.sha256(repr(changed).encode()).hexdigest()[:6]}" if changed else ""
    begun = f"-from-{start.stem}" if start else ""
    data = Path(source).resolve().stem if Path(source).exists() else Path(source).stem
    return f"{data}-{row.name}{options}-{recipe.name}{fields}-{recipe.iterations}-seed{seed}{begun}"


def network_row(name: str, experiment: Experiment, narrow: int = 1) -> Architecture:
    """A network by name, with its option after a dash where it is not the usual one: resnet34-A.

    Raises:
        ResnetlabError: an unknown one, or one of the other family.
    """
    base, _, option = name.partition("-")
    if option and option not in get_args(Shortcut):
        raise ResnetlabError(f"{name}: after the dash comes the shortcut's option, A, B or C")
    known = [known for known in NAMES if known.startswith("cifar_") == (experiment.family == "cifar")]
    if experiment.family == "cifar" and not base.startswith("cifar_") and "cifar_" + base in known:
        base = "cifar_" + base
    row = architecture(base)
    if row.stem != experiment.family:
        kind = "ImageNet" if row.stem == "imagenet" else "CIFAR"
        raise ResnetlabError(f"{name} is for {kind}; this experiment takes {near_matches(base, known)}")
    return with_options(row, shortcut=option or None, narrow=narrow)  # type: ignore[arg-type]
