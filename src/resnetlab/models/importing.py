"""Other people's weights as models: recognised, converted, verified, with the preprocessing and classes they need."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from resnetlab.choices import Interpolation, Shortcut, Version, ZeroChannels
from resnetlab.data.class_names import numbered, usual_classes
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.files import sha256
from resnetlab.models.caffe import read_caffe, read_mean_image
from resnetlab.models.modelfile import Model, check_count, is_ours, load
from resnetlab.models.published import located, of_digest
from resnetlab.models.recognise import Kind, NotStatedError, Weights, recognise
from resnetlab.models.sidecars import Channels, Sidecar, read_sidecar
from resnetlab.models.tensors import read_tensors
from resnetlab.networks.architecture import Architecture
from resnetlab.version import installed

CIFAR_USUAL: dict[Kind, tuple[Channels, Channels]] = {
    "akamaster": (IMAGENET_MEAN, IMAGENET_STD),
    "d-x-y": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
}
RESIZED_TO_232 = {"11ad3fa6", "cd907fc2", "f82ba261"}  # torchvision's IMAGENET1K_V2, by the start of their sha256
MEAN_IMAGE = "ResNet_mean.binaryproto"
SNAPSHOT = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Hints:
    """What is known about a file of weights beside what is in it; None leaves it to the file and its kind of source.

    `mean` is by channel on the scale of 0 to 1, or a file with a mean image of Caffe.
    """

    name: str | None = None
    shortcut: Shortcut | None = None
    version: Version | None = None
    zero_channels: ZeroChannels | None = None
    classes: tuple[str, ...] | None = None
    mean: Channels | Path | None = None
    std: Channels | None = None
    resize: int | None = None
    crop: int | None = None
    interpolation: Interpolation | None = None
    entry: str | None = None


@dataclass(frozen=True)
class Imported:
    """A model read from someone else's file; `notes` is what the file did not say and was taken from elsewhere."""

    model: Model
    kind: Kind
    notes: tuple[str, ...]


def read_model(path: os.PathLike[str] | str) -> Model:
    """The model in a model file or run folder of ours, or in other people's weights as `import_weights` reads them.

    Raises:
        ResnetlabError: nothing is there, or it is none of these, damaged, or does not say all that is needed; names
            the file and what to do.
    """
    path = located(path)
    if not path.exists():
        raise ResnetlabError(
            f"{path} does not exist; expected a model file, a run folder, a file of weights, or a name that "
            "`resnetlab weights` lists"
        )
    if path.suffix == ".onnx":
        raise ResnetlabError(f"{path} is an ONNX file, which is only run; give the model that it was exported from")
    if is_ours(path / "model.safetensors" if path.is_dir() else path) or _is_unfinished_run(path):
        return load(path)
    try:
        return import_weights(path).model
    except NotStatedError as error:
        raise ResnetlabError(f"{error}. `resnetlab import` takes it, and writes a model file that has it") from None


