"""The classes of images, decoded by threads while the network runs."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from PIL import Image

from resnetlab.data.ahead import in_order
from resnetlab.data.preprocessing import decoding, fitted, is_image, read_image, upright
from resnetlab.errors import ResnetlabError, refuse_below_one
from resnetlab.inference.engines import Engine, open_engine
from resnetlab.models.modelfile import Model

AHEAD = 4  # batches that are decoded while one is run
AnyImage = Path | str | Image.Image | np.ndarray
"""A file, a Pillow image, or uint8 pixels (h, w, c) or (h, w)."""
Source = TypeVar("Source", bound=Path | Image.Image)
Pixels = TypeVar("Pixels")


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image and their probabilities, likeliest first.

    `path` is the image's file; None for an image that is not one. `unfamiliar` is whether it is unlike the training
    images; None if the model cannot say.
    """

    path: Path | None
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    unfamiliar: bool | None = None

    @classmethod
    def of_logits(
        cls,
        path: Path | None,
        logits: Float[np.ndarray, "all"],
        classes: tuple[str, ...],
        top: int,
        unfamiliar: bool | None = None,
    ) -> "Prediction":
        """The `top` classes by logit, of equal logits the lowest class first, as in evaluation."""
        wide = logits.astype(np.float64)
        exponents = np.exp(wide - wide.max())
        order = np.argsort(-logits, kind="stable")[:top]
        shares = exponents[order] / exponents.sum()
        return cls(path, tuple(classes[k] for k in order), tuple(map(float, shares)), unfamiliar)


@dataclass(frozen=True)
class Unreadable:
    """A file or Pillow image that cannot be read, and why."""

    path: Path | None
    reason: str


def find_images(places: Iterable[Path]) -> list[Path]:
    """Files as they are given, and the images in folders, at any depth, by name.

    Raises:
        ResnetlabError: a folder without images, or nothing at all.
    """
    found: list[Path] = []
    for place in places:
        inside = sorted(path for path in place.rglob("*") if is_image(path)) if place.is_dir() else [place]
        if not inside:
            raise ResnetlabError(f"{place} has no images; expected files such as .jpg or .png in it")
        found += inside
    if not found:
        raise ResnetlabError("no images are given; name files, or folders of them")
    return found


def predict(
    model: Engine | Model | os.PathLike[str] | str,
    images: AnyImage | Iterable[AnyImage],
    *,
    top: int = 5,
    batch_size: int = 8,
    workers: int | None = None,
) -> Iterator[Prediction | Unreadable]:
    """The `top` classes of one image or of each of several, in their order; unreadable files do not stop the others.

    `model` is an engine, or what `open_engine` opens with its defaults. Images are files, a folder of them, Pillow
    images or uint8 arrays, prepared as the model wants them and read ahead by `workers` threads. Classes are ranked
    by logit, of equal logits the lowest number first; probabilities are from 0 to 1.

    Raises:
        ResnetlabError: the model cannot be opened, an array is not the pixels of an image, or a folder has no images.
    """
    refuse_below_one(top=top, batch_size=batch_size, workers=workers)
    engine = model if isinstance(model, Engine) else open_engine(model)
    if is_single(images):
        images = [images]  # type: ignore[list-item]
    elif isinstance(images, Path | str):
        images = find_images([Path(images)])
    several: Iterable[AnyImage] = images  # type: ignore[assignment]
    return _predictions(engine, score(engine, map(_source, several), batch_size, workers), top)


def is_single(images: object) -> bool:
    """Whether it is one image, and not several or a folder of them."""
    if isinstance(images, Path | str):
        return not Path(images).is_dir()
    return isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)


def score(
    engine: Engine, images: Iterable[Source], batch_size: int = 8, workers: int | None = None
) -> Iterator[tuple[Source, np.ndarray | str]]:
    """What the engine gives of each image in order, or the reason why a file is no image."""
    for batch in read_batches(engine.fit, images, batch_size, workers):
        readable = [pixels for _, pixels in batch if not isinstance(pixels, str)]
        logits = iter(engine.run(np.stack(readable)) if readable else ())
        for image, pixels in batch:
            yield image, pixels if isinstance(pixels, str) else next(logits)


def read_batches(
    fit: Callable[[Image.Image], Pixels], images: Iterable[Source], batch_size: int, workers: int | None = None
) -> Iterator[list[tuple[Source, Pixels | str]]]:
    """What `fit` makes of images, in order and in batches, read ahead by threads; or why a file is no image."""

    def read(image: Source) -> tuple[Source, Pixels | str]:
        try:
            if isinstance(image, Path):
                return image, fitted(fit, read_image(image), str(image))
            with decoding("the image"):
                shown = upright(image)
            return image, fitted(fit, shown, "the image")
        except ResnetlabError as error:
            return image, str(error)

    found = in_order(read, images, workers or os.cpu_count() or 1, AHEAD * batch_size)
    while batch := list(islice(found, batch_size)):
        yield batch


def _predictions(
    engine: Engine, scored: Iterable[tuple[Path | Image.Image, np.ndarray | str]], top: int
) -> Iterator[Prediction | Unreadable]:
    count, limit = len(engine.classes), engine.limit
    for image, outputs in scored:
        path = image if isinstance(image, Path) else None
        if isinstance(outputs, str):
            yield Unreadable(path, outputs)
            continue
        unfamiliar = None if limit is None else bool(outputs[count] > limit)
        yield Prediction.of_logits(path, outputs[:count], engine.classes, top, unfamiliar)


def _source(image: object) -> Path | Image.Image:
    """A file or a Pillow image, which pixels become."""
    if isinstance(image, Path | Image.Image):
        return image
    if isinstance(image, str):
        return Path(image)
    if not isinstance(image, np.ndarray):
        raise ResnetlabError(
            f"cannot read a {type(image).__name__}; expected a path, a Pillow image or a uint8 array"
        )
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ResnetlabError(
            f"an array of {image.dtype} and shape {image.shape} is no image; "
            "expected uint8 from 0 to 255 of shape (height, width, channels) or (height, width)"
        )
    return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
