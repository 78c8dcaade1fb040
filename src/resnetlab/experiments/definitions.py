"""The paper's figures and tables as cells: which networks, on which data, by which recipe."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.experiments.cell import Cell
from resnetlab.networks.resnet import Architecture, architecture
from resnetlab.training.recipe import RECIPES, Recipe, with_fields

ScaleName = Literal["digits", "full"]


@dataclass(frozen=True)
class Scale:
    """Where an experiment runs: data set and recipe. `side_by_side`: images too small to fill more than a core."""

    data: str
    recipe: str
    deep_recipe: str
    side_by_side: bool


@dataclass(frozen=True)
class Experiment:
    """A figure or table: its networks at each scale, in the order in which they are shown."""

    name: str
    title: str
    digits: tuple[str, ...]
    full: tuple[str, ...]


SCALES: dict[ScaleName, Scale] = {
    "digits": Scale("digits", "digits", "digits", side_by_side=True),
    "full": Scale("cifar10", "cifar", "cifar-warmup", side_by_side=False),
}
PAPER_DATA = ("cifar10", "cifar100")
DEEP = 110  # from this depth on the paper warms up (Section 4.2)


def _names(kind: str, *depths: int) -> tuple[str, ...]:
    return tuple(f"cifar_{kind}{depth}" for depth in depths)


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
    )
}


def cells(
    experiment: Experiment,
    scale: ScaleName,
    *,
    seeds: int = 1,
    networks: tuple[str, ...] = (),
    iterations: int | None = None,
    changes: tuple[str, ...] = (),
    data: str | None = None,
    data_dir: Path = Path("data"),
) -> dict[str, Cell]:
    """The cells of an experiment by the name of their run folder, which tells all runs of ours apart.

    `networks`, `iterations` and `data` replace the experiment's own; drops move along with iterations. `changes` are
    fields of the recipes, as `field=value`.

    Raises:
        ResnetlabError: an unknown network or field, with its near matches, or a value that cannot be.
    """
    at = SCALES[scale]
    rows = [_small_network(name) for name in networks or getattr(experiment, scale)]
    found = {}
    for seed in range(seeds):
        for row in rows:
            recipe = RECIPES[at.deep_recipe if row.depth >= DEEP else at.recipe]
            recipe = with_fields(recipe.scaled(iterations or recipe.iterations), list(changes))
            cell = Cell(data or at.data, row, recipe, seed, data_dir)
            found[folder_name(cell.source, row, cell.recipe, seed)] = cell
    return found


def experiment(name: str) -> Experiment:
    """An experiment by name.

    Raises:
        ResnetlabError: an unknown one, with its near matches.
    """
    if name not in EXPERIMENTS:
        raise ResnetlabError(f"unknown experiment {name!r}: {near_matches(name, EXPERIMENTS)}")
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
    usual = asdict(RECIPES[recipe.name].scaled(recipe.iterations))
    changed = sorted((name, value) for name, value in asdict(recipe).items() if value != usual[name])
    fields = f"-{hashlib.sha256(repr(changed).encode()).hexdigest()[:6]}" if changed else ""
    begun = f"-from-{start.stem}" if start else ""
    data = Path(source).resolve().stem if Path(source).exists() else Path(source).stem
    return f"{data}-{row.name}{options}-{recipe.name}{fields}-{recipe.iterations}-seed{seed}{begun}"


def _small_network(name: str) -> Architecture:
    row = architecture(name if name.startswith("cifar_") or "cifar_" + name not in _known() else "cifar_" + name)
    if row.stem != "cifar":
        raise ResnetlabError(
            f"{name} is for ImageNet; this experiment takes {near_matches('cifar_' + name, _known())}"
        )
    return row


def _known() -> tuple[str, ...]:
    return tuple(name for experiment in EXPERIMENTS.values() for name in experiment.full)
