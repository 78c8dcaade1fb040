"""Damage to the structure of images, archives and protocol buffers; lengths and checksums around it are right."""

import struct
import zlib
from random import Random

from resnetlab.models.onnxfile import with_checksum
from tests.faults.damage_bytes import Damaged, in_bytes


def in_png(random: Random, content: bytes) -> Damaged:
    """A PNG whose header or chunks say something else; checksums are right."""
    if random.random() < 0.4:
        return in_bytes(random, content)
    chunks, at = [], 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    which = random.randrange(len(chunks))
    name, data = chunks[which]
    kind = random.random()
    if kind < 0.5:
        sides = [random.choice((0, 1, 3, 40, 60_000, 65_536, 1 << 20, (1 << 31) - 1)) for _ in range(2)]
        chunks[0] = (b"IHDR", struct.pack(">II", *sides) + chunks[0][1][8:])
        said = f"says {sides[0]}x{sides[1]}"
    elif kind < 0.8:
        data, said = in_bytes(random, data)
        chunks[which] = (name, data)
    else:
        chunks.insert(
            which, random.choice(((b"iCCP", b"x\0\0x"), (b"eXIf", b"II*\0\xff\xff"), (b"tRNS", b""), (name, data)))
        )
        said = "another chunk"
    written = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return content[:8] + written, said


def in_tar(random: Random, content: bytes) -> Damaged:
    """A tar file with another header, whose checksum is right."""
    if random.random() < 0.3:
        return in_bytes(random, content)
    headers = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return in_bytes(random, content)
    at = random.choice(headers)
    header = bytearray(content[at : at + 512])
    start, length = random.choice(
        ((0, 100), (100, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155))
    )
    values = (
        b"", b"-1", b"77777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 11 + b"\x00", b"x", b"0", b"1",
        b"2", b"5", b"S", b"L", b"K", b"g", b"../../escaped.jpg", b"/etc/passwd", b"a\xffb.jpg", b".cls",
        b"00000000.cls",
    )  # fmt: skip
    value = random.choice(values)
    header[start : start + length] = value[:length].ljust(length, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return content[:at] + bytes(header) + content[at + 512 :], f"header at {at}: {value!r} at {start}"


def in_protobuf(random: Random, content: bytes) -> Damaged:
    """A protocol buffer with a changed field, at any depth; the lengths around it are right."""
    if random.random() < 0.35:
        return in_bytes(random, content)
    changed, said = _message(random, content, 0)
    return changed, said


def in_onnx(random: Random, content: bytes) -> Damaged:
    """The same, mostly with a new checksum."""
    changed, said = in_protobuf(random, content)
    at = -len(with_checksum(b""))
    if random.random() < 0.8 and changed.endswith(content[at:]):  # as someone would who wants it to be read
        return with_checksum(changed[:at]), f"{said}, with its checksum"
    return changed, said


def _message(random: Random, content: bytes, depth: int) -> Damaged:
    fields = _fields(content)
    if not fields:
        return in_bytes(random, content)
    which = random.randrange(len(fields))
    number, wire, value = fields[which]
    said = f"field {number}"
    kind = random.random()
    if kind < 0.1:
        del fields[which]
        said += " left out"
    elif kind < 0.2:
        fields.insert(which, fields[which])
        said += " twice"
    elif isinstance(value, bytes):
        inner = _fields(value) if depth < 6 and len(value) < 1 << 20 and kind < 0.9 else None
        changed, more = _message(random, value, depth + 1) if inner else in_bytes(random, value)
        fields[which] = number, wire, changed
        said += f", {more}"
    else:
        fields[which] = number, wire, random.choice((0, 1, 2, 7, 100, 1 << 31, (1 << 63) - 1, (1 << 64) - 1))
        said += f" = {fields[which][2]}"
    return b"".join(_field(*each) for each in fields), said


def _fields(content: bytes) -> list[tuple[int, int, bytes | int]]:
    """The fields of a message; none if it is none."""
    found: list[tuple[int, int, bytes | int]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise IndexError

    try:
        while at < len(content):
            key = varint()
            number, wire = key >> 3, key & 7
            if not number or wire not in (0, 1, 2, 5):
                return []
            if wire == 0:
                found.append((number, wire, varint()))
                continue
            length = {1: 8, 5: 4}.get(wire) or varint()
            if at + length > len(content):
                return []
            found.append((number, wire, content[at : at + length]))
            at += length
    except IndexError:
        return []
    return found


def _field(number: int, wire: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if wire in (1, 5):
        length = {1: 8, 5: 4}[wire]
        return _varint(number << 3 | wire) + value[:length].ljust(length, b"\0")
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = b""
    while True:
        number, seven = number >> 7, number & 127
        out += bytes([seven | (128 if number else 0)])
        if not number:
            return out
