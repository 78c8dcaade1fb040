"""Start training from given weights instead of random ones."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from resnetlab.data.preprocessing import Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.files import sha256
from resnetlab.models.importing import read_model, weights_file
from resnetlab.models.modelfile import CLASSIFICATION, Model, Stored, read, task_of
from resnetlab.models.tensors import read_tensors
from resnetlab.networks.architecture import Architecture, architecture
from resnetlab.networks.resnet import ResNet, copy_weights


@dataclass(frozen=True)
class Started:
    """The preprocessing of the starting weights, and what was taken from them, for the user."""

    preprocessing: Preprocessing
    message: str
    kept: bool = False
    """Whether the last layer is that of the weights."""


def start_from(source: Path, network: nn.Module, outputs: tuple[str, ...]) -> Started:
    """Copy the weights of a file or run into a network that maps an image to numbers.

    Raises:
        ResnetlabError: nothing to read there, or another architecture.
    """
    assert isinstance(network, ResNet)  # noqa: S101 -- for the type checker
    model = read_model(source)
    take_over(model, network, outputs, source)
    kept = model.classes == outputs
    last = "kept, because the class names match" if kept else "new, because the classes differ"
    return Started(model.preprocessing, f"starts from {source}; its last layer is {last}", kept)


def take_over(model: Model, network: ResNet, outputs: tuple[str, ...], source: Path) -> None:
    """Copy a model's weights into a network of the same architecture; the last layer only if the class names match.

    Raises:
        ResnetlabError: the model has another architecture.
    """
    refuse_another(model.network.architecture, network.architecture, source)
    copy_weights(model.network, network, last_layer=model.classes == outputs)


def refuse_another(found: Architecture, wanted: Architecture, source: Path) -> None:
    """Refuse weights of another architecture; the number of outputs may differ.

    Raises:
        ResnetlabError: names what differs.
    """
    theirs, own = asdict(found), asdict(wanted)
    differing = [
        f"{key} {value!r} there, {own[key]!r} here"
        for key, value in theirs.items()
        if key not in ("num_classes", "name") and value != own[key]
    ]
    if differing:
        raise ResnetlabError(f"{source} is {theirs['name']}, not {own['name']}: {', '.join(differing)}")


def architecture_of(source: Path) -> Architecture:
    """The network of a model file, a run, or other people's weights.

    Raises:
        ResnetlabError: nothing to read there.
    """
    if (task := task_of(source)) != CLASSIFICATION:
        return read(source, task, _network)
    try:
        return read_model(source).network.architecture
    except ResnetlabError:
        if (vgg := _vgg(source)) is None:
            raise
        return vgg


def _vgg(source: Path) -> Architecture | None:
    """VGG-16, if these are torchvision's weights of it."""
    try:
        weights = read_tensors(source)
    except ResnetlabError:
        return None
    if not {"features.0.weight", "classifier.0.weight"} <= weights.keys():
        return None
    return architecture("vgg16_bn" if "features.1.running_mean" in weights else "vgg16")


def _network(stored: Stored) -> Architecture:
    return stored.network


def fingerprint(path: Path) -> dict[str, Any]:
    """The name and the hash of the file that a run starts from.

    Raises:
        ResnetlabError: there is no such file, or it cannot be read.
    """
    path = weights_file(path)
    try:
        return {"file": path.name, "sha256": sha256(path)[:16]}
    except OSError as error:
        raise ResnetlabError(f"{path} cannot be read: {error}") from None
