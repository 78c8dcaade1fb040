"""Counts over a test set, divided once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from resnetlab.training.distributed import summed


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


def count(
    logits_of: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device = torch.device("cpu"),  # noqa: B008 -- never changed
) -> Counts:
    """Errors of whatever turns images into logits, over batches of any sizes, in all processes together."""
    totals = torch.zeros(3, dtype=torch.float64, device=device)
    with torch.no_grad():
        for images, labels in batches:
            logits = logits_of(images).float()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            errors = (logits.argmax(1) != labels).sum()
            images_ = torch.full((), len(labels), dtype=torch.float64, device=loss.device)
            totals += torch.stack([errors.double(), loss.double(), images_])  # read once, at the end
    errors_, loss_sum, count_ = summed(totals).tolist()
    return Counts(int(errors_), int(count_), loss_sum)
