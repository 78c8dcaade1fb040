"""Start training from given weights instead of random ones."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnetlab.errors import ResnetlabError
from resnetlab.files import sha256
from resnetlab.models.importing import weights_file
from resnetlab.models.modelfile import Model
from resnetlab.networks.resnet import ResNet


def take_over(model: Model, network: ResNet, outputs: tuple[str, ...], source: Path) -> None:
    """Copy a model's weights into a network of the same architecture; the last layer only if the class names match.

    Raises:
        ResnetlabError: the model has another architecture.
    """
    own, theirs = asdict(network.architecture), asdict(model.network.architecture)
    differing = [
        f"{key} {value!r} there, {own[key]!r} here"
        for key, value in theirs.items()
        if key not in ("num_classes", "name") and value != own[key]
    ]
    if differing:
        raise ResnetlabError(f"{source} is {theirs['name']}, not {own['name']}: {', '.join(differing)}")
    weights = model.network.state_dict()
    if model.classes != outputs:
        initial = network.state_dict()
        weights |= {key: initial[key] for key in initial if key.startswith("fc.")}
    network.load_state_dict(weights)


def fingerprint(path: Path) -> dict[str, Any]:
    """The name and the hash of the file that a run starts from.

    Raises:
        ResnetlabError: there is no such file.
    """
    path = weights_file(path)
    return {"file": path.name, "sha256": sha256(path)[:16]}
