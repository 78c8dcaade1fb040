"""One resolution of a recipe: the same whatever the order and the way of the options."""

import math
from dataclasses import asdict, replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.errors import ResnetlabError
from resnetlab.training.named_recipes import CIFAR, FINETUNE, IMAGENET, MODERN, MODERN_SHORT, RECIPES
from resnetlab.training.recipe import Recipe
from resnetlab.training.resolve import RecipeOptions, changed_fields, describe, resolve


def resolved(usual: str, images: int = 4000, *, started: bool = False, **options: object) -> Recipe:
    return resolve(RecipeOptions(**options), usual, images, started).recipe  # type: ignore[arg-type]


def test_validation_of_own_images() -> None:
    asked = lambda images, name, **options: (
        resolve(RecipeOptions(name=name, **options), "short", images, has_validation=False).recipe
    )
    assert asked(1000, "short").validation == 100
    assert asked(49, "short").validation == 0
    assert asked(10**6, "short").validation == 5000
    assert asked(1000, "short", validation=0.0).validation == 0
    assert asked(50_000, "cifar-45k").validation == 5000  # the recipe's own
    assert asked(1000, "short", epochs=18, batch_size=90).iterations == 180  # of the 900 that are trained on
    for value in (math.nan, math.inf, -1.0, 1.5):
        with pytest.raises(ResnetlabError, match="must be a number of images, or a share"):
            asked(1000, "short", validation=value)


