"""One file that holds all that is needed to use a network: weights, architecture, class names, preprocessing."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from resnetlab.data.class_names import check_names
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.models import tensorfile
from resnetlab.models.recognise import Weights, fit
from resnetlab.models.trust import Trust
from resnetlab.networks.architecture import Architecture, from_fields
from resnetlab.networks.resnet import ResNet, copy_weights

FORMAT = 1
HEADER = "resnetlab"
CLASSIFICATION = "classification"
"""The task of a file that names none."""
INSTEAD = {
    "detection": "; `resnetlab detect` and `resnetlab evaluate` take detectors, which have no export and no features",
    CLASSIFICATION: "; `resnetlab predict` takes it",
}
T = TypeVar("T")
MODEL_FILE = "model.safetensors"
"""The name of a model file in a run folder."""
MEAN, STD = "preprocessing.mean", "preprocessing.std"
KNOWN = "trust.known"


@dataclass(frozen=True, repr=False)
class Model:
    """A network with what it takes to use it: what is done to pixels before, and the classes' names in order.

    `provenance` says where the weights come from: data, recipe, seed, code and date, or the file they were read from.
    `trust` was fitted to validation images, if there were any.
    """

    network: ResNet
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    trust: Trust | None = None

    def __post_init__(self) -> None:
        row, channels = self.network.architecture, len(self.preprocessing.std)
        check_count(self.classes, row)
        known = None if self.trust is None else self.trust.known
        taken = self.network.fc.in_features
        if known is not None and known.shape[1] != taken:
            raise ResnetlabError(f"features of {known.shape[1]} numbers for a network whose last layer takes {taken}")
        if channels != row.in_channels:
            raise ResnetlabError(f"the preprocessing is for {channels} channels, the network for {row.in_channels}")
        if channels != self.fit.image_shape[0]:
            mode = "L" if channels == 1 else "RGB"
            raise ResnetlabError(
                f"the mean is for {channels} channels, and images are read as {self.fit.mode}: give `mode={mode!r}`"
            )

    def __repr__(self) -> str:
        return f"Model({self.architecture}, {len(self.classes)} classes, {self.origin})"

    def with_classes(self, classes: Sequence[str]) -> "Model":
        """The same for other classes, to be trained: a copy of the network with a new last layer, untrained.

        Raises:
            ResnetlabError: names of classes that cannot be.
        """
        names = tuple(map(str, classes))
        check_names(names, Path("classes"))
        network = ResNet(replace(self.architecture, num_classes=len(names)))
        copy_weights(self.network, network, last_layer=False)
        provenance = {"started_from": self.provenance}
        return Model(network.train(self.network.training), self.preprocessing, names, provenance)

    @property
    def temperature(self) -> float:
        """What logits are divided by before softmax."""
        return 1.0 if self.trust is None else self.trust.temperature

    @property
    def limit(self) -> float | None:
        """The distance beyond which an image is unlike the training images, if features of them are kept."""
        return None if self.trust is None or self.trust.known is None else self.trust.limit

    @property
    def calibrated(self) -> ResNet:
        """A copy of the network whose logits are divided by the temperature, in its last layer."""
        network = copy.deepcopy(self.network)
        if self.trust is not None:
            with torch.no_grad():
                for parameter in network.fc.parameters():
                    parameter.div_(self.trust.temperature)
        return network

    @property
    def origin(self) -> str:
        """Where the weights come from, in a few words."""
        return origin_of(self.provenance)

    @property
    def architecture(self) -> Architecture:
        """The network's row."""
        return self.network.architecture

    @property
    def fit(self) -> Fit:
        """How images are scaled and cropped."""
        return self.preprocessing.fit


def check_count(classes: Sequence[str], row: Architecture) -> None:
    """
    Raises:
        ResnetlabError: there is not one name for each output.
    """
    if len(classes) != row.num_classes:
        raise ResnetlabError(f"{len(classes)} names of classes for {row.num_classes} outputs; give one for each")


def origin_of(provenance: Mapping[str, Any]) -> str:
    """Where weights come from, in a few words."""
    if imported := provenance.get("imported"):
        return f"weights of {imported['file']}"
    if recipe := provenance.get("recipe"):
        which = "best on validation" if recipe.get("keep") == "best" else "last iteration"
        return f"trained by recipe {recipe['name']}, seed {provenance['seed']}, {which}"
    if started := provenance.get("started_from"):
        return f"trained further; {origin_of(started)} before"
    return "of unstated origin"


@dataclass(frozen=True)
class Stored:
    """What every model file holds, whatever its task. `options` are the task's, as JSON."""

    network: Architecture
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    provenance: dict[str, Any]
    tensors: dict[str, Tensor]
    task: str = CLASSIFICATION
    options: Mapping[str, Any] | None = None
    trust: Trust | None = None


