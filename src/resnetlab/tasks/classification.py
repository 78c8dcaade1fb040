"""Image classification, the paper's task (Sections 4.1 and 4.2)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from resnetlab.data.dataset import Dataset
from resnetlab.devices import widened, widest
from resnetlab.evaluation.metrics import errors
from resnetlab.tasks.fitting_trust import add_trust
from resnetlab.tasks.task import Metric, Task
from resnetlab.training.recipe import Recipe


def _outputs(dataset: Dataset) -> tuple[str, ...]:
    return dataset.classes


Targets = Int64[Tensor, "n"] | Float[Tensor, "n classes"]
"""Labels, or of mixed images the share of each class."""


def _loss(recipe: Recipe, dataset: Dataset, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy with the recipe's label smoothing and class weights."""
    if recipe.balance != "loss":
        return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    weights = class_weights(dataset.train.labels, len(dataset.classes)).to(device)

    def loss(logits: Float[Tensor, "n classes"], targets: Targets) -> Float[Tensor, ""]:
        # Divide by images, not by the sum of weights: then a batch in chunks has the gradient of the whole batch
        smoothing = recipe.label_smoothing
        return F.cross_entropy(logits, targets, weights, label_smoothing=smoothing, reduction="none").mean()

    return loss


def class_weights(labels: Int64[Tensor, "n"], classes: int) -> Float[Tensor, "classes"]:
    """Loss weights that balance classes of different sizes; 1 on average over the images."""
    counts = torch.bincount(labels, minlength=classes)
    return (len(labels) / (classes * counts.clamp(min=1).double())).float()


def _test_loss(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> Float[Tensor, ""]:
    return F.cross_entropy(logits, labels, reduction="sum")


def _sums(logits: Float[Tensor, "n classes"], targets: Targets) -> Float64[Tensor, "2"]:
    """Errors and images; mixed images are right if they are taken for the class with the largest share."""
    labels = targets.argmax(1) if targets.ndim == 2 else targets
    images = torch.full((), len(labels), dtype=widest(logits.device), device=logits.device)
    return torch.stack([widened(errors(logits, labels)), images])


CLASSIFICATION = Task(
    name="classification",
    metrics=(Metric("error", "%", 100.0),),
    outputs=_outputs,
    loss=_loss,
    test_loss=_test_loss,
    sums=_sums,
    fields=("balance", "label_smoothing", "label_noise", "mixup", "cutmix", "head_rate"),
    complete=add_trust,
)
