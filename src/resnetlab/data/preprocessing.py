"""From an image file to the network's input: one definition for training, tests and inference."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from resnetlab.choices import Interpolation
from resnetlab.data.augment import preprocess
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular

T = TypeVar("T")
Mode = Literal["RGB", "L"]
Size = tuple[int, int]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of ImageNet's pixels (RGB, 0 to 1), the values that torchvision uses."""

MOST_PIXELS = 120_000_000
"""Of an image, encoded or scaled."""
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit above is ours
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata; damaged pixels are errors
LEAST_STD = 1e-6  # of pixels from 0 to 1
LONGEST_SIDE = 65_535  # pixels, JPEG's limit
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's readers that are used, whatever the suffix says; others start programs, or are seldom tested."""
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Fit:
    """Scale an image of any size, keeping its aspect ratio, until it just covers `resize`; then crop the centre.

    `resize` and `crop` are (height, width). For squares this equals torchvision's `Resize` of the shorter side and
    `CenterCrop`, pixel for pixel. `mode` is Pillow's: "RGB", in that order, or "L" for grey. With `longest` nothing
    is cropped: the shorter side is scaled to the smaller of `resize`, but the longer side to `longest` at most.
    """

    resize: Size
    crop: Size
    interpolation: Interpolation = "bilinear"
    mode: Mode = "RGB"
    longest: int | None = None

    def __post_init__(self) -> None:
        if min(self.crop) < 1 or any(r < c for r, c in zip(self.resize, self.crop, strict=True)):
            raise ResnetlabError(f"cannot crop {_by(self.crop)} pixels from an image resized to {_by(self.resize)}")

    @classmethod
    def square(cls, resize: int, crop: int | None = None, interpolation: Interpolation = "bilinear") -> "Fit":
        """Scale the shorter side to `resize` and crop the centre square of side `crop` (default: `resize`)."""
        crop = crop or resize
        return cls((resize, resize), (crop, crop), interpolation)

    @classmethod
    def uncropped(cls, shorter: int, longest: int) -> "Fit":
        """Scale the whole image: the shorter side to `shorter`, but the longer side to `longest` at most."""
        return cls((shorter, shorter), (shorter, shorter), longest=longest)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what comes out, where images are cropped."""
        return (3 if self.mode == "RGB" else 1, *self.crop)

    def scaled_size(self, height: int, width: int) -> Size:
        """Height and width of an image of a size after scaling, if nothing is cropped; at least a pixel each."""
        assert self.longest is not None  # noqa: S101 -- only for such fits
        factor = min(min(self.resize) / min(height, width), self.longest / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def __call__(self, image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
        """The scaled and cropped pixels of an image."""
        if self.longest is not None:
            return _pixels(self._resized(image.convert(self.mode), self.scaled_size(image.height, image.width)))
        image = self._covering(image, self.resize)
        size = image.height, image.width
        top, left = (round((side - kept) / 2) for side, kept in zip(size, self.crop, strict=True))
        return _pixels(image.crop((left, top, left + self.crop[1], top + self.crop[0])))

    def whole(self, image: Image.Image, covered: Size) -> UInt8[np.ndarray, "h w c"]:
        """The pixels of the whole image, scaled with its aspect ratio until it just covers `covered`."""
        return _pixels(self._covering(image, covered))

    def _covering(self, image: Image.Image, covered: Size) -> Image.Image:
        image = image.convert(self.mode)
        (height, width), (rows, columns) = (image.height, image.width), covered
        if rows * width > columns * height:  # the height decides the scale
            target = rows, max(columns, rows * width // height)
        else:
            target = max(rows, columns * height // width), columns
        return self._resized(image, target)

    def _resized(self, image: Image.Image, target: Size) -> Image.Image:
        if target == (image.height, image.width):
            return image
        if target[0] * target[1] > MOST_PIXELS:
            raise ResnetlabError(f"has {image.width}x{image.height} pixels, which would be {_by(target)} when scaled")
        return image.resize(target[::-1], Image.Resampling[self.interpolation.upper()])

    def describe(self) -> dict[str, Any]:
        """All fields, and the range of the network's input values, for a JSON header."""
        sizes = {"resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}
        uncropped = {} if self.longest is None else {"longest": self.longest}
        return {"colour": self.mode, "range": [0, 1], **sizes, **uncropped}

    @classmethod
    def from_description(cls, said: dict[str, Any]) -> "Fit":
        """The inverse of `describe`.

        Raises:
            ResnetlabError: a pixel range or colour order that this project does not use.
            KeyError, TypeError, ValueError: `said` is not a description.
        """
        mode, (low, high) = said["colour"], said["range"]
        if mode not in get_args(Mode) or (low, high) != (0, 1):
            raise ResnetlabError(f"its pixels are {mode} from {low} to {high}; expected RGB or L from 0 to 1")
        (height, width), (rows, columns) = said["resize"], said["crop"]
        longest, interpolation = said.get("longest"), said["interpolation"]
        for side in (height, width, rows, columns, *([] if longest is None else [longest])):
            if type(side) is not int or not 1 <= side <= LONGEST_SIDE:
                raise ResnetlabError(
                    f"images cannot be resized to {said['resize']} and cropped to {said['crop']}; sizes are whole "
                    f"numbers of pixels from 1 to {LONGEST_SIDE:,}"
                )
        if interpolation not in get_args(Interpolation):
            raise ResnetlabError(f"unknown interpolation {interpolation!r}; expected {get_args(Interpolation)}")
        return cls((height, width), (rows, columns), interpolation, mode, longest)


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """Fit an image, scale to 0 to 1, subtract `mean` (per channel or per pixel), divide by `std`."""

    fit: Fit
    mean: Float[Tensor, "c h w"]
    std: Float[Tensor, "c 1 1"]
    scaled: bool = field(init=False, repr=False)
    """Whether any `std` is not 1; otherwise the division is skipped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scaled", bool((self.std != 1).any()))

    @classmethod
    def checked(cls, fit: Fit, mean: Tensor, std: Tensor) -> "Preprocessing":
        """From a mean and a standard deviation that were read from a file.

        Raises:
            ResnetlabError: a wrong type or shape, a value that is not finite, or a standard deviation that is not
                above 0.
        """
        channels, *size = fit.image_shape
        for name, tensor, shapes in (
            ("mean", mean, ((channels, 1, 1), (channels, *size))),
            ("std", std, ((channels, 1, 1),)),
        ):
            if not tensor.is_floating_point() or tuple(tensor.shape) not in shapes:
                raise ResnetlabError(
                    f"the {name} of the preprocessing is {tensor.dtype} of shape {tuple(tensor.shape)}; expected "
                    f"floating-point numbers of shape {' or '.join(map(str, dict.fromkeys(shapes)))}"
                )
            if not tensor.isfinite().all() or (name == "std" and not (tensor >= LEAST_STD).all()):
                raise ResnetlabError(
                    f"the {name} of the preprocessing has values that cannot be: {tensor.flatten()[:4]}"
                )
        return cls(fit, mean, std)

    @classmethod
    def by_channel(cls, fit: Fit, mean: tuple[float, ...], std: tuple[float, ...]) -> "Preprocessing":
        """From the mean and standard deviation of each channel, on the scale of 0 to 1."""
        return cls(fit, torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None])

    @classmethod
    def of_mean_image(cls, mean: Float[Tensor, "c h w"]) -> "Preprocessing":
        """The paper's preprocessing: subtract the mean image. Images of other sizes are fitted to its size."""
        channels, height, width = mean.shape
        fit = Fit((height, width), (height, width), mode="RGB" if channels == 3 else "L")
        return cls(fit, mean, torch.ones(channels, 1, 1))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return (len(self.std), *self.fit.crop)

    def __call__(self, pixels: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
        """Normalise pixels that are already fitted."""
        images = preprocess(pixels, self.mean)
        return images.div_(self.std) if self.scaled else images

    def any_size(self) -> "Preprocessing":
        """A copy for images of any size: a mean image becomes its mean per channel."""
        return Preprocessing(self.fit, self.mean.mean((1, 2), keepdim=True), self.std)

    def to(self, device: torch.device) -> "Preprocessing":
        """A copy with the tensors on a device."""
        return Preprocessing(self.fit, self.mean.to(device), self.std.to(device))


def read_image(path: Path) -> Image.Image:
    """Read an image file and rotate it upright by its EXIF orientation.

    Raises:
        ResnetlabError: the file cannot be read as an image.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise ResnetlabError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise ResnetlabError(f"{path} is not a readable image ({error}); repair or remove it") from error
    return open_image(data, str(path))


def open_image(data: bytes, name: str, most: int = MOST_PIXELS) -> Image.Image:
    """Decode an image and rotate it upright by its EXIF orientation; `name` is for the error message.

    `most` are the pixels that it may have.

    Raises:
        ResnetlabError: it cannot be read as an image.
    """
    with decoding(name, data, most), Image.open(io.BytesIO(data), formats=FORMATS) as file:
        check_pixels(*file.size, most)
        return upright(file)


@contextmanager
def decoding(name: str, data: bytes = b"?", most: int = MOST_PIXELS) -> Iterator[None]:
    """Turn what Pillow raises for damaged images, which can be any exception, into one error that has `name`.

    Raises:
        ResnetlabError: the image is damaged or too large.
    """
    try:
        yield
    except ResnetlabError as error:
        raise ResnetlabError(f"{name} {error}; make it smaller or remove it") from None
    except Image.DecompressionBombError:
        most //= 10**6
        raise ResnetlabError(f"{name} has more than {most} million pixels; make it smaller or remove it") from None
    except Exception as error:
        unknown = "not an image format that Pillow knows" if data else "the file is empty"
        reason = unknown if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise ResnetlabError(f"{name} is not a readable image ({reason}); repair or remove it") from error


def check_pixels(width: int, height: int, most: int = MOST_PIXELS) -> None:
    """Check the size of an image before it is decoded or scaled to it.

    Raises:
        ResnetlabError: it is too large; the message begins after the image's name.
    """
    if max(width, height) > LONGEST_SIDE or width * height > most:
        raise ResnetlabError(
            f"has {width}x{height} pixels; at most {most // 10**6} million are read, {LONGEST_SIDE:,} a side"
        )


def upright(image: Image.Image) -> Image.Image:
    """A decoded copy of an image, rotated upright by its EXIF orientation; 16 bits become 8.

    Raises:
        OSError, SyntaxError, ValueError: its file is damaged, or has pixels of 32 bits.
    """
    image = ImageOps.exif_transpose(image)
    image.load()
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits instead of scaling them
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("F", "I"):  # Pillow would clip them; their range is not known
        raise ValueError("its pixels are numbers of 32 bits; save it with 8 bits for each colour")
    return image


def fitted(fit: Callable[[Image.Image], T], image: Image.Image, name: str) -> T:
    """What `fit` makes of an image; its errors get the image's name.

    Raises:
        ResnetlabError: the image would be too large.
    """
    try:
        return fit(image)
    except ResnetlabError as error:
        raise ResnetlabError(f"{name} {error}; make it smaller or remove it") from None


def is_image(path: Path) -> bool:
    """Whether a file name has an image suffix and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _pixels(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _by(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
