"""Recipes by name: the paper's for small images (Section 4.2) and ImageNet (Section 3.4), and others."""

from collections.abc import Callable
from dataclasses import replace

from resnetlab.training.recipe import Recipe

IMAGENET = 1_281_167  # training images

CIFAR = Recipe()
CIFAR_SHORT = replace(CIFAR.scaled(CIFAR.iterations // 10), name="cifar-short", report_every=320)
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
EPOCH = round(IMAGENET / 1024)  # steps
MODERN = replace(
    CIFAR,
    name="modern",
    iterations=600 * EPOCH,
    batch_size=1024,
    statistics_over=128,
    learning_rate=0.5,
    drops=(),
    weight_decay=2e-5,
    decayed="not-norms",
    precision="bfloat16",
    crop="area",
    crop_size=176,
    test_resize=232,
    test_crop=224,
    augment="trivial",
    erasing=0.1,
    mixup=0.2,
    cutmix=1.0,
    repeats=4,
    normalise="imagenet",
    schedule="cosine",
    ramp_up=5 * EPOCH,
    label_smoothing=0.1,
    ema_share=1 / (2e-5 * IMAGENET),
    report_every=EPOCH,
)
"""torchvision's on 8 GPUs, of its weights ResNet50_Weights.IMAGENET1K_V2. It averages the weights every 32 steps with
a decay of 1 - 2e-5 * 1024 * 32 / 600, which is over 1 / (2e-5 * IMAGENET) of the steps, whatever their number."""
SHORT_EPOCH = round(IMAGENET / 64)  # steps
MODERN_SHORT = replace(
    CIFAR,
    name="modern-short",
    precision="bfloat16",
    iterations=100 * SHORT_EPOCH,
    batch_size=64,
    learning_rate=0.03125,
    drops=(),
    weight_decay=2e-5,
    decayed="weights",
    crop="area",
    normalise="imagenet",
    schedule="cosine",
    ramp_up=5 * SHORT_EPOCH,
    label_smoothing=0.1,
    ema=0.9999,
    report_every=SHORT_EPOCH,
)
FINETUNE = replace(
    MODERN_SHORT.scaled(20 * SHORT_EPOCH),
    name="finetune",
    learning_rate=0.03,
    weight_decay=1e-4,
    least_area=0.25,
    ramp_up=SHORT_EPOCH,
    report_every=SHORT_EPOCH,
)
DETECTION_VOC = replace(
    CIFAR,
    name="detection-voc",
    iterations=80_000,
    batch_size=2,
    learning_rate=0.001,
    drops=(60_000,),
    weight_decay=5e-4,
    crop="whole",
    crop_size=600,
    normalise="imagenet",
    batch_norm="fixed",
    report_every=5000,
)
"""Of Faster R-CNN, which Appendix A follows on VOC; its two networks are trained together, not in four steps."""
DETECTION_COCO = replace(
    DETECTION_VOC,
    name="detection-coco",
    iterations=320_000,
    batch_size=8,
    drops=(240_000,),
    weight_decay=1e-4,
    report_every=20_000,
)
"""Of Appendix A, one image per GPU on 8 GPUs; likewise together."""
DETECTION_FINETUNE = replace(
    DETECTION_VOC,
    name="detection-finetune",
    iterations=5000,
    learning_rate=0.002,
    drops=(),
    schedule="cosine",
    weight_decay=1e-4,
    ramp_up=200,
    report_every=2500,
)
DETECTION = replace(
    DETECTION_FINETUNE,
    name="detection",
    learning_rate=0.02,
    batch_norm="live",
    exact_statistics=True,
)
"""From nothing, on some hundred to some thousand images."""
RECIPES = {
    recipe.name: recipe
    for recipe in (
        CIFAR,
        replace(CIFAR, name="cifar-warmup", warmup_rate=0.01),
        CIFAR_SHORT,
        replace(CIFAR_SHORT, name="cifar-short-warmup", warmup_rate=0.01),
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
        MODERN_SHORT,
        FINETUNE,
        DETECTION_VOC,
        DETECTION_COCO,
        DETECTION_FINETUNE,
        DETECTION,
        replace(
            DETECTION.scaled(1200),
            name="digit-scenes",
            learning_rate=0.05,
            ramp_up=100,
            crop_size=160,
            longest=192,
            batch_size=4,
            flip=False,
            report_every=200,
        ),
    )
}
SHORT_EPOCHS = 60
DETECTION_EPOCHS = 24
FEWEST_STEPS = 300
"""Of `finetune`, whose passes over few images would be too few steps."""
Length = Callable[[Recipe, int], int]
"""Base recipe and number of training images to steps, for recipes whose length depends on the data."""


def _as_many_passes_as_imagenet(base: Recipe, images: int) -> int:
    return max(1, round(base.iterations * images / IMAGENET))


def _enough_steps(base: Recipe, images: int) -> int:
    return max(FEWEST_STEPS, _as_many_passes_as_imagenet(base, images))


def _passes(base: Recipe, images: int) -> int:
    return max(1, round(SHORT_EPOCHS * images / base.batch_size))


def _some_passes(base: Recipe, images: int) -> int:
    return max(1, round(DETECTION_EPOCHS * images / base.batch_size))


VALIDATION_SHARES = dict.fromkeys(("finetune", "modern-short", "short"), 0.1)
"""Of the training images of one's own, held out where there are no validation images: for the temperature and the
limit of distance in the model file."""
MOST_VALIDATION = 5000  # images
LENGTHS: dict[str, Length] = {
    "short": _passes,
    **dict.fromkeys(("detection", "detection-finetune"), _some_passes),
    **dict.fromkeys(("paper-imagenet", "imagenet-8x32", "modern", "modern-short"), _as_many_passes_as_imagenet),
    "finetune": _enough_steps,
}
