"""Recipes by name: the paper's for small images (Section 4.2) and ImageNet (Section 3.4), others in proportion."""

from dataclasses import fields, replace
from typing import get_args, get_type_hints

from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.training.recipe import Recipe

IMAGENET = 1_281_167  # training images

CIFAR = Recipe()
PAPER_IMAGENET = replace(
    CIFAR,
    name="paper-imagenet",
    iterations=600_000,
    batch_size=256,
    drops=(150_000, 300_000),
    crop="shorter-side",
    colour=0.1,
    report_every=5000,
)
IMAGENET_8X32 = replace(PAPER_IMAGENET, name="imagenet-8x32", statistics_over=32, exact_statistics=True)
DIGITS_IMAGENET = replace(
    PAPER_IMAGENET.scaled(2000).for_crop_size(32),
    name="digits-imagenet",
    batch_size=64,
    learning_rate=0.05,
    drops=(1000, 1500),
    warmup_rate=0.01,
    warmup_window=10,
    sides=(37, 44),
    colour=0.0,
    exact_statistics=True,
    report_every=100,
)
EPOCH = round(IMAGENET / 64)  # steps
MODERN = replace(
    CIFAR,
    name="modern",
    iterations=100 * EPOCH,
    batch_size=64,
    learning_rate=0.03125,
    drops=(),
    weight_decay=2e-5,
    decayed="weights",
    crop="area",
    normalise="imagenet",
    schedule="cosine",
    ramp_up=5 * EPOCH,
    label_smoothing=0.1,
    ema=0.9999,
    report_every=EPOCH,
)
FINETUNE = replace(
    MODERN.scaled(20 * EPOCH),
    name="finetune",
    learning_rate=0.01,
    weight_decay=1e-4,
    least_area=0.25,
    ramp_up=EPOCH,
    report_every=EPOCH,
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        CIFAR,
        replace(CIFAR, name="cifar-warmup", warmup_rate=0.01),
        replace(CIFAR, name="cifar-45k", validation=5000),
        replace(CIFAR, name="cifar-45k-warmup", validation=5000, warmup_rate=0.01),
        replace(
            CIFAR.scaled(1000),
            name="digits",
            learning_rate=0.05,
            warmup_rate=0.01,
            warmup_window=10,
            padding=1,
            flip=False,
            report_every=25,
        ),
        replace(CIFAR, name="short"),
        PAPER_IMAGENET,
        IMAGENET_8X32,
        DIGITS_IMAGENET,
        MODERN,
        FINETUNE,
    )
}
SHORT_EPOCHS = 60
PHOTO_RECIPES = (PAPER_IMAGENET.name, IMAGENET_8X32.name, MODERN.name, FINETUNE.name)


def recipe(name: str, training_images: int, iterations: int | None = None) -> Recipe:
    """A recipe by name, in proportion over `iterations` if they are given.

    `short` is the paper's recipe in proportion, over 60 passes through the training images. Recipes for image files
    are in proportion to ImageNet's: as many passes through the training images as there.

    Raises:
        ResnetlabError: an unknown name, with its near matches.
    """
    if name not in RECIPES:
        raise ResnetlabError(f"unknown recipe {name!r}: {near_matches(name, RECIPES)}")
    found = RECIPES[name]
    if iterations is not None:
        return found.scaled(iterations)
    if name in PHOTO_RECIPES:
        return found.scaled(max(1, round(found.iterations * training_images / IMAGENET)))
    return found.for_epochs(SHORT_EPOCHS, training_images) if name == "short" else found


def with_fields(base: Recipe, assignments: list[str]) -> Recipe:
    """The recipe with fields set from `field=value` texts; `iterations` takes drops and reports along.

    Raises:
        ResnetlabError: not of that form, an unknown field with its near matches, or a value of another type.
    """
    known = [field.name for field in fields(Recipe) if field.name != "name"]
    changes: dict[str, object] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise ResnetlabError(f"cannot set {assignment!r}; write field=value, e.g. learning_rate=0.05")
        if name not in known:
            raise ResnetlabError(f"a recipe has no field {name!r}: {near_matches(name, known)}")
        changes[name] = _parse(name, text)
    iterations = changes.pop("iterations", base.iterations)
    assert isinstance(iterations, int)  # noqa: S101 -- for the type checker
    if iterations != base.iterations:
        base = RECIPES[base.name].scaled(iterations)  # from the named recipe, so as not to round twice
    return replace(base, **changes)  # type: ignore[arg-type]


def _parse(name: str, text: str) -> object:
    kind = get_type_hints(Recipe)[name]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind == tuple[int, ...]:
            return tuple(int(part) for part in text.split(",") if part)
        if kind == float | None:
            return None if text.lower() == "none" else float(text)
        if kind in (int, float, str):
            return kind(text)
        return {choice: choice for choice in get_args(kind)}[text]
    except (KeyError, ValueError):
        forms = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            float | None: "a number or none",
            tuple[int, ...]: "whole numbers with commas",
        }
        form = forms.get(kind) or " or ".join(get_args(kind))
        raise ResnetlabError(f"{name}={text}: the value must be {form}") from None
