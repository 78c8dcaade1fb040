"""What a network answers for each image, and what comes of it by class."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

TOP = 5


@dataclass(frozen=True)
class Answers:
    """The likeliest classes of each image, likeliest first, with their probabilities, and the true class."""

    labels: Int64[np.ndarray, "n"]
    ranked: Int64[np.ndarray, "n top"]
    probabilities: Float[np.ndarray, "n top"]
    classes: tuple[str, ...]

    @classmethod
    def of_logits(
        cls,
        logits: Float[Tensor, "n classes"],
        labels: Int64[Tensor, "n"],
        classes: tuple[str, ...],
        temperature: float = 1.0,
    ) -> "Answers":
        """What logits, or logarithms of scores, say; softmax makes probabilities of them over the temperature.

        Small probabilities underflow to equal zeros, which logits tell apart. An image with a logit that is not a
        number is an error, whichever class it is of.
        """
        is_wrong = logits.isnan().any(1, keepdim=True)
        last = labels[:, None] == torch.arange(len(classes))
        order = ranked(torch.where(is_wrong, -last.to(logits.dtype), logits), TOP)
        shares = (logits.double() / temperature).softmax(1).gather(1, order)
        return cls(labels.numpy(), order.numpy(), shares.numpy(), classes)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def errors(self) -> int:
        """Images whose likeliest class is not theirs."""
        return int((self.ranked[:, 0] != self.labels).sum())

    @property
    def top5_errors(self) -> int:
        """Images whose class is not among the five likeliest."""
        return int((self.ranked[:, :TOP] != self.labels[:, None]).all(1).sum())

    @property
    def error(self) -> float:
        """Top-1 error, percent."""
        return 100 * self.errors / len(self)

    @property
    def top5_error(self) -> float:
        """Top-5 error, percent."""
        return 100 * self.top5_errors / len(self)

    @property
    def at_chance(self) -> bool:
        """Whether a network that guesses would be right about as often."""
        chance = 1 / len(self.classes)
        deviation = (chance * (1 - chance) / len(self)) ** 0.5
        return len(self) >= 20 and 1 - self.error / 100 < chance + 2 * deviation

    @property
    def macro_f1(self) -> float:
        """The mean of F1 over the classes that have images or predictions; 0 to 1."""
        return float(np.mean([row.f1 for row in self.by_class() if row.f1 is not None]))

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes of the share of images that are right; 0 to 1."""
        return float(np.mean([row.recall for row in self.by_class() if row.recall is not None]))

    @property
    def auc(self) -> float | None:
        """Of two classes that both have images the area under the ROC curve, 0 to 1; otherwise None."""
        if len(self.classes) != 2 or len(np.unique(self.labels)) != 2:
            return None
        from sklearn.metrics import roc_auc_score  # takes a second

        second = np.where(self.ranked[:, 0] == 1, self.probabilities[:, 0], self.probabilities[:, 1])
        return float(roc_auc_score(self.labels, second)) if np.isfinite(second).all() else None

    def confusion(self) -> Int64[np.ndarray, "classes classes"]:
        """How many images of the row's class were taken for the column's."""
        count = len(self.classes)
        pairs = self.labels * count + self.ranked[:, 0]
        return np.bincount(pairs, minlength=count * count).reshape(count, count)

    def by_class(self) -> list["OfClass"]:
        """Precision, recall and F1 of each class."""
        matrix = self.confusion()
        rows = zip(self.classes, np.diag(matrix), matrix.sum(1), matrix.sum(0), strict=True)
        return [OfClass(name, int(right), int(images), int(predicted)) for name, right, images, predicted in rows]

    def confident_mistakes(self, count: int) -> list[int]:
        """The images that were taken for another class, the most confident first."""
        wrong = np.flatnonzero(self.ranked[:, 0] != self.labels)
        order = np.argsort(-self.probabilities[wrong, 0], kind="stable")
        return [int(k) for k in wrong[order][:count]]


def ranked(scores: Float[Tensor, "n classes"], top: int) -> Int64[Tensor, "n top"]:
    """The `top` classes of the highest scores, highest first; of equal scores the lowest class is first."""
    return scores.argsort(dim=1, descending=True, stable=True)[:, :top]


@dataclass(frozen=True)
class OfClass:
    """One class: images that are of it, that were taken for it, and both. Shares are None where there is nothing."""

    name: str
    right: int
    images: int
    predicted: int

    @property
    def precision(self) -> float | None:
        """Of the images that were taken for it, the share that is."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Of its images, the share that was found."""
        return self.right / self.images if self.images else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.images + self.predicted) if self.images + self.predicted else None