def test_nothing_asked_for_is_the_named_recipe() -> None:
    assert resolved("cifar") == CIFAR
    assert resolved("cifar", name="digits") == RECIPES["digits"]
    assert resolved("short").iterations == 1875  # 60 passes
    assert resolved("finetune", IMAGENET) == FINETUNE
    assert resolved("finetune", 3200).iterations == 1000  # 20 passes
    assert resolved("finetune", 320).iterations == 300  # and not 100
    assert resolved("finetune", 320, epochs=20).iterations == 100
    assert resolved("finetune", 320, batch_size=128).iterations == 150
    assert resolved("modern-short", IMAGENET // 10).iterations == round(
        MODERN_SHORT.iterations * (IMAGENET // 10) / IMAGENET
    )
    with pytest.raises(ResnetlabError, match="did you mean cifar"):
        resolved("cifer")


def test_a_batch_size_takes_rate_and_steps_along() -> None:
    found = resolved("cifar", batch_size=64)
    assert (found.batch_size, found.learning_rate, found.iterations) == (64, 0.05, 128_000)
    assert found.drops == (64_000, 96_000)
    assert resolved("cifar-warmup", batch_size=64).warmup_rate == 0.005


def test_a_batch_size_holds_with_steps_by_a_field() -> None:
    """Once announced as 64 and trained with 128 at a rate of 0.1."""
    found = resolved("cifar", batch_size=64, fields=("iterations=1000",))
    assert (found.batch_size, found.learning_rate, found.iterations, found.drops) == (64, 0.05, 1000, (500, 750))
    assert found == resolved("cifar", batch_size=64, iterations=1000)


def test_epochs_are_passes_with_the_batch_size_of_a_field() -> None:
    """Once half of them."""
    found = resolved("cifar", 1280, epochs=10, fields=("batch_size=64",))
    assert (found.batch_size, found.iterations, found.learning_rate) == (64, 200, 0.1)


def test_an_image_size_holds_with_steps_by_a_field() -> None:
    """Once trained at 224."""
    found = resolved("modern-short", image_size=128, fields=("iterations=1000",))
    assert (found.crop_size, found.test_resize, found.iterations) == (128, 146, 1000)
    assert resolved("paper-imagenet", image_size=112).sides == (128, 240)
    assert resolved("cifar", image_size=16) == CIFAR  # images in memory are fitted when they are read


@pytest.mark.parametrize("images", [1, 15, 63])
def test_an_epoch_of_few_images_is_one_pass(images: int) -> None:
    """Once 4.3 of them, of 15 images in batches of 64."""
    found = resolved("modern-short", images, epochs=1)
    assert found.iterations * found.batch_size == images
    assert found.learning_rate == pytest.approx(MODERN_SHORT.learning_rate * images / 64)
    with pytest.raises(ResnetlabError, match=f"batches of 64 images are larger than the {images} training images"):
        resolved("modern-short", images, epochs=1, batch_size=64)


@given(st.integers(1, 50), st.integers(64, 100_000))
def test_epochs_are_passes(epochs: int, images: int) -> None:
    found = resolved("modern-short", images, epochs=epochs)
    assert abs(found.iterations * found.batch_size / images - epochs) <= found.batch_size / images / 2 + 1e-9


@given(st.integers(1, 200), st.integers(128, 100_000))
def test_tests_cost_less_than_training_however_short(epochs: int, images: int) -> None:
    found = resolved("short", images, epochs=epochs)
    assert found.report_every >= images // found.batch_size
    found = resolved("short", images, iterations=1 + images // 10)
    assert found.report_every >= min(images // found.batch_size, found.iterations // 10)


def test_steps_are_not_rounded_twice() -> None:
    assert resolved("short", 36, iterations=30) == RECIPES["short"].scaled(30)
    assert resolved("short", 36, fields=("iterations=30",)) == RECIPES["short"].scaled(30)


def test_fields_hold_whatever_else_scales() -> None:
    fields = ("drops=100,200", "learning_rate=0.3", "report_every=7", "warmup_rate=0.01")
    found = resolved("cifar", iterations=640, batch_size=64, fields=fields)
    assert (found.drops, found.learning_rate, found.report_every, found.warmup_rate) == ((100, 200), 0.3, 7, 0.01)
    assert (found.batch_size, found.iterations) == (64, 640)


FIELDS = ("iterations=640", "learning_rate=0.05", "flip=false", "warmup_rate=0.01", "batch_size=64")


def test_the_order_of_fields_is_of_no_matter() -> None:
    expected = replace(
        CIFAR, iterations=640, learning_rate=0.05, flip=False, warmup_rate=0.01, drops=(320, 480), batch_size=64,
        report_every=62,
    )  # fmt: skip
    assert {resolved("cifar", fields=order) for order in permutations(FIELDS)} == {expected}


@given(st.sampled_from([None, 32, 64, 256]), st.sampled_from([None, 100, 5000]), st.sampled_from([None, 2, 4]))
def test_an_option_and_its_field_are_one(
    batch_size: int | None, iterations: int | None, accumulate: int | None
) -> None:
    options = {"iterations": iterations, "accumulate": accumulate}
    fields = tuple(f"{name}={value}" for name, value in options.items() if value is not None)
    assert resolved("cifar", batch_size=batch_size, **options) == resolved(
        "cifar", batch_size=batch_size, fields=fields
    )


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"epochs": 1, "iterations": 5}, "both epochs and iterations"),
        ({"epochs": 1, "fields": ("iterations=5",)}, "both epochs and iterations"),
        ({"iterations": 6, "fields": ("iterations=5",)}, "iterations is given twice"),
        ({"batch_size": 6, "fields": ("batch_size=6",)}, "batch_size is given twice"),
        ({"accumulate": 2, "fields": ("accumulate=4",)}, "accumulate is given twice"),
        ({"freeze": "layer1", "fields": ("freeze=layer2",)}, "freeze is given twice"),
        ({"fields": ("flip=true", "flip=false")}, "flip is given twice"),
        ({"name": "modern-short", "image_size": 64, "fields": ("crop_size=96",)}, "image_size is given twice"),
        ({"fields": ("colour=0.1",)}, "colour takes no effect with crop padded"),
        ({"fields": ("crop_size=32",)}, "crop_size takes no effect with crop padded"),
        ({"name": "modern-short", "fields": ("padding=4",)}, "padding takes no effect with crop area"),
        ({"name": "modern-short", "fields": ("sides=256,300",)}, "sides takes no effect with crop area"),
        ({"name": "modern-short", "fields": ("drops=3",)}, "drops takes no effect with schedule cosine"),
        ({"fields": ("augment=trivial",)}, "augment is 'trivial'; it must be none for images in memory"),
        ({"name": "detection", "fields": ("mixup=0.2",)}, "mixup is 0.2; it must be 0 with crop=whole"),
        ({"name": "detection", "fields": ("erasing=0.2",)}, "erasing is 0.2; it must be 0 with crop=whole"),
        ({"name": "detection", "fields": ("repeats=2",)}, "repeats is 2; it must be 1 with crop=whole"),
        ({"name": "modern", "fields": ("ema=0.9",)}, "ema is 0.9; it must be 0 where ema_share is"),
        ({"name": "modern", "fields": ("normalise=mean-image",)}, "test_crop is 224; it must be 0 with normalise"),
        ({"name": "modern", "fields": ("test_crop=233",)}, "test_resize is 232; it must be at least test_crop, 233"),
        ({"fields": ("test_crop=32",)}, "test_crop is 32; it must be 0 with"),
        ({"name": "modern-short", "fields": ("repeats=3",)}, "repeats is 3; it must be a divisor of batch_size"),
        ({"name": "detection", "fields": ("repeats=1",)}, "repeats takes no effect with crop whole"),
        ({"fields": ("batch_size=1", "mixup=0.2")}, "mixup is 0.2; it must be 0 for a single image"),
        ({"fields": ("head_rate=10",)}, "head_rate takes no effect without weights to start from"),
        ({"fields": ("warmup_error=50",)}, "warmup_error takes no effect without warmup_rate"),
    ],
)
def test_what_contradicts_or_takes_no_effect_is_refused(options: dict[str, object], hint: str) -> None:
    with pytest.raises(ResnetlabError, match=hint):
        resolved("cifar", **options)


