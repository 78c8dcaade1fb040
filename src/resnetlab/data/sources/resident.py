"""Load a user's images into memory, from a folder by class or an .npz file of arrays."""

import sys
from collections.abc import Callable
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from resnetlab.choices import OnBad
from resnetlab.data.dataset import Dataset, Files, Pixels, Split, pixel_dataset
from resnetlab.data.preprocessing import Fit
from resnetlab.data.reading import read_each
from resnetlab.data.sources.layouts import MOST_CLASSES
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError
from resnetlab.files import open_regular


def load_folder(folder: Path, fit: Fit | None = None, on_bad: OnBad = "stop") -> Dataset:
    """List and decode RGB images in any layout of `list_images`; see `decoded`."""
    return decoded(list_images(folder), folder, fit, on_bad)


def decoded(found: Dataset, folder: Path, fit: Fit | None = None, on_bad: OnBad = "stop") -> Dataset:
    """Decode the listed images of a folder; `fit` scales and crops images of any size.

    Raises:
        ResnetlabError: an unreadable file that is not skipped, or different sizes without `fit`.
    """
    skipped: set[str] = set()
    splits: dict[str, Split] = {}
    sizes: dict[tuple[int, ...], str] = {}
    for name, split in found.splits.items():
        assert isinstance(split, Files)  # noqa: S101 -- for the type checker
        splits[name] = _decoded(split, f"{folder}, {name}", fit or _as_it_is, on_bad, skipped, sizes)
    return replace(found.with_splits(splits), unreadable=tuple(sorted(skipped)))


def load_npz(path: Path) -> Dataset:
    """Arrays `x_train, y_train, x_test, y_test` (uint8 images, integer labels), optionally `classes`.

    Raises:
        ResnetlabError: an unreadable file, missing arrays, wrong types or shapes, labels out of range.
    """
    try:
        with BufferedReader(open_regular(path)) as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{other[0]} is no array")
    except Exception as error:  # NumPy and zipfile raise anything for damaged files
        raise ResnetlabError(f"{path} cannot be read as an .npz file: {error}") from error
    if missing := {"x_train", "y_train", "x_test", "y_test"} - arrays.keys():
        raise ResnetlabError(f"{path} lacks the arrays {', '.join(sorted(missing))}; it has {', '.join(arrays)}")
    if "classes" in arrays:
        if arrays["classes"].ndim != 1:
            raise ResnetlabError(f"{path}: classes have shape {arrays['classes'].shape}; expected one name per class")
        classes = tuple(str(name) for name in arrays["classes"])
    else:
        labels = arrays["y_train"]
        known = labels.size and np.issubdtype(labels.dtype, np.integer)
        if known and labels.max() >= MOST_CLASSES:
            raise ResnetlabError(f"{path}: label {labels.max():,}; at most {MOST_CLASSES:,} classes are read")
        classes = tuple(str(k) for k in range(int(labels.max()) + 1 if known else 0))
    train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    return replace(pixel_dataset(str(path), train, test, classes, note="the file's split"), name=path.stem)


def _decoded(
    split: Files,
    where: str,
    cut: Callable[[Image.Image], np.ndarray],
    on_bad: OnBad,
    skipped: set[str],
    sizes: dict[tuple[int, ...], str],
) -> Pixels:
    """Decode the images of a split. `sizes` has the first file of each size over all splits."""
    numbers, images = [], []
    read = read_each(split, cut, on_bad=on_bad, skipped=skipped)
    bar = track(read, "reading images", total=len(split), transient=True, disable=not sys.stdout.isatty())
    for number, image in bar:
        path = split.files[number].path
        (first, named), *_ = [*sizes.items(), (image.shape, path)]
        if sizes.setdefault(image.shape, path) != named:
            raise ResnetlabError(
                f"{path} has {image.shape[1]}x{image.shape[0]} pixels, {named} {first[1]}x{first[0]}; "
                "give all images one size with `image_size`"
            )
        numbers.append(number)
        images.append(image)
    if not images:
        raise ResnetlabError(f"{where}: none of the {len(split):,} images can be read")
    return Pixels(torch.from_numpy(np.stack(images)), split.labels[torch.tensor(numbers)])


def _as_it_is(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))
