"""`resnetlab recipes`."""

from typing import Annotated, Any

import tyro

from resnetlab.assignments import meanings
from resnetlab.cli.command import command
from resnetlab.cli.common import print_table


@command
def recipes(
    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None,
    /,
) -> None:
    """List the training recipes, or print every field of one.

    Example: resnetlab recipes finetune

    Args:
        name: A recipe, e.g. finetune. Default: list all.
    """
    from resnetlab.errors import ResnetlabError, near_matches
    from resnetlab.report.record import Table
    from resnetlab.training.named_recipes import CIFAR, FEWEST_STEPS, LENGTHS, RECIPES
    from resnetlab.training.recipe import Recipe

    if name is None:
        listed = []
        for known, recipe in RECIPES.items():
            length = "by data" if known in LENGTHS else f"{recipe.iterations:,}"
            rate, count = f"{recipe.learning_rate:g}", len(recipe.drops)
            after = f"{count} drop{'s' * (count > 1)}" if count else "-"
            schedule = "cosine" if recipe.schedule == "cosine" else after
            listed.append((known, length, f"{recipe.batch_size}", rate, schedule, recipe.crop))
        header = ("recipe", "steps", "batch", "rate", "schedule", "crop")
        note = "`resnetlab recipes NAME` has every field; `resnetlab train --set FIELD=VALUE` changes one."
        print_table(Table(header, tuple(listed), note))
        return
    if name not in RECIPES:
        raise ResnetlabError(f"unknown recipe {name!r}: {near_matches(name, RECIPES)}")
    recipe, explained = RECIPES[name], meanings(Recipe)
    rows = []
    for field, value in vars(recipe).items():
        usual = getattr(CIFAR, field)
        if field == "iterations" and name in LENGTHS:
            least = f", and at least {FEWEST_STEPS} steps" if name == "finetune" else ""
            rows.append(
                (field, "by data", _shown(usual), f"As many passes as the recipe says{least}, over your images.")
            )
            continue
        rows.append((field, _shown(value), "" if value == usual else _shown(usual), explained.get(field, "")))
    note = "What differs from the paper's recipe for CIFAR-10 has that one's value beside it."
    print_table(Table(("field", "value", "cifar", "meaning"), tuple(rows[1:]), note, f"recipe {name}"))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{each:,}" for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else f"{value}"
