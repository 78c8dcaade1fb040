"""TrivialAugment (Müller and Hutter, 2021), with the operations, strengths and pixels of torchvision's.

torchvision is `TrivialAugmentWide(interpolation=BILINEAR)`, which its reference recipe uses.
"""

import math

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageEnhance, ImageOps

STRENGTHS = 31  # per operation
NUMBERS = 3
"""Random whole numbers for an image: they choose the operation, its strength and its sign."""


def _up_to(largest: float) -> tuple[float, ...]:
    return tuple(torch.linspace(0.0, largest, STRENGTHS).tolist())


SIGNED = {
    "shear x": _up_to(0.99),
    "shear y": _up_to(0.99),
    "translate x": _up_to(32.0),
    "translate y": _up_to(32.0),
    "rotate": _up_to(135.0),
    "brightness": _up_to(0.99),
    "colour": _up_to(0.99),
    "contrast": _up_to(0.99),
    "sharpness": _up_to(0.99),
}
"""Operations with the strengths that they have; half of the time with the other sign."""
UNSIGNED = {
    "posterize": tuple(float(8 - round(k / ((STRENGTHS - 1) / 6))) for k in range(STRENGTHS)),
    "solarize": tuple(torch.linspace(255.0, 0.0, STRENGTHS).tolist()),
    "auto contrast": (0.0,),
    "equalize": (0.0,),
}
OPERATIONS: dict[str, tuple[float, ...]] = {"identity": (0.0,), **SIGNED, **UNSIGNED}
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "colour": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}


def trivial_augment(pixels: UInt8[np.ndarray, "h w 3"], drawn: Int64[np.ndarray, "3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Apply one random operation of random strength."""
    name = list(OPERATIONS)[drawn[0] % len(OPERATIONS)]
    strength = OPERATIONS[name][drawn[1] % len(OPERATIONS[name])]
    if name in SIGNED and drawn[2] % 2:
        strength = -strength
    if name == "identity":
        return pixels
    return np.asarray(apply(Image.fromarray(np.ascontiguousarray(pixels)), name, strength))


def apply(image: Image.Image, name: str, strength: float) -> Image.Image:
    """One of `OPERATIONS` with a strength."""
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(1.0 + strength)
    slope = math.tan(math.radians(math.degrees(math.atan(strength))))  # torchvision's rounding
    match name:
        case "shear x":
            return _affine(image, (1.0, slope, 0.0, 0.0, 1.0, 0.0))
        case "shear y":
            return _affine(image, (1.0, 0.0, 0.0, slope, 1.0, 0.0))
        case "translate x":
            return _affine(image, (1.0, 0.0, -float(int(strength)), 0.0, 1.0, 0.0))
        case "translate y":
            return _affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, -float(int(strength))))
        case "rotate":
            return image.rotate(strength, Image.Resampling.BILINEAR, fillcolor=(0, 0, 0))
        case "posterize":
            return ImageOps.posterize(image, int(strength))
        case "solarize":
            return ImageOps.solarize(image, strength)  # type: ignore[arg-type]
        case "auto contrast":
            return ImageOps.autocontrast(image)
        case "equalize":
            return ImageOps.equalize(image)
    return image


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Pixel (x, y) of the result is where the matrix takes it in the image; black outside."""
    how = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    return image.transform(image.size, *how, fillcolor=(0, 0, 0))
