"""Counts over a test set, divided once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Counts:
    """Errors among so many images, and their summed cross-entropy."""

    errors: int
    images: int
    loss_sum: float

    @property
    def error(self) -> float:
        """Top-1 error, percent."""
        return 100 * self.errors / self.images

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return self.loss_sum / self.images


def count(logits_of: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]) -> Counts:
    """Errors of whatever turns images into logits, over batches of any sizes."""
    totals = torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for images, labels in batches:
            logits = logits_of(images).float()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            errors = (logits.argmax(1) != labels).sum()
            totals += torch.stack([errors.double(), loss.double(), loss.new_tensor(len(labels)).double()]).cpu()
    errors_, loss_sum, images_ = totals.tolist()
    return Counts(int(errors_), int(images_), loss_sum)
