"""Whether probabilities are right: of the images that a network is 80 % sure of, are 80 % right?"""

from dataclasses import dataclass

import numpy as np

from resnetlab.evaluation.answers import Answers

BINS = 15  # Guo et al. (2017)


@dataclass(frozen=True)
class Bin:
    """Images whose likeliest class has a probability in one range, from 0 to 1."""

    images: int
    confidence: float
    """The mean probability."""
    accuracy: float
    """The share that is right."""


def bins(found: Answers, count: int = BINS) -> list[Bin]:
    """The images by the probability of their likeliest class, in ranges of equal width; empty ones are left out."""
    confidence, right = found.probabilities[:, 0], found.ranked[:, 0] == found.labels
    number = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, count - 1)
    made = []
    for k in range(count):
        mine = number == k
        if mine.any():
            made.append(Bin(int(mine.sum()), float(confidence[mine].mean()), float(right[mine].mean())))
    return made


def expected_calibration_error(found: Answers, count: int = BINS) -> float:
    """The mean difference of confidence and accuracy over the images, in percent points (Guo et al., 2017)."""
    return 100 * sum(each.images * abs(each.confidence - each.accuracy) for each in bins(found, count)) / len(found)
