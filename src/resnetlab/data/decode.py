"""Decode only the part of an image that a training step needs.

JPEG decoding stops below the crop (this changes no pixel), and runs at 1/2, 1/4 or 1/8 size if the crop is at least
that much larger than the result. libjpeg-turbo releases Python's lock (GIL), so threads are enough.
"""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from resnetlab.data.preprocessing import FORMATS, check_pixels, decoding, open_image
from resnetlab.errors import ResnetlabError

Box = tuple[int, int, int, int]
JPEG = b"\xff\xd8"
BASELINE = 0xC0, 0xC1
FRAMES = (*BASELINE, 0xC2)  # and progressive
ROWS = 16  # at most, pixel rows per block row; colours are interpolated between block rows
ORIENTATION = 0x0112
_memory = threading.local()


@dataclass(frozen=True)
class Frame:
    """The frame header of a JPEG file; `height_at` is the byte offset of its height."""

    width: int
    height: int
    height_at: int
    baseline: bool


def crop(data: bytes, name: str, choose: Callable[[int, int], Box], size: int) -> UInt8[Tensor, "h w 3"]:
    """Crop the box (left, top, width, height) that `choose(width, height)` returns, and scale it to a square.

    `size` is its side in pixels. Images are RGB, rotated upright by EXIF. Resizing is bilinear with antialiasing.

    Raises:
        ResnetlabError: `data` is not an image or is truncated; the message has `name`.
    """
    frame = read_frame(data)
    if frame is not None:
        with decoding(name):
            check_pixels(frame.width, frame.height)
    if frame is None:  # not JPEG, or rotated by EXIF, CMYK, or damaged
        image = open_image(data, name)
        left, top, width, height = choose(*image.size)
        part = np.array(image.crop((left, top, left + width, top + height)).convert("RGB"))
    else:
        part = _decode(data, name, frame, choose(frame.width, frame.height), size)
    if part.shape[:2] == (size, size):
        return torch.from_numpy(part.copy())
    pixels = torch.from_numpy(np.ascontiguousarray(part))[None].permute(0, 3, 1, 2)  # channels last in memory
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _decode(data: bytes, name: str, frame: Frame, box: Box, size: int) -> np.ndarray:
    left, top, width, height = box
    factor = 1
    while factor < 8 and min(width, height) >= 2 * factor * size:
        factor *= 2
    rows = frame.height
    needed = (top + height + ROWS) // ROWS * ROWS + ROWS
    if frame.baseline and needed < frame.height:  # shorten the image: the rows above its end stay the same
        rows = needed
        data = data[: frame.height_at] + needed.to_bytes(2, "big") + data[frame.height_at + 2 :]
    try:
        least = {"min_height": -(-rows // factor), "min_width": -(-frame.width // factor)} if factor > 1 else {}
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=False, buffer=_buffer(3 * frame.width * rows), **least)
    except (ValueError, OverflowError, MemoryError) as error:
        raise ResnetlabError(f"{name} is not a readable image ({error}); repair or remove it") from None
    if factor > 1:
        right, bottom = (round(end / factor) for end in (left + width, top + height))
        left, top = round(left / factor), round(top / factor)
        width, height = right - left, bottom - top
    return np.asarray(pixels[top : top + height, left : left + width])


def _buffer(size: int) -> bytearray:
    """A buffer that this thread reuses (faster than new memory); valid until the next image."""
    if len(getattr(_memory, "buffer", b"")) < size:
        _memory.buffer = bytearray(size)
    buffer: bytearray = _memory.buffer
    return buffer


def read_frame(data: bytes) -> Frame | None:
    """The frame header of a complete, upright JPEG file in RGB or grey; None for other data."""
    if not data.startswith(JPEG):
        return None
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if at + 2 + length > len(data):
            return None
        if marker in FRAMES:
            height, width = (int.from_bytes(data[k : k + 2], "big") for k in (at + 5, at + 7))
            whole = data.rfind(b"\xff\xd9") > at
            simple = data[at + 4] == 8 and data[at + 9] in (1, 3) and min(width, height) > 0
            return Frame(width, height, at + 5, marker in BASELINE) if whole and simple else None
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0" and _turned(data[at + 4 : at + 2 + length]):
            return None
        at += 2 + length
    return None


def _turned(segment: bytes) -> bool:
    exif = Image.Exif()
    try:
        exif.load(segment)
        return bool(exif.get(ORIENTATION, 1) != 1)
    except Exception:  # like Pillow, ignore damaged EXIF, which raises anything
        return False


def read_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of an encoded image after upright rotation, without decoding it.

    Raises:
        ResnetlabError: `data` is not an image.
    """
    if frame := read_frame(data):
        return frame.width, frame.height
    with decoding(name, data), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        turned = image.getexif().get(ORIENTATION, 1) > 4
        return image.size[::-1] if turned else image.size
