"""What training starts from: other weights, in place of random ones."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnetlab.errors import ResnetlabError
from resnetlab.models import Model
from resnetlab.networks.resnet import ResNet


def take_over(model: Model, network: ResNet, classes: tuple[str, ...], source: Path) -> None:
    """The weights of a model, its head too if it is for the same classes."""
    row, theirs = network.architecture, model.network.architecture
    differing = [
        f"{key} {value!r} there, {asdict(row)[key]!r} here"
        for key, value in asdict(theirs).items()
        if key not in ("num_classes", "name") and value != asdict(row)[key]
    ]
    if differing:
        raise ResnetlabError(f"{source} is {theirs.name}, not {row.name}: {', '.join(differing)}")
    weights = model.network.state_dict()
    if model.classes != classes:
        own = network.state_dict()
        weights |= {key: own[key] for key in own if key.startswith("fc.")}
    network.load_state_dict(weights)


def fingerprint(path: Path) -> dict[str, Any]:
    """What a run starts from: the file's name, and a hash of it."""
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise ResnetlabError(f"--from {path}: there is no such file of weights, and no finished run")
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}
