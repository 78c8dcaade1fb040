"""The specification of a run: Task x Architecture x Dataset x Recipe x seed."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from resnetlab.data.dataset import Dataset
from resnetlab.data.named import NAMED, DataSource
from resnetlab.errors import ResnetlabError
from resnetlab.models.starting import fingerprint
from resnetlab.networks.architecture import Architecture, architecture, check_image_size, parse
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.tasks.task import Task
from resnetlab.training.batches import image_shape
from resnetlab.training.recipe import Recipe
from resnetlab.training.resolve import changed_fields

DETECTION = "detection"
DEEP = 110  # layers; the paper uses warm-up from here on (Section 4.2)


@dataclass(frozen=True)
class RunSpec:
    """One run. The network gets the data's outputs and channels.

    `start` is a file of weights, or a run, to start from; the last layer is kept if the class names match.
    """

    architecture: Architecture
    data: DataSource
    recipe: Recipe
    seed: int = 0
    start: Path | None = None
    task: Task = field(default=CLASSIFICATION)

    def __post_init__(self) -> None:
        if not abs(self.seed) < 1 << 63:
            raise ResnetlabError(f"`seed={self.seed}`: it must be less than 2^63")

    def load(self) -> Dataset:
        """Load the data set, in memory or as files, as the recipe needs it.

        Raises:
            ResnetlabError: it cannot be read.
        """
        return self.data.load(self.recipe.resident)

    def chosen(self, dataset: Dataset) -> Dataset:
        """The data set with the validation images held out, and the training images and labels that the recipe uses.

        Raises:
            ResnetlabError: it has fewer images.
        """
        recipe = self.recipe
        return dataset.with_validation(recipe.validation).with_training(recipe.images, recipe.label_noise)

    def fitted_to(self, dataset: Dataset) -> Architecture:
        """The architecture with the data set's outputs and channels.

        Raises:
            ResnetlabError: the images are too small.
        """
        channels, height, width = image_shape(dataset, self.recipe)
        outputs = len(self.task.outputs(dataset))
        check_image_size(self.architecture, height, width)
        return replace(self.architecture, num_classes=outputs, in_channels=channels)

    def configuration(self, dataset: Dataset) -> dict[str, Any]:
        """The identity of this run, as JSON; `dataset` is its training data, without validation images."""
        found: dict[str, Any] = {
            "task": self.task.description,
            "data": {
                "name": dataset.name,
                "fingerprint": dataset.fingerprint(),
                "split": dataset.split_note,
                "classes": list(dataset.classes),
                **self.data.division,
            },
            "network": asdict(self.fitted_to(dataset)),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
        }
        if self.start is not None:
            found["start"] = fingerprint(self.start)
        return dict(json.loads(json.dumps(found)))

    @property
    def folder_name(self) -> str:
        """The folder's name, e.g. `digits-cifar_plain20-digits-1000-seed0`; with a hash of changed fields."""
        changed = sorted(changed_fields(self.recipe).items())
        fields = f"-{hashlib.sha256(repr(changed).encode()).hexdigest()[:6]}" if changed else ""
        size = f"-{self.data.image_size}px" if self.data.image_size and self.recipe.resident else ""
        task = "" if self.task.name == CLASSIFICATION.name else f"{self.task.folder_name}-"
        begun = f"-from-{self.start.stem}" if self.start else ""
        recipe = f"{self.recipe.name}{fields}-{self.recipe.iterations}"
        fold = "-fold{}of{}".format(*self.data.fold) if self.data.fold else ""
        return f"{task}{self.data.stem}{size}{fold}-{self.architecture}-{recipe}-seed{self.seed}{begun}"


def default_recipe(source: str, architecture: Architecture, started: bool = False, task: str = "") -> str:
    """The data set's default recipe; for ImageNet networks `modern-short` (from weights `finetune`); else `short`.

    For detection `detection`, from weights `detection-finetune`.
    """
    if named := NAMED.get(source):
        return named.deep_recipe if architecture.depth >= DEEP else named.recipe
    if task == DETECTION:
        return "detection-finetune" if started else "detection"
    if architecture.stem == "imagenet":
        return "finetune" if started else "modern-short"
    return "short"


def network_of(name: str | None, start: Architecture | None, **options: Any) -> Architecture:
    """The network by name and options, or the network of the starting weights.

    Raises:
        ResnetlabError: neither is given, or the name or an option contradicts the weights.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if name is None and start is None:
        raise ResnetlabError("give a network by name, e.g. resnet50, or weights to start from")
    if start is None:
        return parse(str(name), **given)
    if name is not None:
        wanted = parse(name)
        usual = architecture(wanted.name)
        said = {key: value for key, value in asdict(wanted).items() if value != getattr(usual, key)}
        given = {"name": wanted.name, **said, **given}
    found = asdict(start)
    for key, value in given.items():
        if found[key] != value:
            raise ResnetlabError(
                f"the weights to start from are of {start}, whose {key} is {found[key]}, not {value}"
            )
    return start
