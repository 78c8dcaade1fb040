"""A model tested on a data set by a protocol: images as its file says, labels by the names of classes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from resnetlab.choices import OnBad, SplitName, TestPrecision
from resnetlab.data.dataset import Dataset, Files, Split, joined
from resnetlab.data.named import DataSource
from resnetlab.data.preprocessing import Fit
from resnetlab.data.reading import read_each
from resnetlab.data.sources.layouts import find_images, is_listed
from resnetlab.data.sources.resident import decoded
from resnetlab.data.sources.splitting import split_images
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.class_order import by_name
from resnetlab.evaluation.protocol import Protocol
from resnetlab.evaluation.scores import Scored, score
from resnetlab.files import resolved
from resnetlab.models.modelfile import Model
from resnetlab.models.onnxfile import OnnxModel
from resnetlab.training.distributed import World, summed

NO_TEST = "images that the model was trained on are among these: this is no test"
Numbered = tuple[int, list[np.ndarray]]
Watch = Callable[[Iterable[Numbered]], Iterable[Numbered]]


@dataclass(frozen=True)
class EvaluationSet:
    """Images of one split of a data set to test a model on; `skipped` gains the files that cannot be read."""

    data: str
    note: str
    split: SplitName
    classes: tuple[str, ...]
    images: Split
    fit: Fit
    on_bad: OnBad = "stop"
    workers: int | None = None
    skipped: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names, for people."""
        if isinstance(self.images, Files):
            return self.images.names
        return tuple(f"{self.split} {name}" for name in self.images.names)

    @property
    def labels(self) -> Int64[Tensor, "n"]:
        """The true classes."""
        return self.images.labels

    def pixels(self, number: int) -> np.ndarray:
        """One image as the model sees it."""
        return self.fit(self.images.open(number))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def pixels_of(self, name: str) -> np.ndarray:
        """The image of a name as the model sees it."""
        return self.pixels(self._numbers[name])

    def about(self, read: int) -> dict[str, Any]:
        """What scores of these images say of them, of which so many could be read."""
        return {"data": self.data, "split": self.split, "note": self.note, "unreadable": len(self) - read}

    def cut(self, protocol: Protocol, numbers: Int64[Tensor, "k"]) -> Iterator[Numbered]:
        """The parts that a protocol cuts of the images of some numbers."""
        for k, parts in read_each(self.images[numbers], protocol.cut, self.workers, self.on_bad, self.skipped):
            yield int(numbers[k]), parts


def images_for(
    model: Model | OnnxModel,
    source: str,
    data_dir: Path = Path("data"),
    split: SplitName | None = None,
    on_bad: OnBad = "stop",
    workers: int | None = None,
) -> EvaluationSet:
    """The test images of a data set, for a model.

    The validation images that were held out in training are those of its data. Without `split` they are the test
    images; or all, where the data has no split and the model was not trained here, so that none of them can be its
    training images.

    Raises:
        ResnetlabError: they cannot be read, have no such split, or do not fit the model.
    """
    path, fit = Path(source), model.fit
    where = _as_in_training(DataSource(source, data_dir), model)
    if is_listed(path):
        found = find_images(path, where.group_by)
        if split is None:
            split = "test" if found.is_split or "data" in model.provenance else "all"
        if split == "all" and not found.is_split:
            classes, files = found.all()
            if not len(files):
                split_images(found, path)  # says what is expected
            name = resolved(path).stem
            warning = NO_TEST if _is_of(model, name) else ""
            return EvaluationSet(name, warning, split, classes, files, fit, on_bad, workers)
        dataset = split_images(found, path, where.fold)
    else:
        dataset = where.load()
        if model.provenance.get("recipe", {}).get("crop", "padded") == "padded":
            _refuse_other_sizes(dataset, fit)
    warning = _trained_on(dataset, split or "test", model) if _is_of(model, dataset.name) else ""
    held = model.provenance.get("recipe", {}).get("validation", 0)
    if held and split in ("train", "validation") and _is_of(model, dataset.name):
        dataset = dataset.with_validation(held)  # the same images as in training
    chosen = _chosen(dataset, split or "test")
    note = "; ".join(filter(None, ("" if split == "all" else dataset.note, warning)))
    return EvaluationSet(dataset.name, note, split or "test", dataset.classes, chosen, fit, on_bad, workers)


