"""Models as ONNX: from the pixels of an image to logits, with class names and preprocessing inside."""

import hashlib
import importlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from resnetlab.data.preprocessing import Fit
from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing
from resnetlab.models.modelfile import FORMAT, Model, origin_of
from resnetlab.models.trust import Calibrated
from resnetlab.networks.architecture import Architecture, from_fields
from resnetlab.networks.inference import fold_batch_norm
from resnetlab.networks.modes import modes_kept

INPUT, OUTPUT, DISTANCE = "pixels", "logits", "distance"
CHECKED_BATCHES = (1, 3)
TOLERANCE = 1e-3  # of the largest logit
CHECKSUM = "checksum"
"""The last entry of the metadata: SHA-256 of all bytes before it."""


@dataclass(frozen=True)
class OnnxModel:
    """What an ONNX file of ours says of itself. Images beyond the `limit` are unlike the training images; None: the
    file gives no distance.
    """

    path: Path
    fit: Fit
    classes: tuple[str, ...]
    architecture: Architecture
    precision: str
    limit: float | None
    provenance: dict[str, Any]

    @property
    def origin(self) -> str:
        """Where the weights come from, in a few words."""
        return origin_of(self.provenance)


class Deployed(nn.Module):
    """From 8-bit pixels to logits, calibrated, and to the distance from the training images if the model has it.

    Normalisation is inside, and batch normalisation is folded away.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = Calibrated(fold_batch_norm(model.network), model.trust)
        self.register_buffer("mean", model.preprocessing.mean)
        self.register_buffer("std", model.preprocessing.std)

    def forward(self, pixels: UInt8[Tensor, "n h w c"]) -> tuple[Tensor, ...]:
        """Logits (n, classes) of fitted images, RGB or grey, and the distance (n)."""
        pixels = pixels.permute(0, 3, 1, 2).contiguous()  # else the graph orders memory, which int8 does not survive
        images = (pixels.float() / 255 - self.mean) / self.std
        return tuple(found for found in self.network(images) if found is not None)


def export_onnx(model: Model, path: Path) -> float:
    """Write the model as ONNX with a batch of any size, checked against the network with ONNX Runtime.

    Input `pixels`: uint8, (batch, height, width, channels), as an image decoder gives them; outputs `logits`,
    calibrated, and, if the model keeps features, `distance` (batch), from its training images.
    Returns the largest difference between ONNX Runtime's logits and the network's.

    Raises:
        ResnetlabError: the `onnx` extra is not installed, or the logits differ.
    """
    _needed("onnx", "onnxscript", "onnxruntime")
    pixels = torch.randint(
        0, 256, (2, *model.preprocessing.fit.crop, len(model.preprocessing.std)), dtype=torch.uint8
    )
    batch = torch.export.Dim("batch")
    with quietly():
        program = torch.onnx.export(
            Deployed(model).eval(),
            (pixels,),
            input_names=[INPUT],
            output_names=[OUTPUT] if model.limit is None else [OUTPUT, DISTANCE],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101 -- for the type checker
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.functions):
        del part.metadata_props[:]  # where in the source each comes from, with the paths of this machine
    _set_metadata(proto, model, "float32")
    with replacing(path) as temporary:
        temporary.write_bytes(with_checksum(proto.SerializeToString()))
        (runtime,) = _needed("onnxruntime")
        session = runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        difference = largest_difference(model, lambda images: session.run([OUTPUT], {INPUT: images})[0])
        if difference > TOLERANCE:
            raise ResnetlabError(
                f"ONNX Runtime's logits differ from the network's by {difference:.1e} of the largest"
            )
    return difference


def quantize_onnx(source: Path, path: Path, batches: Iterable[UInt8[np.ndarray, "n h w c"]]) -> None:
    """Write the ONNX file with 8-bit weights and activations, whose ranges are those that the batches show.

    Weights by channel, activations by tensor, as ONNX Runtime's static quantisation does.
    """
    onnx, quantization, shapes = _needed(
        "onnx", "onnxruntime.quantization", "onnxruntime.quantization.shape_inference"
    )
    proto = onnx.load(source)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder, quietly():
        prepared = Path(folder) / "prepared.onnx"
        shapes.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            temporary,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        quantized = onnx.load(temporary)
        said = {entry.key: entry.value for entry in proto.metadata_props if entry.key != CHECKSUM}
        onnx.helper.set_model_props(quantized, said | {"precision": "int8"})
        temporary.write_bytes(with_checksum(quantized.SerializeToString()))


def read_onnx(path: Path) -> OnnxModel:
    """What an ONNX file that `export_onnx` or `quantize_onnx` wrote says of itself.

    Raises:
        ResnetlabError: the file is missing, damaged, changed after it was written, or not one of ours.
    """
    onnx, decode = _needed("onnx", "google.protobuf.message")
    if not path.is_file():
        raise ResnetlabError(f"{path} does not exist")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResnetlabError(f"{path} cannot be read: {error}") from None
    try:
        said = {entry.key: entry.value for entry in onnx.load_model_from_string(data).metadata_props}
    except decode.DecodeError as error:
        raise ResnetlabError(f"{path} is cut short, or no ONNX file: {error}") from error
    if CHECKSUM in said and data != with_checksum(data[: -len(with_checksum(b""))]):
        raise ResnetlabError(
            f"{path} was changed after it was exported: its checksum is another. Export it again; if a tool of yours "
            f"changed it, remove the entry {CHECKSUM} from its metadata"
        )
    try:
        header = json.loads(said["resnetlab"])
        return OnnxModel(
            path,
            Fit.from_description(header["preprocessing"]),
            tuple(header["classes"]),
            from_fields(header["architecture"]),
            said["precision"],
            header.get("limit"),
            dict(header["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ResnetlabError(
            f"{path} has no metadata of resnetlab; `resnetlab export` writes files that do"
        ) from error


def header_of(model: Model) -> dict[str, Any]:
    """What a deployed model says of itself, as JSON."""
    return {
        "format": FORMAT,
        "label": model.network.architecture.label,
        "architecture": asdict(model.network.architecture),
        "classes": model.classes,
        "preprocessing": model.preprocessing.fit.describe(),
        "provenance": model.provenance,
        "limit": model.limit,
    }


def _set_metadata(proto: Any, model: Model, precision: str) -> None:
    onnx = _needed("onnx")[0]
    fit = model.preprocessing.fit
    about = (
        f"{INPUT}: uint8 (batch, {fit.crop[0]}, {fit.crop[1]}, channels), {fit.mode}; the image is scaled until it "
        f"just covers {fit.resize[0]}x{fit.resize[1]} ({fit.interpolation}) and its centre cropped; "
        "normalisation is inside"
    )
    onnx.helper.set_model_props(
        proto, {"resnetlab": json.dumps(header_of(model)), "precision": precision, "input": about}
    )


def with_checksum(data: bytes) -> bytes:
    """The file with its checksum at the end."""
    (onnx,) = _needed("onnx")
    entry = onnx.StringStringEntryProto(key=CHECKSUM, value=hashlib.sha256(data).hexdigest())
    serialised: bytes = onnx.ModelProto(metadata_props=[entry]).SerializeToString()
    return data + serialised  # what follows a message of a protocol buffer is read as a part of it


def largest_difference(model: Model, run: Callable[[np.ndarray], np.ndarray]) -> float:
    """Between the logits of a deployed model and the network's, as a share of the largest, at several batch sizes."""
    worst = 0.0
    for batch in CHECKED_BATCHES:
        pixels = torch.randint(0, 256, (batch, *model.fit.crop, len(model.preprocessing.std)), dtype=torch.uint8)
        with torch.no_grad(), modes_kept(model.network):
            ours = model.network.eval()(model.preprocessing(pixels)) / model.temperature
        theirs = torch.from_numpy(run(pixels.numpy()))
        worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-6)))
    return worst


def _needed(*names: str) -> list[ModuleType]:
    """The modules of the extra.

    Raises:
        ResnetlabError: one is not installed; says how to.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ModuleNotFoundError as error:
        raise ResnetlabError(
            f"ONNX needs {error.name}: pip install 'resnetlab[onnx]', or uv run --extra onnx"
        ) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Without the exporters' remarks on themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
