"""Damage to files of tensors and arrays: safetensors, PyTorch's, NumPy's."""

import io
import json
import math
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as to_safetensors
from torch import Tensor

from resnetlab.models.tensorfile import CHECKSUM, checksum
from tests.faults.damage_bytes import Damaged, in_bytes
from tests.faults.damage_text import as_json, in_value, short


def in_tensor(random: Random, tensor: Tensor) -> tuple[Tensor, str]:
    """Another shape, type or value."""
    kind = random.choice(("value", "value", "type", "shape", "empty", "scalar", "longer", "negative", "zero"))
    if kind == "value":
        value = random.choice((math.nan, math.inf, -math.inf, 1e38, 1e-38))
        tensor = tensor.float().clone()
        if tensor.numel():
            tensor.view(-1)[random.randrange(tensor.numel())] = value
        return tensor, f"a value of {value}"
    if kind == "type":
        dtype = random.choice((torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool))
        return tensor.to(dtype), f"as {dtype}"
    if kind == "shape":
        shape = random.choice(([-1], [1, -1], [*tensor.shape, 1], [1, *tensor.shape], list(tensor.shape)[::-1]))
        return tensor.reshape(shape), f"of shape {shape}"
    if kind == "empty":
        return tensor.new_zeros(0), "empty"
    if kind == "scalar":
        return tensor.new_zeros(()), "a scalar"
    if kind == "longer":
        return torch.cat([tensor.flatten(), tensor.flatten()]), "twice as long"
    return (-tensor.float(), "negative") if kind == "negative" else (torch.zeros_like(tensor), "all zero")


def in_tensors(random: Random, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """A tensor changed, left out, added or renamed."""
    tensors = dict(tensors)
    name = random.choice(sorted(tensors))
    kind = random.random()
    if kind < 0.7:
        tensors[name], said = in_tensor(random, tensors[name])
        return tensors, f"{name} {said}"
    if kind < 0.8:
        del tensors[name]
        return tensors, f"{name} left out"
    other = random.choice(("", "x", "fc.weight", "layer9.0.conv1.weight", "a" * 5000, name + "\n", "é"))
    if kind < 0.9:
        tensors[other] = torch.zeros(2)
        return tensors, f"{short(other)} added"
    tensors[other] = tensors.pop(name)
    return tensors, f"{name} renamed to {short(other)}"


def in_safetensors(random: Random, content: bytes) -> Damaged:
    """The bytes of a file of safetensors, its header, or its tensors."""
    kind = random.random()
    if kind < 0.3:
        return in_bytes(random, content)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if kind < 0.4:
        changed, said = in_value(random, header)
        data = as_json(changed)
        return len(data).to_bytes(8, "little") + data + content[8 + length :], f"header: {said}"
    metadata, tensors = header.get("__metadata__") or {}, tensors_of(content)
    ours = next((key for key in metadata if key.startswith("resnetlab")), None)
    if kind < 0.7 and ours:
        changed, said = in_value(random, json.loads(metadata[ours]))
        metadata[ours] = as_json(changed).decode()
    else:
        tensors, said = in_tensors(random, tensors)
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    if CHECKSUM in metadata and random.random() < 0.8:  # as someone would who wants it to be read
        metadata[CHECKSUM] = checksum(metadata[ours or ""], tensors)
        said += ", with its checksum"
    return to_safetensors(tensors, metadata or None), said


def in_pickled(random: Random, content: bytes) -> Damaged:
    """A checkpoint of PyTorch: its bytes, its archive's members, or its tensors and what is around them."""
    kind = random.random()
    if kind < 0.35:
        return in_bytes(random, content)
    if kind < 0.55:
        return in_archive(random, content)
    said: Any
    state = torch.load(io.BytesIO(content), weights_only=True)
    name = random.choice(sorted(state))
    if kind < 0.75:
        state, said = in_tensors(random, state)
    else:
        said, change = random.choice(ODD)
        state[name] = change(state[name])
        said = f"{name} {said}"
    if random.random() < 0.15:
        state, more = random.choice(WRAPPED)(state), " in another form"
        said += more
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue(), said


ODD: tuple[tuple[str, Callable[[Tensor], Any]], ...] = (
    ("sparse", lambda x: x.to_sparse()),
    ("on no device", lambda x: torch.empty(x.shape, device="meta")),
    ("quantised", lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)),
    ("complex", lambda x: x.to(torch.complex64)),
    ("a list", lambda x: x.tolist()),
    ("a text", lambda x: "x"),
    ("None", lambda x: None),
    ("expanded from one number", lambda x: torch.zeros(()).expand(x.shape)),
    ("a huge view of one number", lambda x: torch.zeros(1).expand(1 << 20, 1 << 20)),
    ("not contiguous", lambda x: torch.stack([x, x], -1)[..., 0]),
    ("a parameter", lambda x: torch.nn.Parameter(x.float())),
    ("in float8", lambda x: x.float().to(torch.float8_e4m3fn)),
    ("named by a number", lambda x: {1: x}),
)


