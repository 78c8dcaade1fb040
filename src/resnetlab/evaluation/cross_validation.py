"""The outcome of cross-validation: every image is tested once, by the network that was not trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import torch

from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.certainty import error_in_words
from resnetlab.evaluation.scores import Scored


@dataclass(frozen=True)
class CrossValidated:
    """What the networks of the folds say of their test images."""

    folds: tuple[Scored, ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """The top-1 error of each fold, percent."""
        return tuple(scored.answers().error for scored in self.folds)

    @property
    def pooled(self) -> Scored:
        """All images in one, with what their folds' networks say of them."""
        first = self.folds[0]
        names = tuple(name for scored in self.folds for name in scored.names)
        if len(set(names)) < len(names):  # arrays, whose images are numbered in each split
            names = tuple(f"fold {k}, {name}" for k, scored in enumerate(self.folds, 1) for name in scored.names)
        logits = torch.cat([scored.logits / scored.temperature for scored in self.folds])
        labels = torch.cat([scored.labels for scored in self.folds])
        folds = f"{len(self.folds)}-fold cross-validation"
        about = {key: first.about[key] for key in ("network", "data")}
        about |= {"protocol": f"{folds}, {first.about['protocol']}"}
        return Scored(logits, labels, names, first.classes, about)

    def in_words(self) -> str:
        """The mean and spread over the folds, and the error of all images with its interval."""
        errors = ", ".join(f"{error:.2f}" for error in self.errors)
        return (
            f"{len(self.folds)} folds: mean error {mean(self.errors):.2f} %, standard deviation "
            f"{stdev(self.errors):.2f} ({errors}); all images together: {error_in_words(self.pooled.answers())}"
        )


def cross_validated(folds: Sequence[Scored]) -> CrossValidated:
    """Check that the folds belong together.

    Raises:
        ResnetlabError: their classes differ.
    """
    if len({scored.classes for scored in folds}) > 1:
        raise ResnetlabError("these are not the folds of one data set: their classes differ")
    return CrossValidated(tuple(folds))
