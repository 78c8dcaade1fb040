"""The learning rate as a pure function of the step and of the end of the paper's warm-up."""

import math

from resnetlab.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, warmed_up_at: int | None) -> float:
    """The rate at `step`, counted from 0: divided by 10 after each drop (Section 4.2), or half a cosine.

    During warm-up, until the training error was low enough at step `warmed_up_at`, it is at most the warm-up rate;
    the later schedule is unchanged. A ramp rises linearly to the start of the schedule.
    """
    if step < recipe.ramp_up:
        return recipe.learning_rate * (step + 1) / recipe.ramp_up
    if recipe.schedule == "cosine":
        done = (step - recipe.ramp_up) / max(1, recipe.iterations - recipe.ramp_up)
        rate = recipe.learning_rate * (1 + math.cos(math.pi * done)) / 2
    else:
        rate = recipe.learning_rate / math.pow(10, sum(step >= drop for drop in recipe.drops))
    if recipe.warmup_rate is not None and (warmed_up_at is None or step < warmed_up_at):
        return min(rate, recipe.warmup_rate)
    return rate
