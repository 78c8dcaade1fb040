"""How a network is trained. The defaults are the paper's (Section 4.2)."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from resnetlab.errors import ResnetlabError

Precision = Literal["float32", "tfloat32", "bfloat16"]
Decayed = Literal["all", "weights", "not-norms"]
Crop = Literal["padded", "shorter-side", "area", "whole"]
Normalise = Literal["mean-image", "imagenet"]
Schedule = Literal["drops", "cosine"]
Balance = Literal["none", "loss", "sampling"]
Keep = Literal["last", "best"]
Norms = Literal["live", "fixed"]
Augment = Literal["none", "trivial"]


LARGEST_NUMBER = 10**12
LARGEST_BATCH = 1 << 20
LARGEST_SIDE = 16_384  # pixels of the network's input


@dataclass(frozen=True)
class Recipe:
    """All training options that change a run's numbers, except the seed.

    The defaults are the paper's. Where it says nothing, we use plain momentum and weight decay on all parameters, and
    count warm-up steps as iterations.
    """

    name: str = "cifar"
    iterations: int = 64_000
    batch_size: int = 128
    learning_rate: float = 0.1
    drops: tuple[int, ...] = (32_000, 48_000)
    """Steps after which the learning rate is divided by 10."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_rate: float | None = None
    """Learning rate until the training error falls below `warmup_error`; 0.01 for ResNet-110 in the paper."""
    warmup_error: float = 80.0
    """Percent, over the last `warmup_window` steps."""
    warmup_window: int = 100
    padding: int = 4
    """Zero pixels added on each side before a random crop of the original size."""
    flip: bool = True
    validation: int = 0
    """Training images held out for validation; the paper uses 5,000 of 50,000 to choose its schedule."""
    images: int = 0
    """Train on this many of the training images, always the same ones; 0: on all."""
    label_noise: float = 0.0
    """Share of the training images whose label is replaced by a random other class, always the same ones."""
    report_every: int = 1000
    """Steps between two points of the curves; 1,000 in Figure 6."""
    precision: Precision = "float32"
    """Of activations and multiplications (tfloat32: of multiplications alone, on NVIDIA GPUs). Weights, their updates
    and batch statistics are always float32."""
    decayed: Decayed = "all"
    """Parameters with weight decay; `weights` excludes biases and batch normalisation, `not-norms` the latter."""
    exact_statistics: bool = False
    """After training, compute batch-norm statistics over all training images, as the authors did on ImageNet."""
    crop: Crop = "padded"
    """padded: crop the padded image, in memory. For image files, read on demand: shorter-side scales the shorter side
    to a random length in `sides` and crops (Section 3.4); area crops a random share of the area; whole scales the
    shorter side to `crop_size` and crops nothing, for detection."""
    crop_size: int = 224
    """Side in pixels of the network's input from image files; the shorter side with `whole`."""
    longest: int = 1000
    """With `whole`, the longest side at most, in pixels; 1,000 in Faster R-CNN."""
    test_resize: int = 256
    """For tests, the shorter side of an image file is scaled to this many pixels before the centre crop."""
    test_crop: int = 0
    """Side in pixels of the network's input in tests and in use, if it is not that of training; 0: `crop_size`."""
    sides: tuple[int, ...] = (256, 480)
    """The smallest and the largest shorter side."""
    least_area: float = 0.08
    """The smallest share of the image's area that an `area` crop takes."""
    colour: float = 0.0
    """Standard deviation of AlexNet's colour noise; 0.1 in AlexNet."""
    augment: Augment = "none"
    """trivial: one random operation of random strength on each crop of an image file, torchvision's
    TrivialAugmentWide. Not for images in memory: its operations are Pillow's, one image at a time."""
    erasing: float = 0.0
    """Probability with which a training image loses a random rectangle, torchvision's RandomErasing."""
    mixup: float = 0.0
    """Mix each training image and its label with the image before it in the batch, in shares from Beta(mixup, mixup);
    0: no mixing. Training errors are those against the label with the larger share."""
    cutmix: float = 0.0
    """Likewise, but with a rectangle of the other image, whose area is the share. With `mixup` as well, each batch
    (with `statistics_over`, each chunk of that size) draws one of the two."""
    repeats: int = 1
    """Each image of a batch is in it this many times, differently augmented (repeated augmentation); an epoch is
    still as many images as there are, and so has each image once in `repeats` epochs."""
    normalise: Normalise = "mean-image"
    """Subtract the mean training image; or subtract ImageNet's mean and divide by its std, per channel."""
    schedule: Schedule = "drops"
    """Of the learning rate: divided by 10 after each of `drops`, or half a cosine down to 0."""
    ramp_up: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    label_smoothing: float = 0.0
    ema: float = 0.0
    """Decay of the exponential moving average of the weights (lower in the first steps); the average is tested and
    saved. 0: no averaging."""
    ema_share: float = 0.0
    """In place of `ema`: 1 / (1 - decay) as a share of the steps, for averages over the same part of any training."""
    balance: Balance = "none"
    """For classes of different sizes: weight the loss, or draw each class equally often."""
    accumulate: int = 1
    """Chunks of a batch that run one after the other with summed gradients; batch statistics are per chunk."""
    statistics_over: int = 0
    """Images per batch statistic, for any number of processes: each runs its share of the batch in chunks of this
    size. The authors had 32, on 8 GPUs. 0: the process's share, or its `accumulate` chunks."""
    synchronised: bool = False
    """Compute batch statistics over all processes instead of per process."""
    batch_norm: Norms = "live"
    """fixed: batch normalisation keeps the statistics, scale and offset of the starting weights, as in Appendix A."""
    freeze: str = "none"
    """Freeze weights and batch statistics up to this stage of the network, e.g. layer2."""
    head_rate: float = 1.0
    """Factor on the learning rate of the last layer, if training starts from weights and that layer is new."""
    patience: int = 0
    """End training after this many reports without a better validation error; 0: never."""
    keep: Keep = "last"
    """Keep the network of the last iteration, or of the report with the best validation error."""

    def __post_init__(self) -> None:
        self._check_numbers()
        for name in (
            "iterations",
            "batch_size",
            "warmup_window",
            "report_every",
            "crop_size",
            "accumulate",
            "repeats",
        ):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "padding",
            "validation",
            "images",
            "weight_decay",
            "momentum",
            "colour",
            "ramp_up",
            "patience",
            "statistics_over",
            "mixup",
            "cutmix",
            "test_crop",
        ):
            _require(self, name, getattr(self, name) >= 0, "at least 0")
        for name in ("label_smoothing", "label_noise", "ema", "ema_share"):
            _require(self, name, 0 <= getattr(self, name) < 1, "at least 0 and less than 1")
        _require(self, "ema", not self.ema or not self.ema_share, f"0 where ema_share is {self.ema_share:g}")
        statistics = "false where batch_norm is fixed, which keeps those of the starting weights"
        _require(self, "exact_statistics", not self.exact_statistics or self.batch_norm == "live", statistics)
        _require(self, "accumulate", self.batch_size % self.accumulate == 0, "a divisor of batch_size")
        over = self.statistics_over
        _require(self, "statistics_over", not over or self.batch_size % over == 0, "a divisor of batch_size")
        _require(self, "statistics_over", not over or self.accumulate == 1, "0 where accumulate is more than 1")
        _require(
            self, "keep", self.keep == "last" or not self.exact_statistics, "last where exact_statistics is true"
        )
        self._check_sizes()
        self._check_augmentation()
        _require(self, "head_rate", self.head_rate > 0, "more than 0")
        _require(self, "learning_rate", self.learning_rate > 0, "more than 0")
        _require(self, "drops", list(self.drops) == sorted(self.drops), "in ascending order")

    def _check_numbers(self) -> None:
        """Check that all numbers are finite, of a possible size, and that those which cannot be negative are not."""
        for name, value in vars(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float):
                    sane = math.isfinite(number) if isinstance(number, float) else abs(number) <= LARGEST_NUMBER
                    _require(self, name, sane, f"a finite number, a whole one of at most {LARGEST_NUMBER:,}")
        _require(self, "batch_size", self.batch_size <= LARGEST_BATCH, f"at most {LARGEST_BATCH:,}")
        _require(self, "momentum", 0 <= self.momentum < 1, "at least 0 and less than 1")
        _require(self, "warmup_rate", self.warmup_rate is None or self.warmup_rate > 0, "more than 0, or none")
        _require(self, "warmup_error", 0 <= self.warmup_error <= 100, "at least 0 and at most 100")
        _require(self, "drops", all(drop >= 0 for drop in self.drops), "steps")
        sizes = ("crop_size", "test_crop", "test_resize", "longest", "padding")
        for name in (*sizes, "sides"):
            value = getattr(self, name)
            fits = max(value if isinstance(value, tuple) else (value,), default=0) <= LARGEST_SIDE
            _require(self, name, fits, f"at most {LARGEST_SIDE:,} pixels")

    def _check_sizes(self) -> None:
        _require(self, "least_area", 0 < self.least_area <= 1, "more than 0 and at most 1")
        if self.crop != "whole":
            name = "test_crop" if self.test_crop else "crop_size"
            _require(self, "test_resize", self.test_resize >= self.tested_at, f"at least {name}, {self.tested_at}")
        per_channel = not self.test_crop or self.normalise == "imagenet"
        _require(self, "test_crop", per_channel, "0 with normalise=mean-image: the mean image has one size")
        _require(self, "test_crop", not self.test_crop or self.crop in ("area", "shorter-side"), "0 with this crop")
        known = self.crop != "whole" or self.normalise == "imagenet"
        _require(self, "normalise", known, "imagenet with crop=whole: images of many sizes have no mean image")
        _require(self, "longest", self.longest >= 1, "at least 1")
        _require(
            self, "sides", len(self.sides) == 2 and 1 <= self.sides[0] <= self.sides[1], "two numbers, lower first"
        )
        if self.crop == "shorter-side":
            _require(self, "sides", self.sides[0] >= self.crop_size, f"at least crop_size, {self.crop_size}")

    def _check_augmentation(self) -> None:
        _require(self, "erasing", 0 <= self.erasing <= 1, "from 0 to 1")
        of_files = self.augment == "none" or self.crop in ("area", "shorter-side")
        _require(
            self, "augment", of_files, "none for images in memory and for whole images: it is for crops of files"
        )
        _require(self, "repeats", self.batch_size % self.repeats == 0, "a divisor of batch_size")
        for name, off in (("erasing", 0), ("mixup", 0), ("cutmix", 0), ("repeats", 1)):
            crops = self.crop != "whole" or getattr(self, name) == off
            _require(self, name, crops, f"{off} with crop=whole: it is for images of one size")
        for name in ("mixup", "cutmix"):
            pairs = not getattr(self, name) or self.mixed_over > 1
            _require(self, name, pairs, "0 for a single image, which has no other to be mixed with")

    @property
    def tested_at(self) -> int:
        """Side in pixels of the network's input in tests, from image files."""
        return self.test_crop or self.crop_size

    @property
    def averages(self) -> bool:
        """Whether weights are averaged."""
        return bool(self.ema or self.ema_share)

    @property
    def ema_decay(self) -> float:
        """The decay per step of the averaged weights."""
        return max(0.0, 1 - 1 / (self.ema_share * self.iterations)) if self.ema_share else self.ema

    @property
    def mixed_over(self) -> int:
        """Consecutive images of a batch that are mixed with each other, for any number of processes."""
        return self.statistics_over or self.batch_size

    @property
    def resident(self) -> bool:
        """Whether images are in memory, all of one size; otherwise files are read, scaled and cropped."""
        return self.crop == "padded"

    def parts(self, processes: int) -> int:
        """The number of sequential chunks in which each process runs its share of a batch.

        Raises:
            ResnetlabError: the batch cannot be divided evenly.
        """
        parts = self.batch_size // self.statistics_over if self.statistics_over else processes * self.accumulate
        if parts % processes or self.batch_size % parts:
            by = f"{processes} processes" + (f" with {self.accumulate} chunks each" if self.accumulate > 1 else "")
            by = f"{processes} processes in chunks of {self.statistics_over}" if self.statistics_over else by
            raise ResnetlabError(f"a batch of {self.batch_size} images cannot be divided evenly by {by}")
        return parts // processes

    def reports_at(self, step: int) -> bool:
        """Whether a report is due: every `report_every` steps and at the end, with no short last interval."""
        at_the_end = step == self.iterations
        return at_the_end or (step % self.report_every == 0 and 2 * (self.iterations - step) >= self.report_every)

    def scaled(self, iterations: int) -> "Recipe":
        """Scale the schedule to another number of iterations; reports stay at least 10 steps apart."""
        if iterations == self.iterations:
            return self
        share = iterations / self.iterations
        return replace(
            self,
            iterations=iterations,
            drops=tuple(round(drop * share) for drop in self.drops),
            ramp_up=round(self.ramp_up * share),
            report_every=max(10, round(self.report_every * share)),
        )

    def for_crop_size(self, crop_size: int) -> "Recipe":
        """Scale all sizes in pixels in proportion to another crop size."""
        share = crop_size / self.crop_size
        low, high = self.sides
        return replace(
            self,
            crop_size=crop_size,
            test_resize=round(self.test_resize * share),
            test_crop=round(self.test_crop * share),
            longest=round(self.longest * share),
            sides=(round(low * share), round(high * share)),
        )


def _require(recipe: Recipe, name: str, holds: bool, rule: str) -> None:
    if not holds:
        raise ResnetlabError(f"recipe field {name} is {getattr(recipe, name)!r}; it must be {rule}")