def test_normalisation_is_that_of_the_weights_to_start_from() -> None:
    with pytest.raises(ResnetlabError, match="the starting weights define the normalisation"):
        resolved("cifar", started=True, fields=("normalise=imagenet",))
    assert resolved("cifar", fields=("normalise=imagenet",)).normalise == "imagenet"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("learning_rate", "field=value"),
        ("learnig_rate=1", "did you mean learning_rate"),
        ("batch_size=ten", "a whole number"),
        ("batch_size=0", "at least 1"),
        ("batch_size=1000000000", "at most 1,048,576"),
        ("flip=maybe", "yes or no"),
        ("learning_rate=-1", "more than 0"),
        ("learning_rate=nan", "finite"),
        ("drops=3,1", "ascending"),
        ("mixup=-1", "at least 0"),
        ("cutmix=nan", "finite"),
        ("erasing=1.5", "from 0 to 1"),
        ("repeats=0", "at least 1"),
        ("augment=much", "none or trivial"),
        ("precision=float8", "float32 or tfloat32 or bfloat16"),
        ("name=x", "no field 'name'"),
        ("iterations=0", "at least 1"),
    ],
)
def test_fields_that_cannot_be(text: str, hint: str) -> None:
    with pytest.raises(ResnetlabError, match=hint):
        resolved("cifar", fields=(text,))


def test_the_modern_recipe_is_torchvisions() -> None:
    """Of the command in its repository, on 8 GPUs with 128 images each."""
    epoch = round(IMAGENET / 1024)
    expected = {
        "iterations": 600 * epoch,
        "batch_size": 8 * 128,
        "statistics_over": 128,
        "learning_rate": 0.5,
        "schedule": "cosine",
        "ramp_up": 5 * epoch,
        "momentum": 0.9,
        "weight_decay": 0.00002,
        "decayed": "not-norms",
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "cutmix": 1.0,
        "augment": "trivial",
        "erasing": 0.1,
        "repeats": 4,
        "crop": "area",
        "crop_size": 176,
        "test_resize": 232,
        "test_crop": 224,
    }
    assert asdict(MODERN) | expected == asdict(MODERN)
    alpha = (1 - 0.99998) * 8 * 128 * 32 / 600  # of its average, every 32 steps
    assert 1 - MODERN.ema_decay == pytest.approx(alpha / 32, rel=1e-3)


def test_averaging_is_over_the_same_share_whatever_the_length() -> None:
    """As in torchvision, where alpha is in proportion to the batch size and inverse to the epochs."""
    usual, small = (resolved("modern", IMAGENET, **options) for options in ({}, {"batch_size": 256, "epochs": 100}))
    ratio = (1 - small.ema_decay) / (1 - usual.ema_decay)
    assert ratio == pytest.approx((256 / 1024) / (100 / 600), rel=2e-3)


def test_batches_that_the_recipe_can_divide() -> None:
    found = [resolved("modern", images, epochs=1) for images in (900, 1000, 100)]
    assert [(each.batch_size, each.statistics_over) for each in found] == [(896, 128), (896, 128), (100, 100)]
    assert resolved("modern", batch_size=64).statistics_over == 64
    assert resolved("imagenet-8x32", batch_size=64).statistics_over == 32


def test_bfloat16_is_for_devices_that_are_fast_at_it() -> None:
    for name in ("modern", "modern-short", "finetune"):
        fast, slow = (resolve(RecipeOptions(name=name), "cifar", 4000, fast_bfloat16=fast) for fast in (True, False))
        assert (fast.recipe.precision, slow.recipe.precision) == ("bfloat16", "float32")
        assert (fast.notes, slow.recipe) == ((), replace(fast.recipe, precision="float32"))
        assert "float32 in place of bfloat16" in slow.notes[0]
        assert changed_fields(slow.recipe) == {}  # its folder has no other name
        given = resolve(RecipeOptions(name=name, fields=("precision=bfloat16",)), "cifar", 4000, fast_bfloat16=False)
        assert given == fast
    assert resolve(RecipeOptions(), "cifar", 4000, fast_bfloat16=False).recipe == CIFAR


def test_what_will_be_used_is_said() -> None:
    text = describe(resolved("modern-short", 1280, image_size=128, epochs=5), 1280)
    assert text == (
        "recipe modern-short: 100 steps of 64 images of 128x128 pixels (5.0 epochs), learning rate 0.03125, cosine "
        "to 0, bfloat16"
    )
    small = describe(resolved("digits"), 1297, (1, 8, 8))
    assert "1,000 steps of 128 images of 8x8 pixels (98.7 epochs), learning rate 0.05, a tenth after steps" in small
    assert "0.01 until the training error is below 80 %" in small
    notes = resolve(RecipeOptions(batch_size=64), "cifar", 4000).notes
    assert notes == ("batches of 64 images in place of 128: learning rate 0.05 in place of 0.1",)


NUMERIC = {
    name: value for name, value in vars(Recipe()).items() if type(value) in (int, float) or name == "warmup_rate"
}
IMPOSSIBLE = [
    (name, value)
    for name, usual in NUMERIC.items()
    for value in ((-1, 10**23) if type(usual) is int else (math.nan, math.inf, -math.inf, -1.0))
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_no_number_is_impossible(name: str, value: float) -> None:
    """Not a number, infinite, below 0 or absurdly large: each field refuses them by its name."""
    with pytest.raises(ResnetlabError, match=f"recipe field {name} is "):
        replace(Recipe(), **{name: value})
