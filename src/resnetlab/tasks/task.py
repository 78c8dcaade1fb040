"""A task: its loss, its metrics with names and units, and the test on a split."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from resnetlab.data.dataset import Dataset
from resnetlab.errors import ResnetlabError
from resnetlab.networks.modes import modes_kept
from resnetlab.training.distributed import summed
from resnetlab.training.loop import Loss
from resnetlab.training.recipe import Recipe

Batch = tuple[Tensor, Tensor]
OWN_FIELDS = ("balance", "label_smoothing")
"""Recipe fields that only some tasks use."""


@dataclass(frozen=True)
class Metric:
    """A number for comparing networks: `scale` times the mean over images."""

    name: str
    unit: str = ""
    scale: float = 1.0
    best: str = "lowest"
    """Or `highest`."""

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is better than `b`."""
        return a < b if self.best == "lowest" else a > b


@dataclass(frozen=True)
class Task:
    """A task, as module-level functions, so that it can be pickled for other processes.

    `metrics` are tallied and tested. The first, the headline, is shown in progress, chooses the best network and
    decides early stopping. `sums` returns the sum of each metric over images, and the number of images last.
    `outputs` names the network's outputs. `loss` is the mean training loss, `test_loss` the summed one in tests.
    `fields` are the OWN_FIELDS that the task uses.
    """

    name: str
    metrics: tuple[Metric, ...]
    outputs: Callable[[Dataset], tuple[str, ...]]
    loss: Callable[[Recipe, Dataset, torch.device], Loss]
    test_loss: Loss
    sums: Callable[[Tensor, Tensor], Float64[Tensor, "sums"]]
    fields: tuple[str, ...] = ()

    @property
    def headline(self) -> Metric:
        """The first metric."""
        return self.metrics[0]

    def check(self, recipe: Recipe) -> None:
        """Check the recipe's fields.

        Raises:
            ResnetlabError: the recipe sets a field that this task does not use.
        """
        for name in OWN_FIELDS:
            if name not in self.fields and getattr(recipe, name) != getattr(Recipe(), name):
                raise ResnetlabError(f"the recipe's field {name} takes no effect with the task {self.name}")
        if recipe.warmup_rate is not None and self.headline.best != "lowest":
            raise ResnetlabError(
                f"the recipe's warm-up ends when the {self.headline.name} is low, and the task {self.name} wants it "
                "high; set warmup_rate=none"
            )

    def means(self, sums: Sequence[float]) -> dict[str, float]:
        """Metrics by name (`loss` last) from the sums of the loss and of the metrics, and the number of images."""
        loss, *values, images = sums
        found = {
            metric.name: metric.scale * value / images for metric, value in zip(self.metrics, values, strict=True)
        }
        return found | {"loss": loss / images}

    def test(self, network: nn.Module, batches: Iterable[Batch]) -> "Tested":
        """Metrics of a network on preprocessed images over all processes: sums, divided once.

        Runs in evaluation mode and restores the mode of each module.
        """
        device = next(network.parameters()).device
        totals = torch.zeros(2 + len(self.metrics), dtype=torch.float64, device=device)
        with modes_kept(network), torch.no_grad():
            network.eval()
            for images, targets in batches:
                outputs = network(images).float()
                loss = self.test_loss(outputs, targets).double()[None]
                totals += torch.cat([loss, self.sums(outputs, targets)])  # synchronise once, at the end
        sums = summed(totals).tolist()
        return Tested(self.means(sums) if sums[-1] else {}, int(sums[-1]))


@dataclass(frozen=True)
class Tested:
    """Metrics by name, and the number of tested images."""

    metrics: dict[str, float]
    images: int
