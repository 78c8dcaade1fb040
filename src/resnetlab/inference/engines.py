"""What runs a network fast: an engine turns 8-bit pixels into logits.

PyTorch with batch normalisation folded and channels last in memory; ONNX Runtime; OpenVINO.
"""

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from resnetlab.choices import EngineName, EnginePrecision
from resnetlab.data.preprocessing import Fit
from resnetlab.devices import has_fast_bfloat16
from resnetlab.errors import ResnetlabError, refuse_below_one, refuse_other_words
from resnetlab.models.importing import read_model
from resnetlab.models.modelfile import Model
from resnetlab.models.onnxfile import DISTANCE, INPUT, OUTPUT, export_onnx, read_onnx
from resnetlab.models.trust import Calibrated
from resnetlab.networks.inference import fold_batch_norm, fused

Run = Callable[[UInt8[np.ndarray, "n h w c"]], Float32[np.ndarray, "n outputs"]]


@dataclass(frozen=True)
class Engine:
    """A network ready to run: `run` takes fitted pixels, uint8 (n, h, w, c), and gives logits, calibrated.

    With a `limit`, the last column is the distance from the training images; those beyond it are unlike them.
    """

    run: Run
    fit: Fit
    classes: tuple[str, ...]
    about: str
    limit: float | None = None
    source: str = ""
    """The file of the model, if it is one, for errors."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", _finite(self.run, self.source or self.about))

    def __repr__(self) -> str:
        return f"Engine({self.about}, {len(self.classes)} classes)"


def open_engine(
    source: Model | os.PathLike[str] | str,
    name: EngineName | None = None,
    *,
    device: torch.device | str | None = None,
    precision: EnginePrecision = "auto",
    threads: int | None = None,
    features: bool = False,
) -> Engine:
    """An engine for a model, for what `read_model` reads, or for an ONNX file that `export_onnx` wrote.

    `name` is "torch" by default, or "onnxruntime" for an ONNX file. `threads` are by default those that torch is set
    to; with the engine torch they are set for the whole process. With `features`, `run` gives the input of the last
    layer in place of the logits; only torch can.

    Raises:
        ResnetlabError: the file cannot be read, or the engine is not installed or cannot do what is asked.
    """
    if name is not None and name not in get_args(EngineName):
        raise ResnetlabError(f"unknown engine {name!r}; there are {', '.join(get_args(EngineName))}")
    refuse_other_words("precision", precision, get_args(EnginePrecision))
    refuse_below_one(threads=threads)
    is_onnx = not isinstance(source, Model) and Path(source).suffix == ".onnx"
    if features and (name not in (None, "torch") or is_onnx):
        what = "this model" if isinstance(source, Model) else source
        raise ResnetlabError(f"{what}: features are for model files and the engine torch")
    device, threads = _device(device), threads or torch.get_num_threads()
    if is_onnx:
        assert not isinstance(source, Model)  # noqa: S101 -- for the type checker
        return _of_onnx_file(Path(source), name or "onnxruntime", device, precision, threads)
    model = source if isinstance(source, Model) else read_model(source)
    named = "" if isinstance(source, Model) else os.fspath(source)
    label, fit = model.network.architecture.label, model.preprocessing.fit
    if name in (None, "torch"):
        settled = settle(precision, device)
        torch.set_num_threads(threads)
        run = torch_engine(model, device, settled, features)
        limit = None if features else model.limit
        return Engine(run, fit, model.classes, f"{label}, torch, {settled}", limit, named)
    assert name is not None  # noqa: S101 -- for the type checker
    _runtime(name)  # miss it, and refuse the rest, before the export
    _check(name, device, precision)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        export_onnx(model, exported)
        run, used = _of_onnx(exported, name, precision, threads, _outputs(model.limit))
    return Engine(run, fit, model.classes, f"{label}, {name}, {used}", model.limit, named)


def _device(device: torch.device | str | None) -> torch.device:
    """
    Raises:
        ResnetlabError: no device of torch, or none that it sees here.
    """
    if isinstance(device, torch.device):
        return device
    try:
        found = torch.device(device or "cpu")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ResnetlabError(f"`device={device}`: torch has none here ({str(error).splitlines()[0]})") from None
    return found


def settle(precision: EnginePrecision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What "auto" is on this machine: bfloat16 where the processor or card has matrix units for it, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_fast_bfloat16(device) else "float32"


def torch_engine(
    model: Model, device: torch.device, precision: Literal["float32", "bfloat16"], features: bool = False
) -> Run:
    """The network in PyTorch, folded, on a processor fused, and channels last."""
    dtype = getattr(torch, precision)
    if device.type == "cpu" and dtype == torch.float32:
        network = fused(model.network)
    else:
        network = fold_batch_norm(model.network).to(device, dtype).to(memory_format=torch.channels_last)
    calibrated = Calibrated(network, model.trust).to(device)
    preprocessing = model.preprocessing.to(device)

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = preprocessing(torch.from_numpy(pixels).to(device, non_blocking=True))
            if features:
                return _on_cpu(calibrated.network(images.to(dtype)))
            logits, distance = calibrated(images.to(dtype))
            return _on_cpu(logits if distance is None else torch.cat([logits.float(), distance[:, None]], 1))

    return run


def _of_onnx_file(
    path: Path, name: EngineName, device: torch.device, precision: EnginePrecision, threads: int
) -> Engine:
    """An engine for an ONNX file of ours, which says itself what it is."""
    said = read_onnx(path)
    if name == "torch":
        raise ResnetlabError(f"{path} is an ONNX file; run it with `engine=onnxruntime` or openvino")
    if said.precision == "int8" and precision == "bfloat16":
        raise ResnetlabError(f"{path} is an int8 model; leave the precision out")
    _check(name, device, precision)
    run, used = _of_onnx(path, name, precision, threads, _outputs(said.limit))
    about = said.precision if said.precision != "float32" else used
    about = f"{said.architecture.label}, {name}, {about}"
    return Engine(run, said.fit, said.classes, about, said.limit, str(path))


def _check(name: EngineName, device: torch.device, precision: EnginePrecision) -> None:
    """
    Raises:
        ResnetlabError: what an engine for ONNX files cannot do.
    """
    if device.type != "cpu":
        raise ResnetlabError(f"`engine={name}` runs on the CPU only; leave the device out, or use `engine=torch`")
    if name == "onnxruntime" and precision == "bfloat16":
        raise ResnetlabError("`engine=onnxruntime` computes in float32; bfloat16 is for torch and openvino")


def _finite(run: Run, about: str) -> Run:
    """The same, for answers that are numbers.

    Raises:
        ResnetlabError: an answer is not.
    """

    def checked(pixels: np.ndarray) -> np.ndarray:
        answers = run(pixels)
        if not np.isfinite(answers).all():
            raise ResnetlabError(f"{about}: answers are not finite, so weights of the model are damaged or too large")
        return answers

    return checked


def _outputs(limit: float | None) -> list[str]:
    return [OUTPUT] if limit is None else [OUTPUT, DISTANCE]


def _on_cpu(outputs: torch.Tensor) -> Float32[np.ndarray, "n outputs"]:
    found: np.ndarray = outputs.float().cpu().numpy()
    return found


def _of_onnx(
    path: Path, name: EngineName, precision: EnginePrecision, threads: int, outputs: list[str]
) -> tuple[Run, str]:
    if name == "onnxruntime":
        return onnxruntime_engine(path, threads, outputs), "float32"
    used = settle(precision, torch.device("cpu"))
    return openvino_engine(path, threads, used, outputs), used


def onnxruntime_engine(path: Path, threads: int, outputs: list[str]) -> Run:
    """An ONNX file of ours in ONNX Runtime, on the processor."""
    onnxruntime = _runtime("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its errors are ours below
    with _of_file(path):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray) -> np.ndarray:
        with _of_file(path):
            return np.column_stack(session.run(outputs, {INPUT: pixels}))

    return run


def openvino_engine(path: Path, threads: int, precision: Literal["float32", "bfloat16"], outputs: list[str]) -> Run:
    """An ONNX file of ours in OpenVINO, on the processor."""
    openvino = _runtime("openvino")
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    with _of_file(path):
        compiled = core.compile_model(core.read_model(path), "CPU", settings)

    def run(pixels: np.ndarray) -> np.ndarray:
        with _of_file(path):
            found = compiled(pixels)
            return np.column_stack([found[name] for name in outputs]).astype(np.float32, copy=False)

    return run


@contextmanager
def _of_file(path: Path) -> Iterator[None]:
    """Turn what a runtime raises for an ONNX file, which can be any exception, into one error.

    Raises:
        ResnetlabError: names the file.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise ResnetlabError(f"{path} cannot be run; it may be damaged, or too large: {reason[0]}") from error


def _runtime(name: EngineName) -> ModuleType:
    """The library of an engine.

    Raises:
        ResnetlabError: it is not installed; says how to.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        extra = {"onnxruntime": "onnx"}.get(name, name)
        raise ResnetlabError(
            f"`engine={name}` needs {name}: pip install 'resnetlab[{extra}]', or uv run --extra {extra}"
        ) from None
