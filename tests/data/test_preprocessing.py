"""From image file to pixels, against torchvision's transforms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv
from torchvision.transforms._presets import ImageClassification

from resnetlab.data.preprocessing import Fit, Preprocessing, read_image
from resnetlab.errors import ResnetlabError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = [InterpolationMode(name) for name in ("nearest", "bilinear", "bicubic", "lanczos")]


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    random = np.random.default_rng(height * 1000 + width)
    shape = (height, width) if mode == "L" else (height, width, 3)
    return Image.fromarray(random.integers(0, 256, shape).astype(np.uint8))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(0, 20), st.sampled_from(MODES))
def test_squares_are_torchvisions_pixel_for_pixel(
    height: int, width: int, crop: int, more: int, interpolation: InterpolationMode
) -> None:
    image = picture(height, width)
    theirs = tv.center_crop(tv.resize(image, [crop + more], interpolation), [crop, crop])
    ours = Fit.square(crop + more, crop, interpolation.value)(image)
    assert np.array_equal(ours, np.asarray(theirs))


@pytest.mark.parametrize("size", [(97, 300), (640, 480), (224, 224), (256, 400)])
def test_the_whole_preprocessing_is_torchvisions(size: tuple[int, int]) -> None:
    image = picture(*size)
    theirs = ImageClassification(crop_size=224, antialias=True)(image)
    ours = Preprocessing.by_channel(Fit.square(256, 224), MEAN, STD)
    pixels = torch.from_numpy(ours.fit(image))[None]
    assert torch.allclose(ours(pixels)[0], theirs, atol=1e-6)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 40), st.integers(1, 40))
def test_any_image_fits_any_size(height: int, width: int, rows: int, columns: int) -> None:
    pixels = Fit((rows, columns), (rows, columns), mode="L")(picture(height, width))
    assert pixels.shape == (rows, columns, 1)
    if (height, width) == (rows, columns):
        assert np.array_equal(pixels[..., 0], np.asarray(picture(height, width).convert("L")))


def test_images_of_the_right_size_are_left_as_they_are() -> None:
    image = picture(32, 32)
    assert np.array_equal(Preprocessing.of_mean_image(torch.zeros(3, 32, 32)).fit(image), np.asarray(image))


def test_what_cannot_be() -> None:
    with pytest.raises(ResnetlabError, match="cannot crop 300x224 pixels from an image resized to 256x256"):
        Fit((256, 256), (224, 300))


def test_description_comes_back() -> None:
    old = Fit((235, 300), (224, 256), "bicubic", "L")
    assert Fit.from_description(json.loads(json.dumps(old.describe()))) == old
    for change in ({"colour": "BGR"}, {"range": [0, 255]}):
        with pytest.raises(ResnetlabError, match="expected RGB or L from 0 to 1"):
            Fit.from_description({**old.describe(), **change})


def test_odd_files(tmp_path: Path) -> None:
    turned = picture(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png").size == (4, 6)
    Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(read_image(tmp_path / "deep.png")).tolist() == [[0, 1, 255]]
    picture(8, 8).convert("CMYK").save(tmp_path / "print.jpg")
    assert Fit.square(8)(read_image(tmp_path / "print.jpg")).shape == (8, 8, 3)
    picture(64, 64).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    for name in ("cut.jpg", "text.png"):
        with pytest.raises(ResnetlabError, match=f"{name} is not a readable image"):
            read_image(tmp_path / name)
    with pytest.raises(ResnetlabError, match=r"none\.png does not exist"):
        read_image(tmp_path / "none.png")
