"""A task: its network, batches, loss, metrics, test, and what is saved."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from resnetlab.data.dataset import Dataset
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.devices import widened, widest
from resnetlab.errors import ResnetlabError
from resnetlab.models.modelfile import Model, save
from resnetlab.models.starting import Started, start_from
from resnetlab.networks.architecture import Architecture
from resnetlab.networks.modes import modes_kept
from resnetlab.networks.resnet import ResNet, fresh
from resnetlab.training.batches import Batches, prepare
from resnetlab.training.distributed import summed
from resnetlab.training.loop import Inputs, Loss
from resnetlab.training.recipe import Recipe

Batch = tuple[Inputs, Inputs]
OWN_FIELDS = ("balance", "label_smoothing", "label_noise", "mixup", "cutmix", "head_rate")
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


LOSS = Metric("loss")


@dataclass(frozen=True)
class Tested:
    """Metrics by name, and the number of tested images."""

    metrics: dict[str, float]
    images: int


def mean_over_images(task: "Task", network: nn.Module, batches: Iterable[Batch]) -> Tested:
    """The means of the loss and of the metrics over the images of all processes: sums, divided once.

    Runs in evaluation mode and restores the mode of each module.
    """
    assert task.test_loss is not None  # noqa: S101 -- such tasks have one
    device = next(network.parameters()).device
    totals = torch.zeros(2 + len(task.metrics), dtype=widest(device), device=device)
    with modes_kept(network), torch.no_grad():
        network.eval()
        for images, targets in batches:
            outputs = network(images).float()
            loss = widened(task.test_loss(outputs, targets))[None]
            totals += torch.cat([loss, task.sums(outputs, targets)])  # synchronise once, at the end
    sums = summed(totals).tolist()
    return Tested(task.means(sums) if sums[-1] else {}, int(sums[-1]))


def example_images(row: Architecture, recipe: Recipe, count: int, size: int, device: torch.device) -> Batch:
    """Random images and labels, to measure time with."""
    images = torch.randn(count, row.in_channels, size, size, device=device).to(memory_format=torch.channels_last)
    return images, torch.zeros(count, dtype=torch.int64, device=device)


def mean_loss(losses: Tensor, targets: Inputs) -> Tensor:
    """The sum of the mean losses that a network itself computed."""
    return losses.sum()


def save_network(
    network: nn.Module, preprocessing: Preprocessing, outputs: tuple[str, ...], provenance: dict[str, Any], path: Path
) -> None:
    """Write the model file of a network that maps an image to numbers."""
    assert isinstance(network, ResNet)  # noqa: S101 -- for the type checker
    save(Model(network, preprocessing, outputs, provenance), path)


@dataclass(frozen=True)
class Task:
    """A task, as module-level functions, so that it can be pickled for other processes.

    `metrics` are tested. The first, the headline, is shown in progress, chooses the best network and decides early
    stopping. `tallied` are those of training; without them training tallies `metrics` too. `sums` returns the sum of
    each tallied metric over images, and the number of images last. `outputs` names the network's outputs. `loss` is
    the mean training loss, `test_loss` the summed one of `mean_over_images`. `fields` are the OWN_FIELDS that the
    task uses. `options` are the task's own, which are part of a run's identity. `reads` says which data it is for.
    """

    name: str
    metrics: tuple[Metric, ...]
    outputs: Callable[[Dataset], tuple[str, ...]]
    loss: Callable[[Recipe, Dataset, torch.device], Loss]
    sums: Callable[[Tensor, Inputs], Float64[Tensor, "sums"]]
    test_loss: Loss | None = None
    tallied: tuple[Metric, ...] = ()
    fields: tuple[str, ...] = ()
    options: Any = None
    takes_boxes: bool = False
    network: Callable[[Architecture, int], nn.Module] = fresh
    start_from: Callable[[Path, nn.Module, tuple[str, ...]], Started] = start_from
    prepare: Callable[..., Batches] = prepare
    tester: Callable[["Task", nn.Module, Iterable[Batch]], Tested] = mean_over_images
    example: Callable[[Architecture, Recipe, int, int, torch.device], Batch] = example_images
    about: str = ""
    """The task's choices in words, for the user before a training."""
    suffix: str = ""
    """What titles of networks say of the task's options."""
    save: Callable[[nn.Module, Preprocessing, tuple[str, ...], dict[str, Any], Path], None] = save_network
    complete: Callable[[Path, Batches, int, torch.device], Iterator[str]] | None = None
    """Adds to the model file what is measured after training, and yields messages. Gets the number of training images
    and the device."""

    @property
    def any_loss(self) -> Loss:
        """A loss of the task's kind, without a data set."""
        return mean_loss if self.test_loss is None else self.test_loss

    @property
    def headline(self) -> Metric:
        """The first metric of tests."""
        return self.metrics[0]

    @property
    def shown_in_training(self) -> Metric:
        """The metric of training that is shown beside the headline: the same, or else the loss."""
        return LOSS if self.tallied else self.headline

    @property
    def description(self) -> dict[str, Any]:
        """Name, metrics and options, as JSON for a run's configuration."""
        found: dict[str, Any] = {"name": self.name, "metrics": [asdict(metric) for metric in self.metrics]}
        found |= {"training": asdict(self.shown_in_training)} if self.tallied else {}
        return found | ({"options": asdict(self.options)} if self.options is not None else {})

    @property
    def folder_name(self) -> str:
        """The task in folder names, with a hash of its options: `detection-1a2b3c`."""
        if self.options is None:
            return self.name
        return f"{self.name}-{hashlib.sha256(repr(self.options).encode()).hexdigest()[:6]}"

    def check(self, recipe: Recipe, dataset: Dataset) -> None:
        """Check the recipe's fields and the data.

        Raises:
            ResnetlabError: the recipe sets a field that this task does not use, or the data is for another task.
        """
        if dataset.has_boxes != self.takes_boxes:
            found, needed = ("boxes", "one label per image") if dataset.has_boxes else ("no boxes", "boxes")
            other = (
                "`task=detection`"
                if dataset.has_boxes
                else "`task=classification`, or boxes as in Pascal VOC or COCO"
            )
            raise ResnetlabError(f"{dataset.name} has {found}, and the task {self.name} needs {needed}; use {other}")
        if (recipe.crop == "whole") != self.takes_boxes:
            raise ResnetlabError(
                f"recipe {recipe.name} has crop={recipe.crop}, which is not for {self.name}: detection is for whole "
                "images, crop=whole, and no other task is"
            )
        for name in OWN_FIELDS:
            if name not in self.fields and getattr(recipe, name) != getattr(Recipe(), name):
                raise ResnetlabError(f"the recipe's field {name} takes no effect with the task {self.name}")
        if recipe.warmup_rate is not None and (self.tallied or self.headline.best != "lowest"):
            raise ResnetlabError(
                "the recipe's warm-up ends when the training error is low, and the task "
                f"{self.name} has none; set warmup_rate=none"
            )

    def means(self, sums: Sequence[float]) -> dict[str, float]:
        """Metrics by name (`loss` last) from the sums of the loss and of the metrics, and the number of images."""
        loss, *values, images = sums
        metrics = self.tallied or self.metrics
        found = {metric.name: metric.scale * value / images for metric, value in zip(metrics, values, strict=True)}
        return found | {"loss": loss / images}

    def test(self, network: nn.Module, batches: Iterable[Batch]) -> Tested:
        """Metrics of a network on preprocessed images over all processes."""
        return self.tester(self, network, batches)