def save(model: Model, path: Path | str) -> None:
    """Write the model as safetensors with JSON metadata, whole or not at all.

    Raises:
        ResnetlabError: a weight is not finite, or the network is no longer that of its architecture, e.g. because its
            last layer was replaced.
    """
    row, tensors = model.network.architecture, model.network.state_dict()
    try:
        fit(tensors, row)
    except ResnetlabError as error:
        hint = ". For other classes use Model.with_classes" if "shape" in str(error) else ""
        raise ResnetlabError(f"the network could not be read again: {error}{hint}") from None
    stored = Stored(row, model.preprocessing, model.classes, model.provenance, tensors, trust=model.trust)
    write(stored, Path(path))


def load(path: Path | str) -> Model:
    """The model in a file that `save` wrote, or of a run folder; the network is in evaluation mode, on the processor.

    Raises:
        ResnetlabError: the file is missing, cut short, damaged, not one of ours, or of another task.
    """

    def build(stored: Stored) -> Model:
        weights = Weights("torchvision", stored.network, fit(stored.tensors, stored.network))
        return Model(weights.network(), stored.preprocessing, stored.classes, stored.provenance, stored.trust)

    return read(Path(path), CLASSIFICATION, build)


def write(stored: Stored, path: Path) -> None:
    """Write a model file, whole or not at all."""
    metadata = {
        "format": FORMAT,
        "architecture": asdict(stored.network),
        "classes": stored.classes,
        "preprocessing": {**stored.preprocessing.fit.describe(), "mean": MEAN, "std": STD},
        "provenance": stored.provenance,
    }
    if stored.task != CLASSIFICATION:
        metadata |= {"task": stored.task, "options": stored.options}
    tensors = {**stored.tensors, MEAN: stored.preprocessing.mean, STD: stored.preprocessing.std}
    if stored.trust is not None:
        metadata |= {"trust": stored.trust.description}
        tensors |= {} if stored.trust.known is None else {KNOWN: stored.trust.known}
    tensorfile.write(path, HEADER, metadata, tensors)


def read(path: Path, task: str, build: Callable[[Stored], T]) -> T:
    """The model in a file or a run folder, made by `build` of what the file holds.

    Raises:
        ResnetlabError: the file is missing, cut short, damaged, not one of ours, or of another task.
    """
    file = model_file(path)
    try:
        metadata, tensors = tensorfile.read(file, HEADER)
    except (OSError, ValueError) as error:
        if is_ours(file):
            raise ResnetlabError(f"{file} is cut short or damaged ({error}); copy it, or make it again") from None
        raise ResnetlabError(
            f"{file} is no model file, or damaged ({error}); `resnetlab import {file}` makes one of other "
            "people's weights"
        ) from error
    try:
        if (found := metadata.get("format")) != FORMAT:
            raise ResnetlabError(
                f"{file} has format {found}; this resnetlab reads {FORMAT}: use the one that wrote it"
            )
        if (own := metadata.get("task", CLASSIFICATION)) != task:
            raise ResnetlabError(f"{file} is a model for {own}; expected one for {task}{INSTEAD.get(own, '')}")
        row = from_fields(metadata["architecture"])
        description = metadata["preprocessing"]
        for name in ("mean", "std"):
            if not isinstance(description[name], str) or description[name] not in tensors:
                raise ResnetlabError(f"{name} of the preprocessing names no tensor: {str(description[name])[:100]}")
        mean, std = (tensors.pop(description[name]) for name in ("mean", "std"))
        preprocessing = Preprocessing.checked(Fit.from_description(description), mean, std)
        classes, provenance = tuple(metadata["classes"]), metadata["provenance"]
        if not all(isinstance(name, str) for name in classes) or not isinstance(provenance, dict):
            raise ResnetlabError("its class names are not texts, or its provenance is not an object")
        check_names(classes, file)
        known = tensors.pop(KNOWN, None)
        trust = Trust.from_description(metadata["trust"], known) if "trust" in metadata else None
        return build(Stored(row, preprocessing, classes, provenance, tensors, own, metadata.get("options"), trust))
    except ResnetlabError as error:
        raise ResnetlabError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ResnetlabError(f"the metadata of {file} are damaged: {error!r}") from error


def task_of(path: Path) -> str:
    """The task of a model file or finished run; classification for all that is not our model file."""
    file = path / MODEL_FILE if path.is_dir() else path
    try:
        header = json.loads(tensorfile.metadata(file).get(HEADER, "{}"))
        return str(header.get("task", CLASSIFICATION))
    except (ValueError, AttributeError, RecursionError):
        return CLASSIFICATION


def is_ours(file: Path) -> bool:
    """Whether a file is one that `save` wrote."""
    return HEADER in tensorfile.metadata(file)


def model_file(path: Path) -> Path:
    """The model file itself, or the one in a run folder.

    Raises:
        ResnetlabError: nothing there, or a folder without one.
    """
    if not path.exists():
        raise ResnetlabError(f"{path} does not exist; expected a model file or a run folder")
    if not path.is_dir():
        return path
    if (path / MODEL_FILE).exists():
        return path / MODEL_FILE
    if (path / "config.json").exists():
        raise ResnetlabError(f"{path} has not finished training; give the command that started it again")
    if (path / "fold1").is_dir():
        raise ResnetlabError(f"{path} is a cross-validation; its networks are in {path / 'fold1'} and so on")
    raise ResnetlabError(f"{path} is neither a model file nor a run folder")