def evaluate(
    model: Model,
    images: EvaluationSet,
    protocol: Protocol,
    device: torch.device,
    *,
    precision: TestPrecision = "float32",
    pixels: int | None = None,
    watch: Watch = iter,
    about: dict[str, Any] | None = None,
) -> tuple[Scored, str]:
    """Scores of all images by a protocol, in the order of the images, and a remark on names of classes.

    Connected processes of torchrun take a share each, and all get the same scores. Images that cannot be read are
    left out. `watch` wraps what this process reads, for progress.

    Raises:
        ResnetlabError: classes that the model has not, an image that cannot be read, or none that can.
    """
    table, remark = by_name(torch.arange(len(images.classes)), images.classes, model.classes)
    here = World.connected()
    numbers, seen = torch.arange(here.rank, len(images), here.size), torch.zeros(len(images))

    def cut() -> Iterator[Numbered]:
        for number, parts in watch(images.cut(protocol, numbers)):
            seen[number] = 1
            yield number, parts

    found = score(model, protocol, cut(), len(images), device, precision=precision, pixels=pixels)
    found, read = protocol.logits(summed(found)).cpu(), summed(seen.to(device)).cpu() > 0
    if not read.any():
        raise ResnetlabError(f"{images.data}: none of the images can be read")
    names = tuple(name for name, is_read in zip(images.names, read.tolist(), strict=True) if is_read)
    way = protocol.about if precision == "float32" else f"{protocol.about}, {precision}"
    said = {"network": model.architecture.name, "protocol": way, **images.about(len(names))}
    if model.trust is not None and protocol.name == "center":
        said |= {"temperature": model.temperature}
    return Scored(found[read], table[images.labels][read], names, model.classes, said | (about or {})), remark


def _chosen(dataset: Dataset, split: SplitName) -> Split:
    splits = dataset.splits
    if split == "all":
        return joined([splits[name] for name in ("test", "train", "validation") if name in splits])
    if split not in splits:
        raise ResnetlabError(f"{dataset.name} has no validation images; take `split=test`, train or all")
    return splits[split]


def _is_of(model: Model | OnnxModel, name: str) -> bool:
    """Whether the model was trained on data of this name."""
    return bool(model.provenance.get("data", {}).get("name") == name)


def _trained_on(dataset: Dataset, split: SplitName, model: Model | OnnxModel) -> str:
    """A warning if images that the model was trained on may be among those of a split of its training data."""
    if split in ("train", "all"):
        return NO_TEST
    if dataset.automatic and split == "test" and not _is_unchanged(dataset, model):
        return "the images are others than in training, so that some of these may have been trained on"
    return ""


def _is_unchanged(dataset: Dataset, model: Model | OnnxModel) -> bool:
    """Whether a data set is, in the storage that the training chose, the one that the model was trained on."""
    recipe = model.provenance.get("recipe", {})
    if recipe.get("crop", "padded") == "padded" and not dataset.resident:
        dataset = decoded(dataset, Path(dataset.name), Fit.square(model.fit.crop[0]), "skip")
    dataset = dataset.with_validation(recipe.get("validation", 0))
    dataset = dataset.with_training(recipe.get("images", 0), recipe.get("label_noise", 0.0))
    return bool(dataset.fingerprint() == model.provenance["data"].get("fingerprint"))


def _as_in_training(source: DataSource, model: Model | OnnxModel) -> DataSource:
    """The source, divided as in training if it is the training data, by its name or, if moved, by its content."""
    divided = source.divided_as(model.provenance.get("data", {}))
    if divided == source or _is_of(model, source.stem):
        return divided
    try:
        return divided if _is_unchanged(divided.load(not is_listed(Path(source.name))), model) else source
    except ResnetlabError:  # e.g. names that the pattern of the groups does not match
        return source


def _refuse_other_sizes(dataset: Dataset, fit: Fit) -> None:
    """Arrays are taken as they are."""
    if dataset.image_shape != fit.image_shape:
        raise ResnetlabError(
            f"{dataset.name} has images of shape {dataset.image_shape}, the model takes {fit.image_shape} (channels, "
            "height, width); both must agree, for arrays are not resized"
        )