WRAPPED: tuple[Callable[[Any], Any], ...] = (
    lambda x: [x],
    lambda x: {"state_dict": x, "model": x},
    lambda x: {"state_dict": {"state_dict": x}},
    lambda x: dict(enumerate(x.values())),
    lambda x: {f"module.{k}": v for k, v in x.items()},
    lambda x: {"state_dict": None},
    lambda x: {"state_dict": {}},
)


def in_archive(random: Random, content: bytes) -> Damaged:
    """A zip archive with a member changed, left out or declared to be larger; its checksums are right."""
    members = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(sorted(members))
    kind = random.random()
    if kind < 0.15:
        del members[name]
        said = f"{name} left out"
    elif kind < 0.25:
        members[name + random.choice(("x", "/", "\n"))] = members.pop(name)
        said = f"{name} renamed"
    else:
        members[name], said = in_bytes(random, members[name])
        said = f"{name}: {said}"
    file = io.BytesIO()
    how = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(file, "w", how if random.random() < 0.3 else zipfile.ZIP_STORED) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return file.getvalue(), said


def in_arrays(random: Random, content: bytes) -> Damaged:
    """A file of arrays: its bytes, the headers of its members, or its arrays."""
    kind = random.random()
    if kind < 0.2:
        return in_bytes(random, content)
    if kind < 0.5:
        return in_archive(random, content)
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = random.choice(sorted(arrays))
    said, change = random.choice(ARRAYS)
    with np.errstate(all="ignore"):
        try:
            arrays[name] = change(arrays[name])
        except (ValueError, TypeError):
            arrays[name] = np.zeros((2, 2))
    if random.random() < 0.1:
        del arrays[random.choice(sorted(arrays))]
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue(), f"{name} {said}"


ARRAYS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("of texts", lambda x: x.astype(str)),
    ("of objects", lambda x: np.array([None, {}], dtype=object)),
    ("of dates", lambda x: np.zeros(len(x), "datetime64[s]")),
    ("of NaN", lambda x: np.full(x.shape, np.nan)),
    ("of float32", lambda x: x.astype(np.float32)),
    ("of complex numbers", lambda x: x.astype(np.complex64)),
    ("of booleans", lambda x: x.astype(bool)),
    ("of 64 bits without sign", lambda x: np.full(x.shape, 2**64 - 1, np.uint64)),
    ("huge", lambda x: np.full(x.shape, 999_999_999)),
    ("negative", lambda x: np.full(x.shape, -1)),
    ("without dimensions", lambda x: np.array(x.flat[0])),
    ("empty", lambda x: x[:0]),
    ("with another dimension", lambda x: x[None]),
    ("shorter", lambda x: x[:-1]),
    ("cut", lambda x: x[..., :1]),
    ("structured", lambda x: np.zeros(len(x), [("a", "u1"), ("b", "f4")])),
    ("big endian", lambda x: x.astype(x.dtype.newbyteorder(">"))),
    ("in Fortran's order", lambda x: np.asfortranarray(x)),
    ("of one class", lambda x: x * 0),
)
