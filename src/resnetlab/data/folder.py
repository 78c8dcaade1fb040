"""Images of one's own, small enough to be resident: a folder by class, or an .npz file of arrays."""

import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from resnetlab.data.images import ImageSet, image_set
from resnetlab.data.layouts import File
from resnetlab.data.listing import list_images
from resnetlab.data.preprocessing import Fit, open_image
from resnetlab.errors import ResnetlabError


def load_folder(folder: Path, fit: Fit | None = None) -> ImageSet:
    """RGB images of any layout that `list_images` knows, decoded. With `fit`, images of any size are fitted.

    Raises:
        ResnetlabError: see `list_images`; a file that is not an image, images of different sizes and no `fit`.
    """
    found = list_images(folder)
    splits = [found.train, found.test] + ([found.validation] if found.validation is not None else [])
    pixels = _decode_all([file for split in splits for file in split.files], fit)
    ends = np.cumsum([len(split) for split in splits])[:-1]
    parts = [(part, split.labels) for part, split in zip(np.split(pixels, ends), splits, strict=True)]
    images = image_set(found.name, parts[0], parts[1], found.classes, found.note)
    if found.validation is not None:
        held_out = image_set(found.name, parts[2], parts[2], found.classes).train
        images = replace(images, validation=held_out)
    return images


def load_npz(path: Path) -> ImageSet:
    """Arrays `x_train, y_train, x_test, y_test` (uint8 images, whole-number labels), optionally `classes`.

    Raises:
        ResnetlabError: an unreadable file, missing arrays, wrong types or shapes, labels out of range.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ResnetlabError(f"{path} cannot be read as an .npz file: {error}") from error
    if missing := {"x_train", "y_train", "x_test", "y_test"} - arrays.keys():
        raise ResnetlabError(f"{path} lacks the arrays {', '.join(sorted(missing))}; it has {', '.join(arrays)}")
    if "classes" in arrays:
        classes = tuple(str(name) for name in arrays["classes"])
    else:
        labels = arrays["y_train"]
        classes = tuple(str(k) for k in range(int(labels.max()) + 1 if labels.size else 0))
    train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    return image_set(path.stem, train, test, classes, note="the file's split")


def _decode_all(files: list[File], fit: Fit | None) -> np.ndarray:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(lambda file: _decode(file, fit), files)
        bar = track(decoded, "reading images", total=len(files), transient=True, disable=not sys.stdout.isatty())
        images = iter(bar)
        first = next(images)
        pixels = np.empty((len(files), *first.shape), np.uint8)
        pixels[0] = first
        for k, image in enumerate(images, 1):
            if image.shape != first.shape:
                raise ResnetlabError(
                    f"{files[k].path} has {image.shape[1]}x{image.shape[0]} pixels, {files[0].path} "
                    f"{first.shape[1]}x{first.shape[0]}; give one size for all with --image-size"
                )
            pixels[k] = image
    return pixels


def _decode(file: File, fit: Fit | None) -> np.ndarray:
    image = open_image(file.read(), file.path)
    return fit(image) if fit else np.asarray(image.convert("RGB"))