def import_weights(path: Path | str, hints: Hints | None = None) -> Imported:
    """The model in a file of weights of torchvision, timm, transformers, a CIFAR repository or the authors' release.

    `path` may also be a folder downloaded from a hub, with `config.json` beside the weights.

    Raises:
        ResnetlabError: the file cannot be read safely, is not recognised, does not fit, or leaves something open
            that must not be guessed; names the file, the key, and what to say.
    """
    hints = hints or Hints()
    file = weights_file(located(path))
    try:
        digest = sha256(file)
    except OSError as error:
        raise ResnetlabError(f"{file} cannot be read: {error}") from None
    said = read_sidecar(file.parent) if file.name in SNAPSHOT else Sidecar()  # elsewhere it may be another network's
    try:
        weights = read_caffe(file) if file.suffix == ".caffemodel" else _recognise(file, said, hints)
        preprocessing, notes = _preprocessing(weights, said, hints, file, digest)
        classes, named = _classes(weights.row, said, hints)
        check_count(classes, weights.row)
    except ResnetlabError as error:
        raise type(error)(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    notes = (*weights.reasons, *notes, *named)
    provenance = {
        "imported": {
            "file": file.name,
            "sha256": digest,
            "names": weights.kind,
            "beside": list(said.files),
            "taken": list(notes),
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "resnetlab": installed(),
        }
        | ({"published": known.about} if (known := of_digest(digest)) else {})
    }
    return Imported(Model(weights.network(), preprocessing, classes, provenance), weights.kind, notes)


def _recognise(file: Path, said: Sidecar, hints: Hints) -> Weights:
    return recognise(
        read_tensors(file, hints.entry),
        name=hints.name,
        shortcut=hints.shortcut,
        version=hints.version,
        zero_channels=hints.zero_channels,
        stated_version=said.version,
    )


def _preprocessing(
    weights: Weights, said: Sidecar, hints: Hints, file: Path, digest: str
) -> tuple[Preprocessing, tuple[str, ...]]:
    """What the user says, else what is said beside the file, else what the kind of source usually does."""
    notes = []
    fit, mean, std = said.fit, hints.mean or said.mean, hints.std or said.std
    if fit is None:
        if said.problem and not (hints.resize and hints.crop):
            raise NotStatedError(f"{said.problem}: say `resize` and `crop`")
        fit, note = _usual_fit(weights, digest)
        if not (hints.resize and hints.crop and hints.interpolation):
            notes.append(note)
    if hints.resize or hints.crop or hints.interpolation:
        crop = hints.crop or min(fit.crop[0], hints.resize or fit.crop[0])
        resize = hints.resize or max(fit.resize[0], crop)
        fit = Fit.square(resize, crop, hints.interpolation or fit.interpolation)
    channels = weights.row.in_channels
    if channels == 1:
        fit = replace(fit, mode="L")
    if mean is None:
        mean, std, note = _usual_mean(weights, file, std)
        notes.append(note)
    elif std is None and weights.kind != "caffe":
        raise ResnetlabError("`mean` without a standard deviation: say `std` too; 1 divides by nothing")
    std = std or (1.0,)
    _check("std", std, channels, at_least=1e-6)
    if not isinstance(mean, Path):
        _check("mean", mean, channels, at_least=0.0)
    image = _mean_image(mean, fit) if isinstance(mean, Path) else _by_channel(mean, channels)
    return Preprocessing(fit, image, _by_channel(std, channels)), tuple(notes)


def _usual_fit(weights: Weights, digest: str) -> tuple[Fit, str]:
    if weights.row.stem == "cifar":
        return Fit.square(32), "images: fitted to 32x32"
    resize = 232 if digest[:8] in RESIZED_TO_232 else 256
    interpolation: Interpolation = "bicubic" if weights.kind == "transformers" else "bilinear"
    who = {"transformers": "transformers", "caffe": "the authors' release"}.get(weights.kind, "torchvision")
    known = " (this file is known by its hash)" if resize == 232 else ""
    note = f"images: shorter side to {resize}, centre crop of 224, {interpolation}, as usual with {who}{known}"
    return Fit.square(resize, 224, interpolation), note


def _usual_mean(weights: Weights, file: Path, std: Channels | None) -> tuple[Channels | Path, Channels | None, str]:
    if weights.kind == "caffe":
        if not (file.parent / MEAN_IMAGE).exists():
            raise NotStatedError(
                f"the authors' networks need the mean image, {MEAN_IMAGE}, which comes with them: put it beside the "
                "weights, or say `mean` with its path, or with the mean of R, G and B from 0 to 1"
            )
        return file.parent / MEAN_IMAGE, std, f"mean: the image in {MEAN_IMAGE} beside it"
    if weights.row.stem == "imagenet" and weights.row.in_channels == 3:
        return IMAGENET_MEAN, std or IMAGENET_STD, "mean and std: ImageNet's, as usual with torchvision"
    if weights.kind in CIFAR_USUAL and weights.row.in_channels == 3:
        mean, usual = CIFAR_USUAL[weights.kind]
        return mean, std or usual, "mean and std: those of that repository"
    raise NotStatedError(
        "nothing says which mean and standard deviation its images were normalised with: "
        "say `mean` and `std`, one number for each channel, on the scale of 0 to 1"
    )


def _by_channel(values: Channels, channels: int) -> Float[Tensor, "c 1 1"]:
    return torch.tensor(values).expand(channels)[:, None, None].clone()


def _check(name: str, values: Channels, channels: int, at_least: float) -> None:
    if len(values) not in (1, channels):
        raise ResnetlabError(f"{name} {_spaced(values)}: expected {channels} numbers, one for each channel")
    if not all(at_least <= value <= 1 for value in values):
        raise ResnetlabError(f"{name} {_spaced(values)}: expected numbers for pixels from 0 to 1, not from 0 to 255")


def _spaced(values: Channels) -> str:
    return " ".join(f"{value:g}" for value in values)


def _mean_image(path: Path, fit: Fit) -> Float[Tensor, "c h w"]:
    image = read_mean_image(path)
    if image.shape[1:] != fit.crop and image.shape[1:] != (1, 1):
        raise ResnetlabError(
            f"{path} has {image.shape[2]}x{image.shape[1]} pixels, images {fit.crop[1]}x{fit.crop[0]}"
        )
    return image


def _classes(row: Architecture, said: Sidecar, hints: Hints) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if hints.classes or said.classes:
        return hints.classes or said.classes or (), ()
    classes = usual_classes(row.num_classes, row.image_size)
    if classes == numbered(row.num_classes):
        return classes, (f"classes: numbered, for nothing names the {len(classes)} of them; `classes` does",)
    source = {1000: "ImageNet", 10: "CIFAR-10", 100: "CIFAR-100"}[row.num_classes]
    return classes, (f"classes: {source}'s, because there are {len(classes)}; `classes` says others",)


def _is_unfinished_run(path: Path) -> bool:
    """Whether it is the folder of a run that has no model yet; a snapshot of a hub has `config.json` too."""
    return (path / "execution.json").exists() and not any((path / name).exists() for name in SNAPSHOT)


def weights_file(path: Path) -> Path:
    """The file of weights itself, or the one in a run folder or in a folder from a hub.

    Raises:
        ResnetlabError: there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise ResnetlabError(f"{path} does not exist; expected a file of weights")
        return path
    if found := next((path / name for name in SNAPSHOT if (path / name).exists()), None):
        return found
    raise ResnetlabError(
        f"{path} is neither a finished run nor a folder with {' or '.join(SNAPSHOT)}; name the file of weights"
    )
