"""What lies beside other people's weights and says how to use them: timm's and transformers' `config.json`."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnetlab.choices import Interpolation, Version
from resnetlab.data.preprocessing import Fit
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_object

PILLOW: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
Channels = tuple[float, ...]


@dataclass(frozen=True)
class Sidecar:
    """What is said beside the weights; None where nothing is said."""

    files: tuple[str, ...] = ()
    version: Version | None = None
    classes: tuple[str, ...] | None = None
    fit: Fit | None = None
    mean: Channels | None = None
    std: Channels | None = None
    problem: str | None = None


def read_sidecar(folder: Path) -> Sidecar:
    """What `config.json` and `preprocessor_config.json` in the folder of the weights say.

    Raises:
        ResnetlabError: a damaged file. Preprocessing that is not a resize and a crop is the result's `problem`.
    """
    config = _json(folder / "config.json")
    try:
        if isinstance(config.get("pretrained_cfg"), dict):
            return _timm(config)
        if config.get("model_type") == "resnet":
            return _transformers(config, _json(folder / "preprocessor_config.json"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise ResnetlabError(
            f"{folder}/config.json or preprocessor_config.json is not as expected: {error!r}"
        ) from error
    return Sidecar()


def _timm(config: dict[str, Any]) -> Sidecar:
    about = config["pretrained_cfg"]
    side = about["input_size"][1]
    fit = Fit.square(math.floor(side / about["crop_pct"]), side, about["interpolation"])
    centred = about.get("crop_mode", "center") == "center"
    labels = config.get("label_names") or about.get("label_names")
    return Sidecar(
        files=("config.json",),
        version="v1.5",
        classes=tuple(str(name) for name in labels) if labels else None,
        fit=fit if centred else None,
        mean=_channels(about["mean"]),
        std=_channels(about["std"]),
        problem=None if centred else f"its config.json has crop_mode {about['crop_mode']}, which is not known here",
    )


def _transformers(config: dict[str, Any], images: dict[str, Any]) -> Sidecar:
    labels = {int(k): str(name) for k, name in config.get("id2label", {}).items()}
    named = not all(name == f"LABEL_{k}" for k, name in labels.items())
    said = Sidecar(
        files=("config.json",),
        version="v1" if config.get("downsample_in_bottleneck", False) else "v1.5",
        classes=tuple(labels[k] for k in range(len(labels))) if labels and named else None,
    )
    if not images:
        return said
    size = images.get("size", {"shortest_edge": 224})
    side = size if isinstance(size, int) else size.get("shortest_edge")
    said = replace(said, files=("config.json", "preprocessor_config.json"))
    said = replace(said, mean=_channels(images["image_mean"]), std=_channels(images["image_std"]))
    if side is None or "crop_pct" not in images or side >= 384:  # transformers then stretches images to a square
        return replace(said, problem="its preprocessor_config.json does not resize and crop")
    return replace(said, fit=Fit.square(int(side / images["crop_pct"]), side, PILLOW[images.get("resample", 3)]))


def _channels(values: Any) -> Channels:
    """
    Raises:
        ValueError: these are no finite numbers.
    """
    found = tuple(float(value) for value in values)
    if not found or not all(map(math.isfinite, found)):
        raise ValueError(f"{values} are no numbers for channels")
    return found


def _json(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}
