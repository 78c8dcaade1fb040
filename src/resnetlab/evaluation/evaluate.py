"""A model tested on a data set by a protocol: images as its file says, labels by the names of classes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from resnetlab.data import Images, ImageSet, load
from resnetlab.data.layouts import Split, find_images, is_listed
from resnetlab.data.listing import Listing, as_files, split_images
from resnetlab.data.preprocessing import Fit, open_image
from resnetlab.data.reading import OnBad, read_each
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.labels import by_name
from resnetlab.evaluation.protocol import Protocol
from resnetlab.evaluation.scores import Precision, Scored, score
from resnetlab.models import Model
from resnetlab.training.distributed import World, summed

Part = Literal["test", "validation", "train", "all"]
Cut = Callable[[Image.Image], list[np.ndarray]]
Numbered = tuple[int, list[np.ndarray]]
Watch = Callable[[Iterable[Numbered]], Iterable[Numbered]]


@dataclass(frozen=True)
class EvaluationSet:
    """Images to test on. `cut` gives the parts that a protocol cuts of those of some numbers; `pixels` shows one."""

    data: str
    note: str
    split: Part
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Int64[Tensor, "n"]
    cut: Callable[[Cut, np.ndarray], Iterator[Numbered]]
    pixels: Callable[[int], np.ndarray]
    skipped: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.names)


def images_for(
    model: Model,
    source: str,
    data_dir: Path = Path("data"),
    split: Part | None = None,
    on_bad: OnBad = "stop",
    workers: int | None = None,
) -> EvaluationSet:
    """The test images of a data set, for a model.

    `split` left out is the test split; or all images, where the data has no split and the model was not trained here,
    so that none of them can be its training images.

    Raises:
        ResnetlabError: they cannot be read, have no such split, or do not fit the model.
    """
    path, fit = Path(source), model.preprocessing.fit
    if is_listed(path):
        found = find_images(path)
        if split is None:
            split = "test" if found.is_split or "data" in model.provenance else "all"
        if split == "all" and not found.is_split:
            classes, files = found.all()
            if not len(files):
                split_images(found, path)  # says what is expected
            return _of_files(path.resolve().stem, "", "all", classes, files, fit, on_bad, workers)
        return _of_listing(split_images(found, path), split, fit, on_bad, workers)
    images = load(source, data_dir, fit)
    if model.provenance.get("recipe", {}).get("crop", "padded") != "padded":
        return _of_listing(as_files(images), split or "test", fit, on_bad, workers)
    return _resident(images, model, split or "test")


def evaluate(
    model: Model,
    images: EvaluationSet,
    protocol: Protocol,
    device: torch.device,
    *,
    precision: Precision = "float32",
    pixels: int | None = None,
    watch: Watch = iter,
    about: dict[str, Any] | None = None,
) -> tuple[Scored, str]:
    """Scores of all images by a protocol, in the order of the images, and a remark on names of classes.

    Under torchrun each process takes its share, and all get the same scores. Images that cannot be read are left out.
    `watch` wraps what this process reads, for progress.

    Raises:
        ResnetlabError: classes that the model has not, an image that cannot be read, or none that can.
    """
    table, remark = by_name(torch.arange(len(images.classes)), images.classes, model.classes)
    here = World.here()
    numbers, seen = np.arange(here.rank, len(images), here.size), torch.zeros(len(images))

    def cut() -> Iterator[Numbered]:
        for number, parts in watch(images.cut(protocol.cut, numbers)):
            seen[number] = 1
            yield number, parts

    found = score(model, protocol, cut(), len(images), device, precision=precision, pixels=pixels)
    found, read = summed(found.to(device)).cpu(), summed(seen.to(device)).cpu() > 0
    if not read.any():
        raise ResnetlabError(f"{images.data}: none of the images can be read")
    names = tuple(name for name, is_read in zip(images.names, read.tolist(), strict=True) if is_read)
    said: dict[str, Any] = {
        "network": model.network.architecture.name,
        "data": images.data,
        "split": images.split,
        "note": images.note,
    }
    about_ = protocol.about if precision == "float32" else f"{protocol.about}, {precision}"
    said |= {"protocol": about_, "unreadable": len(images) - len(names)}
    return Scored(found[read], table[images.labels][read], names, model.classes, said | (about or {})), remark


def _of_listing(listing: Listing, split: Part, fit: Fit, on_bad: OnBad, workers: int | None) -> EvaluationSet:
    parts = {"test": listing.test, "train": listing.train, "validation": listing.validation}
    if split == "all":
        held = [part for part in parts.values() if part is not None]
        files = tuple(file for part in held for file in part.files)
        chosen = Split(files, np.concatenate([part.labels for part in held]))
    elif (found := parts[split]) is None:
        raise ResnetlabError(f"{listing.name} has no validation images; take --split test, train or all")
    else:
        chosen = found
    note = "" if split == "all" else listing.note
    return _of_files(listing.name, note, split, listing.classes, chosen, fit, on_bad, workers)


def _of_files(
    name: str,
    note: str,
    split: Part,
    classes: tuple[str, ...],
    files: Split,
    fit: Fit,
    on_bad: OnBad,
    workers: int | None,
) -> EvaluationSet:
    skipped: set[str] = set()

    def cut(parts_of: Cut, numbers: np.ndarray) -> Iterator[Numbered]:
        for k, parts in read_each(files[numbers], parts_of, workers, on_bad, skipped):
            yield int(numbers[k]), parts

    return EvaluationSet(
        name,
        note,
        split,
        classes,
        tuple(file.name for file in files.files),
        torch.from_numpy(files.labels),
        cut,
        lambda k: fit(open_image(files.files[k].read(), files.files[k].path)),
        skipped,
    )


def _resident(images: ImageSet, model: Model, split: Part) -> EvaluationSet:
    """Arrays are taken as they are, for the protocol of one view; others cut and scale them."""
    if images.image_shape != model.preprocessing.image_shape:
        raise ResnetlabError(
            f"{images.name} has images of shape {images.image_shape}, the model takes "
            f"{model.preprocessing.image_shape} (channels, height, width); both must agree, for arrays are not "
            "resized"
        )
    parts = {"test": images.test, "train": images.train}
    if split == "all":
        pairs = [torch.cat(both) for both in zip(*((p.pixels, p.labels) for p in parts.values()), strict=True)]
        chosen = Images(*pairs)
    elif split not in parts:
        raise ResnetlabError(f"{images.name} has no validation images; take --split test, train or all")
    else:
        chosen = parts[split]
    pixels = chosen.pixels.numpy()

    def cut(parts_of: Cut, numbers: np.ndarray) -> Iterator[Numbered]:
        for k in numbers.tolist():
            shown = pixels[k]
            yield k, parts_of(Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown))

    names = tuple(f"{split} {k}" for k in range(len(chosen)))
    note = images.note or ""
    return EvaluationSet(images.name, note, split, images.classes, names, chosen.labels, cut, lambda k: pixels[k])
