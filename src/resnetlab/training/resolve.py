"""Resolve the recipe from the given options, in one fixed order, independent of the order of the options."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from resnetlab.assignments import parse_assignments
from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.training.named_recipes import LENGTHS, MOST_VALIDATION, RECIPES, VALIDATION_SHARES
from resnetlab.training.recipe import Balance, Precision, Recipe

T = TypeVar("T")
USED_BY = {
    "padding": ("crop", ("padded",)),
    "crop_size": ("crop", ("shorter-side", "area", "whole")),
    "longest": ("crop", ("whole",)),
    "test_resize": ("crop", ("shorter-side", "area")),
    "test_crop": ("crop", ("shorter-side", "area")),
    "colour": ("crop", ("shorter-side", "area")),
    "sides": ("crop", ("shorter-side",)),
    "least_area": ("crop", ("area",)),
    "drops": ("schedule", ("drops",)),
    "augment": ("crop", ("shorter-side", "area")),
    **dict.fromkeys(("erasing", "mixup", "cutmix", "repeats"), ("crop", ("padded", "shorter-side", "area"))),
}
"""Fields that have an effect only for some values of another field."""

OWN_OPTIONS = "learning_rate", "weight_decay", "patience", "precision", "freeze", "balance", "accumulate"
"""Fields that have an option of their own."""
ENOUGH = 50  # training images, to hold some out unasked
SHORT = {"lr": "learning_rate", "wd": "weight_decay", "batch": "batch_size", "steps": "iterations"}


@dataclass(frozen=True)
class RecipeOptions:
    """The given options; None keeps the recipe's value.

    `fields` set single fields; `batch_size` also scales the learning rate and the number of steps, `iterations` and
    `epochs` the schedule, `image_size` all sizes in pixels.
    """

    name: str | None = None
    """digits, cifar, cifar-warmup, cifar-short, cifar-short-warmup, cifar-45k, cifar-45k-warmup or short; for image
    files of any size paper-imagenet, imagenet-8x32, digits-imagenet, modern, modern-short or finetune; for detection
    digit-scenes, detection, detection-finetune, detection-voc or detection-coco. Default: depends on the data, the
    network and --from."""
    epochs: int | None = None
    """Passes over the training images; the schedule is scaled. Default: the recipe's, e.g. 600 for modern, 100
    for modern-short, 20 for finetune and at least 300 steps."""
    iterations: int | None = None
    """Training steps, in place of epochs."""
    batch_size: int | None = None
    """Images per step over all processes; learning rate and number of steps are scaled. Default: the recipe's, 128 on
    CIFAR, 256 for paper-imagenet, 1,024 for modern, 64 for finetune."""
    image_size: int | None = None
    """Side in pixels of the network's square input; for detection of the image's shorter side. Default: 224, for
    detection 600, or the size of the images in memory."""
    learning_rate: float | None = None
    """The highest learning rate. Default: the recipe's, e.g. 0.1 on CIFAR, 0.03 for finetune; in proportion to
    --batch-size."""
    weight_decay: float | None = None
    """Default: the recipe's, e.g. 0.0001 for finetune."""
    validation: float | None = None
    """Training images to hold out for validation, as a number, or a share below 1 such as 0.2. Default: none; of 50
    or more image files of your own, without validation images, 0.1 with finetune, modern-short and short (5,000 at
    most)."""
    patience: int | None = None
    """End training after this many reports without a better validation error. Default: never."""
    precision: Precision | None = None
    """Of activations and multiplications; weights and statistics are always float32. Default: the recipe's."""
    freeze: str | None = None
    """Freeze weights and batch statistics up to this stage, e.g. layer2. Default: none."""
    balance: Balance | None = None
    """For classes of different sizes: weight the loss, or draw each class equally often. Default: none."""
    accumulate: int | None = None
    """Run each batch in this many chunks to save memory. Default: 1."""
    fields: tuple[str, ...] = ()
    """Change recipe fields, e.g. label_smoothing=0.1 keep=best; `resnetlab recipes NAME` lists them."""


@dataclass(frozen=True)
class Resolved:
    """The resolved recipe, and notes for the user."""

    recipe: Recipe
    notes: tuple[str, ...] = ()


