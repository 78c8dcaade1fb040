"""How a network is trained: all that makes two runs the same run. Its defaults are the paper's (Section 4.2)."""

from dataclasses import dataclass, replace
from typing import Literal

from resnetlab.errors import ResnetlabError

Precision = Literal["float32", "tfloat32", "bfloat16"]
Decayed = Literal["all", "weights"]
Crop = Literal["padded", "shorter-side", "area"]
Normalise = Literal["mean-image", "imagenet"]
Schedule = Literal["drops", "cosine"]
Balance = Literal["none", "loss", "sampling"]
Keep = Literal["last", "best"]


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
    crop: Crop = "padded"
    """Of the padded image; or, of image files, which are read as they are needed: of the image scaled until its
    shorter side is anything in `sides` (Section 3.4), or of a random share of its area."""
    crop_size: int = 224
    """Pixels of the square that a network sees of an image file."""
    test_resize: int = 256
    """Pixels that the shorter side of an image file is scaled to for testing; the centre square is seen."""
    sides: tuple[int, ...] = (256, 480)
    """The least and the greatest shorter side."""
    least_area: float = 0.08
    """The least share of an image that a crop of random area takes."""
    colour: float = 0.0
    """Standard deviation of AlexNet's colour noise; 0.1 there."""
    normalise: Normalise = "mean-image"
    """Less the mean image of the training set; or less the mean of each channel of ImageNet, over its standard
    deviation."""
    schedule: Schedule = "drops"
    """Of the learning rate: a tenth after each of `drops`, or half a cosine down to 0."""
    ramp_up: int = 0
    """Steps over which the learning rate rises evenly from 0."""
    label_smoothing: float = 0.0
    ema: float = 0.0
    """Weights are averaged over the steps, with this decay once there were enough of them; the average is tested and
    kept. 0 averages nothing."""
    balance: Balance = "none"
    """For classes of different sizes: weights in the loss, or drawing each class equally often."""
    accumulate: int = 1
    """Parts of a batch that are run one after the other, their gradients added; batch statistics are of the parts."""
    statistics_over: int = 0
    """Images that batch statistics are of, whatever the number of processes: each process runs its share of the batch
    in parts of so many. The authors had 32, on 8 GPUs. 0 leaves it at the share, or its `accumulate` parts."""
    synchronised: bool = False
    """Whether batch statistics are those of all processes; if not, of each process's part of the batch."""
    freeze: str = "none"
    """Up to this part of the network, e.g. layer2, weights and batch statistics stay as they were."""
    patience: int = 0
    """Reports without a better validation error after which training ends; 0 trains to the end."""
    keep: Keep = "last"
    """The network of the last iteration, or of the report with the best validation error."""

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "warmup_window", "report_every", "crop_size", "accumulate"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "padding",
            "validation",
            "weight_decay",
            "momentum",
            "colour",
            "ramp_up",
            "patience",
            "statistics_over",
        ):
            _require(self, name, getattr(self, name) >= 0, "at least 0")
        for name in ("label_smoothing", "ema"):
            _require(self, name, 0 <= getattr(self, name) < 1, "at least 0 and less than 1")
        _require(self, "least_area", 0 < self.least_area <= 1, "more than 0 and at most 1")
        _require(self, "test_resize", self.test_resize >= self.crop_size, f"at least crop_size, {self.crop_size}")
        _require(
            self, "sides", len(self.sides) == 2 and 1 <= self.sides[0] <= self.sides[1], "two numbers, lower first"
        )
        if self.crop == "shorter-side":
            _require(self, "sides", self.sides[0] >= self.crop_size, f"at least crop_size, {self.crop_size}")
        _require(self, "accumulate", self.batch_size % self.accumulate == 0, "a divisor of batch_size")
        over = self.statistics_over
        _require(self, "statistics_over", not over or self.batch_size % over == 0, "a divisor of batch_size")
        _require(self, "statistics_over", not over or self.accumulate == 1, "0 where accumulate is more than 1")
        _require(
            self, "keep", self.keep == "last" or not self.exact_statistics, "last where exact_statistics is true"
        )
        _require(self, "learning_rate", self.learning_rate > 0, "more than 0")
        _require(self, "drops", list(self.drops) == sorted(self.drops), "in ascending order")

    def parts(self, processes: int) -> int:
        """In how many parts each of so many processes runs its share of a batch, one after the other.

        Raises:
            ResnetlabError: the batch cannot be shared so.
        """
        parts = self.batch_size // self.statistics_over if self.statistics_over else processes * self.accumulate
        if parts % processes or self.batch_size % parts:
            by = f"{processes} processes" + (f" with {self.accumulate} parts each" if self.accumulate > 1 else "")
            by = f"{processes} processes in parts of {self.statistics_over}" if self.statistics_over else by
            raise ResnetlabError(f"a batch of {self.batch_size} images cannot be shared evenly by {by}")
        return parts // processes

    def reports_at(self, step: int) -> bool:
        """Whether a point of the curves is due: every so many steps and at the end, no short piece before it."""
        at_the_end = step == self.iterations
        return at_the_end or (step % self.report_every == 0 and 2 * (self.iterations - step) >= self.report_every)

    def scaled(self, iterations: int) -> "Recipe":
        """The same proportions over another number of iterations; reports stay 10 steps apart at least."""
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

    def for_epochs(self, epochs: int, images: int) -> "Recipe":
        """The same proportions over so many passes through the training images, with a report after each at most."""
        found = self.scaled(max(1, round(epochs * images / self.batch_size)))
        return replace(found, report_every=max(found.report_every, round(images / self.batch_size)))

    def for_iterations(self, iterations: int, images: int) -> "Recipe":
        """The same proportions over so many steps, with ten reports, or one a pass through the images, at most."""
        found = self.scaled(iterations)
        apart = min(round(images / self.batch_size), iterations // 10)
        return replace(found, report_every=max(found.report_every, apart))

    def with_batch_size(self, batch_size: int) -> "Recipe":
        """As many images in batches of another size, the learning rate in proportion (Goyal et al., 2017)."""
        share = batch_size / self.batch_size
        scaled = self.scaled(max(1, round(self.iterations / share)))
        warmup_rate = None if self.warmup_rate is None else self.warmup_rate * share
        rate = self.learning_rate * share
        return replace(scaled, batch_size=batch_size, learning_rate=rate, warmup_rate=warmup_rate)

    def for_crop_size(self, crop_size: int) -> "Recipe":
        """The same for squares of another size: all sizes in proportion."""
        share = crop_size / self.crop_size
        low, high = self.sides
        return replace(
            self,
            crop_size=crop_size,
            test_resize=round(self.test_resize * share),
            sides=(round(low * share), round(high * share)),
        )


def _require(recipe: Recipe, name: str, holds: bool, rule: str) -> None:
    if not holds:
        raise ResnetlabError(f"recipe field {name} is {getattr(recipe, name)!r}; it must be {rule}")
