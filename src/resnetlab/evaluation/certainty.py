"""How sure a number is: intervals of errors, and whether two models differ on the same images."""

from dataclasses import dataclass

import numpy as np

from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import Answers

LEVEL = 0.95
ENOUGH = 10_000  # images; the interval of more is narrower than a percent or so
NORMAL = 1.959964  # of the standard deviation, within which 95 % of a normal distribution is


@dataclass(frozen=True)
class Interval:
    """An interval in percent, or in percent points, that holds the true value with a probability of 95 %."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.1f} to {self.high:.1f} %"


def interval_of_error(errors: int, images: int) -> Interval:
    """The interval of an error by Wilson's score method (1927), which holds for few images and for no errors."""
    from scipy.stats import binomtest  # takes a second

    found = binomtest(errors, images).proportion_ci(LEVEL, "wilson")
    return Interval(100 * found.low, 100 * found.high)


def error_in_words(found: Answers, which: str = "") -> str:
    """An error with accuracy and counts, and of few images with its interval, e.g. for the `which` "test "."""
    images = len(found)
    counts = f"{found.errors:,} error{'s' * (found.errors != 1)} of {images:,} {which}image{'s' * (images != 1)}"
    if images < ENOUGH:
        counts += f"; 95 % interval {interval_of_error(found.errors, images)}, Wilson"
    return f"{which}error {found.error:.2f} %, accuracy {100 - found.error:.2f} % ({counts})"


@dataclass(frozen=True)
class Paired:
    """Two models on the same images: how many both, only the first, only the second, and neither take rightly."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: Answers, second: Answers) -> "Paired":
        """The counts of two models' answers for the same images, in the same order.

        Raises:
            ResnetlabError: the true classes differ.
        """
        labels = [[each.classes[label] for label in each.labels.tolist()] for each in (first, second)]
        if labels[0] != labels[1]:
            raise ResnetlabError("the true classes of the images differ between the two; test both on the same data")
        a, b = (each.ranked[:, 0] == each.labels for each in (first, second))
        return cls(*(int(np.sum(x)) for x in (a & b, a & ~b, ~a & b, ~a & ~b)))

    @property
    def images(self) -> int:
        """All images."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """The second's error less the first's, in percent points."""
        return 100 * (self.only_first - self.only_second) / self.images

    @property
    def interval(self) -> Interval:
        """Of the difference, by the normal distribution of paired counts (Wald)."""
        b, c, n = self.only_first, self.only_second, self.images
        deviation = 100 * max(b + c - (b - c) ** 2 / n, 0.0) ** 0.5 / n
        return Interval(self.difference - NORMAL * deviation, self.difference + NORMAL * deviation)

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test: how likely so uneven counts are if both models are equally good."""
        changed = self.only_first + self.only_second
        from scipy.stats import binomtest  # takes a second

        return float(binomtest(self.only_first, changed).pvalue) if changed else 1.0

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the difference is more than chance, at 5 %."""
        return self.p_value < 1 - LEVEL

    def in_words(self, first: str, second: str) -> str:
        """The verdict in a sentence."""
        if not self.only_first + self.only_second:
            return f"{first} and {second} are right and wrong on the same images."
        low, high = self.interval.low, self.interval.high
        numbers = (
            f"{self.difference:+.2f} percent points, 95 % interval {low:+.2f} to {high:+.2f}; "
            f"McNemar's exact test p = {self.p_value:.2g}"
        )
        if not self.is_beyond_chance:
            return f"{first} and {second} do not differ beyond chance: error of the second {numbers}."
        better, worse = (second, first) if self.difference < 0 else (first, second)
        return f"{better} is better than {worse} beyond chance: error of the second {numbers}."