def resolve(
    asked: RecipeOptions,
    default: str,
    images: int,
    started: bool = False,
    has_validation: bool = True,
    fast_bfloat16: bool = True,
) -> Resolved:
    """The recipe for this number of training images, from name, batch size, image size, length and single fields.

    Explicit fields keep their values when others are scaled. `default` is the recipe name if none is given; `started`
    is true if training starts from weights; without `has_validation` some recipes hold out training images. Without
    `fast_bfloat16`, a recipe in bfloat16 is in float32.

    Raises:
        ResnetlabError: an unknown name or field (with similar names), a wrong type, a value out of range, conflicting
            options, or an option without effect.
    """
    said = _fields(asked)
    if (held := _one_of("validation", asked.validation, said.pop("validation", None))) is not None:
        said["validation"] = _held_out(float(held) if abs(held) < 1e15 else math.inf, images)
    elif not has_validation and images >= ENOUGH and (share := VALIDATION_SHARES.get(asked.name or default)):
        said["validation"] = min(round(share * images), MOST_VALIDATION)
    images = said.get("images") or max(1, images - said.get("validation", 0))
    base = named_recipe(asked.name or default)
    iterations = _one_of("iterations", asked.iterations, said.pop("iterations", None))
    if asked.epochs is not None and iterations is not None:
        raise ResnetlabError("both epochs and iterations are given; give one of them")
    batch_size = _one_of("batch_size", asked.batch_size, said.get("batch_size"))
    notes: list[str] = []
    if asked.epochs is not None and (batch_size or base.batch_size) > images:
        if batch_size:
            raise ResnetlabError(
                f"batches of {batch_size} images are larger than the {images:,} training images, so no number of "
                f"steps is {asked.epochs} epochs; give a batch size of at most {images:,}, or iterations"
            )
        asked = replace(asked, batch_size=_divisible(images, base))
    usual = base
    parts: dict[str, Any] = {
        name: said[name] for name in ("batch_size", "accumulate", "statistics_over") if name in said
    }
    base = _with_batch_size(base, asked.batch_size, parts) if asked.batch_size else replace(base, **parts)
    if asked.image_size and not _resident(base, said):
        _one_of("image_size", asked.image_size, said.get("crop_size"))
        base = base.for_crop_size(asked.image_size)
    base = _of_length(base, usual, asked, iterations, images)
    if asked.batch_size and base.batch_size != usual.batch_size:
        rate = said.get("learning_rate", base.learning_rate)
        notes.append(
            f"batches of {base.batch_size} images in place of {usual.batch_size}: learning rate {rate:g} in place of "
            f"{usual.learning_rate:g}"
        )
    if base.precision == "bfloat16" and "precision" not in said and not fast_bfloat16:
        base = replace(base, precision="float32")
        notes.append("precision float32 in place of bfloat16, for which this device has no matrix units")
    recipe = replace(base, **said)
    _refuse_without_effect(recipe, said, started)
    return Resolved(recipe, tuple(notes))


