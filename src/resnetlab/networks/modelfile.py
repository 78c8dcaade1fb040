"""One file that holds all that is needed to use a network: weights, architecture, class names, preprocessing."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing
from resnetlab.networks.resnet import Architecture, ResNet

MEAN = "preprocessing.mean"


@dataclass(frozen=True)
class Model:
    """A network with what it takes to use it: `mean` is subtracted from pixels of 0 to 1, RGB or grey."""

    network: ResNet
    mean: Float[Tensor, "c h w"]
    classes: tuple[str, ...]
    provenance: dict[str, Any]


def save_model(path: Path, model: Model) -> None:
    """Write the model as safetensors with JSON metadata, whole or not at all."""
    metadata = {
        "architecture": asdict(model.network.architecture),
        "classes": model.classes,
        "preprocessing": {"range": [0, 1], "mean": MEAN, "image_size": list(model.mean.shape[1:])},
        "provenance": model.provenance,
    }
    tensors = {key: value.cpu().contiguous() for key, value in model.network.state_dict().items()}
    with replacing(path) as temporary:
        everything = {**tensors, MEAN: model.mean.cpu().contiguous()}
        temporary.write_bytes(save(everything, {"resnetlab": json.dumps(metadata)}))


def load_model(path: Path) -> Model:
    """Read what `save_model` wrote; the network is in evaluation mode.

    Raises:
        ResnetlabError: the file is missing, cut short, or not one of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get("resnetlab")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- not a dict
    except (OSError, SafetensorError) as error:
        raise ResnetlabError(f"{path} cannot be read as a model file: {error}") from error
    if header is None:
        raise ResnetlabError(
            f"{path} is a safetensors file without resnetlab's metadata; it was not saved by resnetlab"
        )
    metadata = json.loads(header)
    row = metadata["architecture"]
    with torch.device("meta"):
        network = ResNet(Architecture(**{**row, "blocks": tuple(row["blocks"])}))
    mean = tensors.pop(MEAN)
    network.load_state_dict(tensors, assign=True)
    return Model(network.eval(), mean, tuple(metadata["classes"]), metadata["provenance"])
