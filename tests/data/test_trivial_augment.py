"""TrivialAugment against torchvision's, operation by operation and as a distribution."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms.autoaugment import _apply_op

from resnetlab.data.trivial_augment import OPERATIONS, SIGNED, STRENGTHS, apply, trivial_augment

THEIRS = {
    "identity": "Identity",
    "shear x": "ShearX",
    "shear y": "ShearY",
    "translate x": "TranslateX",
    "translate y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "colour": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "auto contrast": "AutoContrast",
    "equalize": "Equalize",
}


def picture(height: int = 37, width: int = 50) -> Image.Image:
    random = np.random.default_rng(0)
    slope = np.linspace(20, 180, width)[None, :, None] + np.linspace(-15, 15, height)[:, None, None]
    return Image.fromarray((slope + random.integers(0, 50, (height, width, 3))).astype(np.uint8))


def test_the_operations_and_strengths_are_torchvisions() -> None:
    theirs = TrivialAugmentWide()._augmentation_space(31)
    assert [THEIRS[name] for name in OPERATIONS] == list(theirs)
    for name, strengths in OPERATIONS.items():
        magnitudes, signed = theirs[THEIRS[name]]
        assert strengths == tuple(magnitudes.reshape(-1).tolist())
        assert signed == (name in SIGNED)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_pixels_are_torchvisions(name: str) -> None:
    image = picture()
    signs = (1, -1) if name in SIGNED else (1,)
    for strength in {sign * strength for strength in OPERATIONS[name] for sign in signs}:
        expected = _apply_op(image, THEIRS[name], strength, InterpolationMode.BILINEAR, None)
        assert np.array_equal(np.asarray(apply(image, name, strength)), np.asarray(expected)), strength


def test_random_numbers_choose_operation_strength_and_sign() -> None:
    pixels = np.asarray(picture())
    shear, top = list(OPERATIONS).index("shear x"), STRENGTHS - 1
    for drawn, strength in (((shear, top, 0), 0.99), ((shear + 14, top + 31, 3), -0.99)):
        found = trivial_augment(pixels, np.array(drawn, dtype=np.int64))
        assert np.array_equal(found, np.asarray(apply(picture(), "shear x", np.float32(strength).item())))
    assert trivial_augment(pixels, np.zeros(3, dtype=np.int64)) is pixels


def test_all_operations_are_as_likely() -> None:
    import torch

    from resnetlab.data.counter import bits
    from resnetlab.data.photos import TRIVIAL

    drawn = bits(torch.arange(14_000), 0, TRIVIAL, 5) % len(OPERATIONS)
    counts = Counter(drawn.tolist())
    assert len(counts) == 14
    assert all(850 < count < 1150 for count in counts.values())
