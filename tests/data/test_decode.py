"""Decoding a part of an image gives the pixels of decoding all of it."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from resnetlab.data.decode import crop, read_size
from resnetlab.data.preprocessing import open_image
from resnetlab.errors import ResnetlabError


def encoded(height: int, width: int, form: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def literally(data: bytes, box: tuple[int, int, int, int], size: int) -> torch.Tensor:
    left, top, width, height = box
    whole = np.asarray(open_image(data, "x").convert("RGB"))
    part = torch.from_numpy(whole[top : top + height, left : left + width].copy()).permute(2, 0, 1)[None]
    if (width, height) != (size, size):
        part = F.interpolate(part, (size, size), mode="bilinear", antialias=True)
    return part[0].permute(1, 2, 0)


@given(
    st.integers(20, 150),
    st.integers(20, 150),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    st.booleans(),
    st.data(),
)
def test_any_box_of_a_jpeg(height: int, width: int, subsampling: str, progressive: bool, draw: st.DataObject) -> None:
    data = encoded(height, width, subsampling=subsampling, progressive=progressive, quality=85)
    w, h = draw.draw(st.integers(1, min(width, 59))), draw.draw(st.integers(1, min(height, 59)))
    box = draw.draw(st.integers(0, width - w)), draw.draw(st.integers(0, height - h)), w, h
    assert torch.equal(crop(data, "x", lambda *_: box, 30), literally(data, box, 30))


@pytest.mark.parametrize(
    "data",
    [
        encoded(60, 80, "PNG"),
        encoded(60, 80, "JPEG", "L"),
        encoded(60, 80, "JPEG", "CMYK"),
        encoded(60, 80, "WEBP"),
        encoded(60, 80, "GIF", "P"),
        encoded(60, 80, "PNG", "RGBA"),
        encoded(60, 80, restart_marker_blocks=2),
    ],
    ids=["png", "grey", "cmyk", "webp", "palette", "alpha", "restarts"],
)
def test_other_kinds_of_images(data: bytes) -> None:
    assert read_size(data, "x") == (80, 60)
    assert torch.equal(crop(data, "x", lambda *_: (10, 5, 40, 30), 24), literally(data, (10, 5, 40, 30), 24))


def test_turned_images_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(60, 80, exif=exif)
    assert read_size(data, "x") == (60, 80)
    seen = []
    pixels = crop(data, "x", lambda *size: seen.append(size) or (0, 0, 60, 60), 60)
    assert seen == [(60, 80)]
    assert torch.equal(pixels, literally(data, (0, 0, 60, 60), 60))


def test_a_large_box_is_decoded_small() -> None:
    image = Image.open(io.BytesIO(encoded(50, 60))).resize((900, 800), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    data = file.getvalue()
    pixels, whole = crop(data, "x", lambda *_: (50, 60, 700, 640), 100), literally(data, (50, 60, 700, 640), 100)
    assert (pixels.float() - whole.float()).abs().mean() < 2.0


@pytest.mark.parametrize("data", [b"", b"no image", encoded(60, 80)[:700], encoded(60, 80, "PNG")[:900]])
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(ResnetlabError, match=r"a/b\.jpg is not a readable image"):
        crop(data, "a/b.jpg", lambda *_: (0, 0, 30, 30), 20)


def test_photographs(shared: Path) -> None:
    with tarfile.open(shared / "photos-300.tar") as tar:
        members = [member for member in tar if member.isfile()][::10]
        for member in members:
            content = tar.extractfile(member)
            assert content is not None
            data = content.read()
            width, height = read_size(data, member.name)
            box = width // 5, height // 6, min(width // 2, 223), min(height // 2, 223)
            part = crop(data, member.name, lambda *_, box=box: box, 224)
            assert torch.equal(part, literally(data, box, 224))
