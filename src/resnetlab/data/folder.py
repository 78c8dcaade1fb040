"""Images of one's own, small enough to be resident: a folder by class, or an .npz file of arrays."""

import hashlib
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.progress import track

from resnetlab.data.images import ImageSet, image_set
from resnetlab.data.preprocessing import Fit, is_image, read_image
from resnetlab.errors import ResnetlabError

TEST_SHARE = 0.1
LAYOUT = "<class>/*.jpg, or train/<class>/*.jpg and test/<class>/*.jpg"


def load_folder(folder: Path, fit: Fit | None = None) -> ImageSet:
    """RGB images from `<class>/*`, or from `train/<class>/*` and `test/<class>/*` (or `val/`).

    Classes are numbered in the order of their sorted names. With `fit`, images of any size
    are resized and cropped. Without a split, the tenth of each class whose paths
    hash lowest is the test set: stable when images are added.

    Raises:
        ResnetlabError: no class folders, classes that differ between splits, a file that is not an image,
            images of different sizes and no `fit`.
    """
    test_folder = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and test_folder:
        train, test = _by_class(folder / "train"), _by_class(test_folder)
        if train.keys() != test.keys():
            odd = ", ".join(sorted(train.keys() ^ test.keys()))
            raise ResnetlabError(f"{folder}: these classes are in only one of train and {test_folder.name}: {odd}")
        note = f"split by folder: train and {test_folder.name}"
    else:
        by_class = _by_class(folder)
        train, test = {}, {}
        for name, paths in by_class.items():
            ranked = sorted(
                paths, key=lambda path: hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest()
            )
            count = max(1, round(TEST_SHARE * len(ranked)))
            if len(ranked) < 2:
                raise ResnetlabError(f"{folder / name} has one image; a class needs two, one of them for testing")
            train[name], test[name] = sorted(ranked[count:]), sorted(ranked[:count])
        note = f"no split found: {TEST_SHARE:.0%} of each class set apart for testing, chosen by a hash of the path"
    classes = tuple(sorted(train))
    return image_set(folder.resolve().name, _decode_all(train, fit), _decode_all(test, fit), classes, note)


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


def _by_class(folder: Path) -> dict[str, list[Path]]:
    classes = {
        entry.name: sorted(path for path in entry.rglob("*") if is_image(path))
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }
    if len(classes) < 2:
        raise ResnetlabError(f"{folder} has {len(classes) or 'no'} class folders; expected {LAYOUT}")
    if empty := [name for name, paths in classes.items() if not paths]:
        raise ResnetlabError(f"{folder}: no images in {', '.join(empty)}; expected {LAYOUT}")
    return classes


def _decode_all(by_class: dict[str, list[Path]], fit: Fit | None) -> tuple[np.ndarray, np.ndarray]:
    paths = [path for name in sorted(by_class) for path in by_class[name]]
    labels = np.repeat(np.arange(len(by_class)), [len(by_class[name]) for name in sorted(by_class)])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(lambda path: _decode(path, fit), paths)
        images = list(
            track(decoded, "reading images", total=len(paths), transient=True, disable=not sys.stdout.isatty())
        )
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise ResnetlabError(
                f"{path} has {image.shape[1]}x{image.shape[0]} pixels, {paths[0]} "
                f"{images[0].shape[1]}x{images[0].shape[0]}; give one size for all with --image-size"
            )
    return np.stack(images), labels


def _decode(path: Path, fit: Fit | None) -> np.ndarray:
    image = read_image(path)
    return fit(image) if fit else np.asarray(image.convert("RGB"))
