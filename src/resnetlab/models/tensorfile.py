"""Our files of tensors: safetensors with a JSON header and a checksum over both, read whole.

They are not mapped into memory: a mapped file that another process cuts short ends this one with a bus error.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as to_safetensors
from torch import Tensor

from resnetlab.files import read_regular, replacing

CHECKSUM = "checksum"
MOST = 1 << 38  # bytes of a file
LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors


def write(path: Path, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with a header, whole or not at all; `kind` says what they are."""
    said = json.dumps(header)
    kept = {key: value.cpu().contiguous() for key, value in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(to_safetensors(kept, {kind: said, CHECKSUM: checksum(said, kept)}))


def read(path: Path, kind: str, *, needed: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors that `write` wrote. Files of earlier versions have no checksum.

    Without a header it is another file, or, where none is `needed`, the header is empty.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or of another kind.
    """
    if kind not in metadata(path) and needed:
        raise ValueError(f"it has no header {kind}")
    data = read_regular(path, most=MOST)
    about = _metadata(data)
    try:
        tensors = parse(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    said = about.get(kind, "{}")
    if about.get(CHECKSUM, own := checksum(said, tensors)) != own:
        raise ValueError("it was changed after it was written: its checksum is another")
    try:
        header = json.loads(said)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, tensors


def metadata(path: Path) -> dict[str, str]:
    """What a file of safetensors says beside its tensors; empty for all other files."""
    try:
        length = int.from_bytes(read_regular(path, 0, 8), "little")
        return _metadata(read_regular(path, 0, 8 + length)) if length <= LONGEST_HEADER else {}
    except (OSError, ValueError):
        return {}


def _metadata(data: bytes) -> dict[str, str]:
    """
    Raises:
        ValueError: the data has no header of safetensors.
    """
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(LONGEST_HEADER, len(data) - 8):
        raise ValueError("it has no header of safetensors")
    try:
        said = json.loads(data[8 : 8 + length])
    except RecursionError as error:
        raise ValueError(str(error)) from None
    found = said.get("__metadata__") if isinstance(said, dict) else None
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def checksum(header: str, tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the header, and of the names, types, shapes and values of the tensors."""
    total = zlib.crc32(header.encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
