"""Other people's files of tensors, opened without running what is in them."""

import argparse
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular
from resnetlab.models import tensorfile

ENTRIES = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
DAMAGED = (  # what a damaged file can make of its reader
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
    AssertionError,
    struct.error,
)


def read_tensors(path: Path, entry: str | None = None) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` file or a PyTorch checkpoint, which is never allowed to run code.

    `entry` says which, where a checkpoint holds several, e.g. `model_ema`.

    Raises:
        ResnetlabError: the file is missing, damaged, would run code, or holds no state dict, or several.
    """
    if not path.is_file():
        raise ResnetlabError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; expected a file of weights"
        )
    if path.stat().st_size == 0:
        raise ResnetlabError(f"{path} is empty")
    try:
        start = read_regular(path, 0, 10)
    except OSError as error:
        raise ResnetlabError(f"{path} cannot be read: {error}") from None
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return _safetensors(path)
    if not start.startswith((b"PK", b"\x80")):  # archives and pickles
        raise ResnetlabError(f"{path} is no file of weights; expected PyTorch's, .safetensors or .caffemodel")
    return _state_dict(_unpickled(path), path, entry)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load(read_regular(path, most=tensorfile.MOST))
    except (SafetensorError, *DAMAGED) as error:
        raise ResnetlabError(f"{path} is cut short or damaged: {error}") from error
    if "resnetlab" in tensorfile.metadata(path):
        raise ResnetlabError(f"{path} is a model file of resnetlab already; use it as it is")
    return _checked(tensors, path)


def _unpickled(path: Path) -> object:
    harmless = torch.serialization.safe_globals([argparse.Namespace])  # in torchvision's checkpoints; holds no code
    try:
        with warnings.catch_warnings(action="ignore"), harmless:
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)|class (\S+)|[Ff]unction (\S+)|callable (\S+)", str(error)):
            culprit = next(group for group in named.groups() if group).rstrip(".,:")
            raise ResnetlabError(
                f"{path} is refused: opening it would run code ({culprit}), which weights do not need. If you trust "
                "where it comes from, open it there and save its state_dict() alone"
            ) from None
        if "TorchScript" in str(error):
            raise ResnetlabError(f"{path} is a TorchScript program, not weights; save its state_dict()") from None
        raise ResnetlabError(
            f"{path} is refused: it is cut short or damaged, or a pickle that asks for more than weights need"
        ) from error
    except DAMAGED as error:
        raise ResnetlabError(f"{path} is cut short, damaged, or no file of weights") from error


def _state_dict(content: object, path: Path, entry: str | None) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ResnetlabError(f"{path} holds a {type(content).__name__}; expected a state dict, by name")
    wrapped = [key for key in ENTRIES if isinstance(content.get(key), Mapping)]
    if entry is not None:
        if not isinstance(content.get(entry), Mapping):
            raise ResnetlabError(f"{path} has no entry {entry!r}; it has {', '.join(str(key) for key in content)}")
        content = content[entry]
    elif len(wrapped) > 1:
        raise ResnetlabError(f"{path} holds several networks: say which with `entry`, {' or '.join(wrapped)}")
    elif wrapped:
        content = content[wrapped[0]]
    assert isinstance(content, Mapping)  # noqa: S101 -- for the type checker
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        odd = next((str(key) for key, value in content.items() if not isinstance(value, Tensor)), "nothing")
        raise ResnetlabError(f"{path} holds no state dict: expected tensors by name, found {odd}")
    return _checked({str(key): value for key, value in content.items()}, path)


def _checked(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors, without gradients.

    Raises:
        ResnetlabError: one of them is not what networks are made of.
    """
    for key, value in tensors.items():
        kind = {
            f"in the layout {value.layout}": value.layout != torch.strided,
            "without values": value.is_meta or value.is_nested,
            "quantised": value.is_quantized,
            "of complex numbers": value.is_complex(),
        }
        if odd := next((what for what, so in kind.items() if so), None):
            raise ResnetlabError(f"{path}: {key} is {odd}; expected a dense tensor of real numbers")
    return {key: value.detach() for key, value in tensors.items()}