def named_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ResnetlabError: unknown; the message has similar names.
    """
    if name not in RECIPES:
        raise ResnetlabError(f"unknown recipe {name!r}: {near_matches(name, RECIPES)}")
    return RECIPES[name]


def is_resident(asked: RecipeOptions, default: str) -> bool:
    """Whether the recipe keeps images in memory; needed before they are read."""
    return _resident(named_recipe(asked.name or default), _fields(asked))


def describe(recipe: Recipe, images: int, image_shape: tuple[int, int, int] | None = None) -> str:
    """One line that describes the training; `image_shape` is (channels, height, width) of images in memory."""
    height, width = image_shape[1:] if image_shape else (recipe.crop_size, recipe.crop_size)
    pixels = f"{width}x{height} pixels" if recipe.crop != "whole" else f"{height} pixels on the shorter side"
    epochs = recipe.iterations * recipe.batch_size / images
    rate = f"learning rate {recipe.learning_rate:g}"
    if recipe.schedule == "cosine":
        rate += ", cosine to 0"
    elif recipe.drops:
        rate += f", a tenth after steps {', '.join(f'{drop:,}' for drop in recipe.drops)}"
    if recipe.warmup_rate is not None:
        rate += f", {recipe.warmup_rate:g} until the training error is below {recipe.warmup_error:g} %"
    if recipe.crop == "whole":
        rate += ", batch norm fixed" if recipe.batch_norm == "fixed" else ", batch norm trained"
    return (
        f"recipe {recipe.name}: {recipe.iterations:,} steps of {recipe.batch_size} images of {pixels} "
        f"({epochs:.1f} epochs), {rate}, {recipe.precision}"
    )


def changed_fields(recipe: Recipe) -> dict[str, Any]:
    """The fields that differ from the named recipe scaled to the same number of steps."""
    usual = asdict(RECIPES[recipe.name].scaled(recipe.iterations))
    if recipe.precision == "float32" and usual["precision"] == "bfloat16":  # by the device, see `resolve`
        usual["precision"] = "float32"
    return {name: value for name, value in asdict(recipe).items() if value != usual[name]}


def _of_length(base: Recipe, usual: Recipe, asked: RecipeOptions, iterations: int | None, images: int) -> Recipe:
    """The schedule scaled to the requested steps, or to the recipe's steps for this number of images."""
    by_data = LENGTHS.get(base.name)
    apart = 0
    if iterations is not None:
        steps = iterations
        apart = min(round(images / base.batch_size), iterations // 10)
    elif asked.epochs is not None:
        steps = max(1, round(asked.epochs * images / base.batch_size))
        apart = round(images / base.batch_size)
    else:
        steps = by_data(usual, images) if by_data else usual.iterations
        if asked.batch_size:
            steps = max(1, round(steps * usual.batch_size / base.batch_size))
        apart = round(images / base.batch_size) if base.name == "short" else 0
    found = base.scaled(steps)
    return replace(found, report_every=max(found.report_every, apart))


def _divisible(images: int, base: Recipe) -> int:
    """The largest batch of at most these images that the recipe can divide; all of them if there is none."""
    unit = math.lcm(min(base.statistics_over, images) or 1, base.repeats)
    return images - images % unit or images


def _with_batch_size(recipe: Recipe, batch_size: int, parts: dict[str, Any]) -> Recipe:
    """Another batch size, with the learning rate in proportion (Goyal et al., 2017)."""
    share = batch_size / recipe.batch_size
    warmup_rate = None if recipe.warmup_rate is None else recipe.warmup_rate * share
    rate = recipe.learning_rate * share
    parts = {"statistics_over": min(recipe.statistics_over, batch_size)} | parts
    return replace(recipe, **parts, batch_size=batch_size, learning_rate=rate, warmup_rate=warmup_rate)


def _resident(base: Recipe, said: dict[str, Any]) -> bool:
    return bool(said.get("crop", base.crop) == "padded")


def _fields(asked: RecipeOptions) -> dict[str, Any]:
    """Explicit fields, from `field=value` or their own options."""
    found = parse_fields(asked.fields)
    for name in OWN_OPTIONS:
        if (value := getattr(asked, name)) is not None:
            _one_of(name, value, found.get(name))
            found[name] = value
    return found


def parse_fields(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse recipe fields from texts `field=value`, also by their short names; see `parse_assignments`."""
    pairs = (text.partition("=") for text in assignments)
    return parse_assignments(
        Recipe, (SHORT.get(name, name) + sign + value for name, sign, value in pairs), "a recipe"
    )


def _held_out(asked: float, images: int) -> int:
    """The number of validation images, from a number or a share.

    Raises:
        ResnetlabError: neither.
    """
    if 0 < asked < 1:
        return max(1, round(asked * images))
    if not math.isfinite(asked) or asked < 0 or asked == 1 or asked != int(asked):
        raise ResnetlabError(f"`validation={asked:g}`: it must be a number of images, or a share between 0 and 1")
    return int(asked)


def _one_of(name: str, option: T | None, field: T | None) -> T | None:
    """The value of an option that can be given in two ways.

    Raises:
        ResnetlabError: it is given both ways.
    """
    if option is not None and field is not None:
        raise ResnetlabError(f"{name} is given twice, as {option} and as the field's value {field}; give it once")
    return option if option is not None else field


def has_effect(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a recipe's field has an effect beside the values of the other fields; missing ones are the default."""
    if name not in USED_BY:
        return True
    other, needed = USED_BY[name]
    return values.get(other, getattr(Recipe(), other)) in needed


def _refuse_without_effect(recipe: Recipe, said: dict[str, Any], started: bool) -> None:
    values = asdict(recipe)
    for name in said:
        if name in USED_BY:
            other, needed = USED_BY[name]
            if not has_effect(name, values):
                raise ResnetlabError(
                    f"the recipe's field {name} takes no effect with {other} {values[other]}; it is for "
                    f"{' and '.join(needed)}"
                )
        if name in ("warmup_error", "warmup_window") and recipe.warmup_rate is None:
            raise ResnetlabError(f"the recipe's field {name} takes no effect without warmup_rate")
        if name == "head_rate" and not started:
            raise ResnetlabError("the recipe's field head_rate takes no effect without weights to start from")
        if name == "normalise" and started:
            raise ResnetlabError(
                "the recipe's field normalise takes no effect here: the starting weights define the normalisation"
            )
