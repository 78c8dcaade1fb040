"""Files that are no images, hostile or damaged ones: one error that names the file, without waiting."""

import contextlib
import io
import os
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.data.check import examine, report
from resnetlab.data.dataset import File
from resnetlab.data.decode import crop, read_size
from resnetlab.data.preprocessing import MOST_PIXELS, Fit, fitted, open_image, read_image
from resnetlab.data.sources.layouts import find_images
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular


def encoded(form: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    many = {"save_all": True, "append_images": frames[1:]} if form in ("GIF", "TIFF", "WEBP") else {}
    frames[0].save(buffer, form, **many)
    return buffer.getvalue()


def png(width: int, height: int) -> bytes:
    """A small file that declares a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * min(height, 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def huge_webp() -> bytes:
    """A lossless WebP whose header says 16384x16384 pixels; its sides have 14 bits."""
    bits = (16384 - 1) | (16384 - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(900)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def huge_jpeg() -> bytes:
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


READERS: dict[str, Callable[[bytes], object]] = {
    "open": lambda data: open_image(data, "x.jpg"),
    "crop": lambda data: crop(data, "x.jpg", lambda width, height: (0, 0, width, height), 16),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "data", [png(20_000, 20_000), png(70_000, 1), huge_webp(), huge_jpeg()], ids=["png", "long", "webp", "jpeg"]
)
def test_a_huge_image_is_refused_by_its_header(reader: str, data: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(ResnetlabError, match=r"x.jpg (has (\d+x\d+ pixels; at most|more than) 120 million)"):
        READERS[reader](data)
    assert time.monotonic() - began < 1


def test_an_image_that_would_be_huge_when_scaled_is_refused() -> None:
    image = open_image(png(60_000, 1), "x.png")
    with pytest.raises(ResnetlabError, match="x.png has 60000x1 pixels, which would be 15360000x256 when scaled"):
        fitted(Fit.square(256, 224), image, "x.png")
    with pytest.raises(ResnetlabError, match="when scaled"):
        fitted(lambda shown: Fit.square(32).whole(shown, (256, 256)), image, "x.png")
    assert MOST_PIXELS > 108e6  # as cameras of telephones have


@pytest.mark.parametrize("number", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused(number: type) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0.5, np.float32).astype(number)).save(buffer, "TIFF")
    with pytest.raises(ResnetlabError, match=r"x.jpg is not a readable image \(its pixels are numbers of 32 bits"):
        open_image(buffer.getvalue(), "x.jpg")


@pytest.fixture
def specials(tmp_path: Path) -> dict[str, Path]:
    """A pipe, a socket, a folder, and a link to a device, all named like images."""
    places = {name: tmp_path / f"{name}.jpg" for name in ("pipe", "socket", "folder", "device", "missing")}
    os.mkfifo(places["pipe"])
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as made:  # the path of a socket is short
        made.bind("socket.jpg")
    places["folder"].mkdir()
    places["device"].symlink_to("/dev/zero")
    return places


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "missing"])
def test_only_regular_files_are_read(specials: dict[str, Path], kind: str) -> None:
    path = specials[kind]
    for read in (lambda: read_image(path), lambda: File(path.name, str(path)).read()):
        with pytest.raises(ResnetlabError, match=path.name):
            read()


def test_a_folder_with_them_is_checked(tmp_path: Path) -> None:
    for label in ("ant", "bee"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(3):
            (tmp_path / "data" / label / f"{k}.png").write_bytes(encoded("PNG", (40 + k, 50)))
    os.mkfifo(tmp_path / "data" / "ant" / "pipe.png")
    found = find_images(tmp_path / "data")
    checked = report(found, examine(found, 2))
    (bad,) = [finding for finding in checked.findings if finding.kind == "unreadable"]
    assert bad.file == "ant/pipe.png"
    assert "not a regular file" in bad.detail


def test_sizes_are_limited(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    assert read_regular(tmp_path / "x", 3, 4) == b"3456"
    assert read_regular(tmp_path / "x") == b"0123456789"
    with pytest.raises(OSError, match="its 10 bytes are more than the 9 that are read"):
        read_regular(tmp_path / "x", most=9)


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 300 + ".jpg"])
def test_impossible_names(name: str) -> None:
    with pytest.raises(ResnetlabError):
        read_image(Path(name))
    with pytest.raises(ResnetlabError):
        File("shown", name).read()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_damaged_images_end_in_one_error(form: str, tmp_path: Path) -> None:
    """Bytes changed, cut and doubled: an image comes out, or the error that names the file; in all readers."""
    whole, draw = encoded(form), random.Random(form)
    readers = (*READERS.values(), lambda data: read_size(data, "x.jpg"))
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 8))):
            at = draw.randrange(min(len(data), draw.choice((40, len(data)))))
            if draw.random() < 0.2:
                del data[at : at + draw.choice((1, 7, 500))]
            elif draw.random() < 0.2:
                data[at:at] = data[at : at + 4]
            else:
                data[at] = draw.choice((0, 255, 127, 128, draw.randrange(256)))
            data = data or bytearray(b"\0")
        for read in readers:
            with contextlib.suppress(ResnetlabError):
                read(bytes(data))
        (tmp_path / "ant").mkdir(exist_ok=True)
        (tmp_path / "ant" / f"x.{form.lower()}").write_bytes(data)
        found = find_images(tmp_path)
        report(found, examine(found, 1, hashes=True))
