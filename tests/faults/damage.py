"""Damage a file by what its format is, with a seeded generator; says in a few words what was done."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.faults.damage_binary import in_onnx, in_png, in_protobuf, in_tar
from tests.faults.damage_bytes import Damaged, in_bytes
from tests.faults.damage_tensors import in_arrays, in_pickled, in_safetensors
from tests.faults.damage_text import in_json, in_lines, in_text, in_xml


def in_files(random: Random, path: Path) -> str:
    """A file that is no longer one, or not at its place."""
    kind = random.choice(
        ("gone", "folder", "pipe", "socket", "device", "loop", "dangling", "empty", "renamed", "renamed")
    )
    if kind == "renamed":
        name = random.choice(
            (b"\xff\xfe", b"a\nb", b"\x1b[31m", b"\xc3\xa9", b" ", b"-x", b'a,b"c', b"%s {x}", b"a" * 240)
        )
        if random.random() < 0.3 and "case" not in (path.parent.name, path.parent.parent.name):
            path.parent.rename(path.parent.parent / os.fsdecode(name))
            return f"{path.parent.name} renamed to {name!r}"
        path.rename(path.parent / (os.fsdecode(name) + path.suffix))
        return f"renamed to {name!r}"
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # their names may have a hundred bytes
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
        os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "empty":
        path.touch()
    return kind


By = Callable[[Random, bytes], Damaged]
FORMATS: dict[str, By] = {
    ".json": in_json, ".jsonl": in_lines, ".csv": in_text, ".txt": in_text, ".safetensors": in_safetensors,
    ".pth": in_pickled, ".npz": in_arrays, ".png": in_png, ".tar": in_tar, ".xml": in_xml, ".onnx": in_onnx,
    ".caffemodel": in_protobuf, ".binaryproto": in_protobuf,
}  # fmt: skip


def damage(random: Random, path: Path, odd: float = 0.04) -> str:
    """Damage a file in place by what its format is; with the share `odd` it becomes no regular file."""
    if random.random() < odd:
        return in_files(random, path)
    content, said = FORMATS.get(path.suffix.lower(), in_bytes)(random, path.read_bytes())
    path.write_bytes(content)
    return said
