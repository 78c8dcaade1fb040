"""How a network is trained: the paper's recipe for small images (Section 4.2), and others in its proportions."""

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args, get_type_hints

from resnetlab.errors import ResnetlabError, near_matches

Precision = Literal["float32", "tfloat32", "bfloat16"]
Decayed = Literal["all", "weights"]


@dataclass(frozen=True)
class Recipe:
    """All that makes two runs of one network on the same data the same run, but for the seed.

    The defaults are the paper's. What it leaves open is chosen so: plain momentum, weight decay on all
    parameters, warm-up steps counted as iterations.
    """

    name: str = "cifar"
    iterations: int = 64_000
    batch_size: int = 128
    learning_rate: float = 0.1
    drops: tuple[int, ...] = (32_000, 48_000)
    """Steps after which the learning rate is a tenth of what it was."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_rate: float | None = None
    """Learning rate until the training error falls below `warmup_error`; the paper has 0.01 for ResNet-110."""
    warmup_error: float = 80.0
    """Percent, over the last `warmup_window` steps."""
    warmup_window: int = 100
    padding: int = 4
    """Pixels of zeros on each side, of which a random crop of the original size is taken."""
    flip: bool = True
    validation: int = 0
    """Training images set apart; the paper has 5,000 of 50,000 to choose its schedule."""
    report_every: int = 1000
    """Steps between two points of the curves; Figure 6 has one per 1,000."""
    precision: Precision = "float32"
    """Of activations and multiplications (tfloat32: of multiplications alone, on NVIDIA's cards); weights, their
    updates and batch statistics are float32 in any case."""
    decayed: Decayed = "all"
    """Parameters with weight decay; `weights` leaves out biases and batch normalisation."""
    exact_statistics: bool = False
    """After training, batch normalisation's statistics are those of all training images, as on ImageNet."""

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "warmup_window", "report_every"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("padding", "validation", "weight_decay", "momentum"):
            _require(self, name, getattr(self, name) >= 0, "at least 0")
        _require(self, "learning_rate", self.learning_rate > 0, "more than 0")
        _require(self, "drops", list(self.drops) == sorted(self.drops), "in ascending order")

    def scaled(self, iterations: int) -> "Recipe":
        """The same proportions over another number of iterations; reports stay 10 steps apart at least."""
        if iterations == self.iterations:
            return self
        share = iterations / self.iterations
        return replace(
            self,
            iterations=iterations,
            drops=tuple(round(drop * share) for drop in self.drops),
            report_every=max(10, round(self.report_every * share)),
        )

    def for_epochs(self, epochs: int, images: int) -> "Recipe":
        """The same proportions over so many passes through the training images."""
        return self.scaled(max(1, round(epochs * images / self.batch_size)))


def _require(recipe: Recipe, name: str, holds: bool, rule: str) -> None:
    if not holds:
        raise ResnetlabError(f"recipe field {name} is {getattr(recipe, name)!r}; it must be {rule}")


CIFAR = Recipe()
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
    )
}
SHORT_EPOCHS = 60


def recipe(name: str, training_images: int, iterations: int | None = None) -> Recipe:
    """A recipe by name, in proportion over `iterations` if they are given.

    `short` is the paper's recipe in proportion, over 60 passes through the training images.

    Raises:
        ResnetlabError: an unknown name, with its near matches.
    """
    if name not in RECIPES:
        raise ResnetlabError(f"unknown recipe {name!r}: {near_matches(name, RECIPES)}")
    found = RECIPES[name]
    if iterations is not None:
        return found.scaled(iterations)
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
        if kind in (int, float):
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
