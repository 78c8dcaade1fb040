"""Load a data set by name or by path; named ones have a default recipe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnetlab.choices import OnBad, TaskName
from resnetlab.data.dataset import Dataset
from resnetlab.data.folds import Fold, folded
from resnetlab.data.preprocessing import Fit
from resnetlab.data.sources.annotated import is_annotated, list_annotated
from resnetlab.data.sources.cifar import CIFAR10, CIFAR100, load_cifar
from resnetlab.data.sources.digit_scenes import digit_scenes
from resnetlab.data.sources.digits import digits
from resnetlab.data.sources.layouts import is_listed
from resnetlab.data.sources.resident import decoded, load_folder, load_npz
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.files import resolved


@dataclass(frozen=True)
class Named:
    """A named data set. `load` takes the folder where it is stored or downloaded to."""

    load: Callable[[Path], Dataset]
    recipe: str
    """Default recipe for CIFAR networks."""
    deep_recipe: str
    """Default recipe for 110 layers or more, where the paper uses warm-up (Section 4.2)."""
    downloaded: bool = False
    boxes: bool = False
    network: str | None = None
    """The network that it is shown with."""


NAMED = {
    "digits": Named(lambda data_dir: digits(), "digits", "digits"),
    "digit-scenes": Named(
        lambda data_dir: digit_scenes(), "digit-scenes", "digit-scenes", boxes=True, network="resnet18-narrow4"
    ),
    "cifar10": Named(lambda data_dir: load_cifar(CIFAR10, data_dir), "cifar", "cifar-warmup", downloaded=True),
    "cifar100": Named(lambda data_dir: load_cifar(CIFAR100, data_dir), "cifar", "cifar-warmup", downloaded=True),
}


@dataclass(frozen=True)
class DataSource:
    """Where images come from: a name, or the path of an .npz file, a folder, a .csv, a .tar or a .json file.

    `data_dir` is where named data sets are stored or downloaded to. `image_size` is the side in pixels of the square
    that image files in memory are scaled and cropped to. Unreadable files raise, or are skipped and listed. Images of
    one group stay together where the split is made here; see `find_images`. `fold` tests on a fold of the images.
    """

    name: str
    data_dir: Path = Path("data")
    image_size: int | None = None
    on_bad: OnBad = "stop"
    group_by: str | None = None
    fold: Fold | None = None

    @property
    def stem(self) -> str:
        """The name used in folder names and titles."""
        path = Path(self.name)
        return resolved(path).stem if path.exists() else path.stem

    @property
    def division(self) -> dict[str, Any]:
        """How the images are divided, if not as usual: `group_by` and `fold`."""
        chosen = {"group_by": self.group_by, "fold": self.fold}
        return {name: value for name, value in chosen.items() if value is not None}

    def divided_as(self, said: Mapping[str, Any]) -> "DataSource":
        """The source with the division that a run or a model file states; see `division`."""
        return replace(self, group_by=said.get("group_by"), fold=tuple(said["fold"]) if "fold" in said else None)

    def refuse_unused(self, resident: bool, on_bad: bool, data_dir: bool, workers: bool) -> None:
        """Refuse options that have no effect with this source.

        Raises:
            ResnetlabError: names the option.
        """
        named, path = NAMED.get(self.name), Path(self.name)
        boxes = named.boxes if named else is_annotated(path)
        files = named is None and (boxes or is_listed(path))
        only = "the classification of image files; other images keep their size"
        for option, said, holds, what in (
            ("on_bad", on_bad, files, "image files"),
            ("workers", workers, boxes or not resident, "recipes that read image files during training"),
            ("data_dir", data_dir, named is not None and named.downloaded, "cifar10 and cifar100"),
            ("image_size", self.image_size is not None, files and not boxes, only),
            ("group_by", self.group_by is not None, files and not boxes, "the classification of image files"),
        ):
            if said and not holds:
                raise ResnetlabError(f"`{option}` takes no effect with {self.name}; it is for {what}")

    def load(self, resident: bool = True) -> Dataset:
        """The data set in memory, or as files that are read, scaled and cropped on demand. With boxes it is files.

        Raises:
            ResnetlabError: it cannot be read.
        """
        path = Path(self.name)
        if self.name in NAMED or not is_listed(path) or is_annotated(path):
            found = load(self.name, self.data_dir)
            found = folded(found, self.fold) if self.fold else found
        else:
            found = list_images(path, self.group_by, self.fold)
            if resident:
                fit = Fit.square(self.image_size) if self.image_size else None
                found = decoded(found, path, fit, self.on_bad)
        return found.as_files() if found.resident and not resident else found


def task_for(source: str) -> TaskName:
    """The task that a data set is for: detection if it has boxes."""
    boxes = NAMED[source].boxes if source in NAMED else is_annotated(Path(source))
    return "detection" if boxes else "classification"


def has_own_images(source: str) -> bool:
    """Whether a data set is image files by class that the user has, not a named one, arrays, or images with boxes."""
    path = Path(source)
    return source not in NAMED and is_listed(path) and not is_annotated(path)


def data_for(task: TaskName | None) -> str:
    """The data set that a task is shown on, where none is given.

    Raises:
        ResnetlabError: the task has none.
    """
    if task != "detection":
        raise ResnetlabError("give the data with `data`, e.g. digits or a folder of images by class")
    return next(name for name, named in NAMED.items() if named.boxes)


def network_for(source: str) -> str | None:
    """The network that a named data set is shown with, where none is given."""
    return NAMED[source].network if source in NAMED else None


def refuse_unknown(source: str) -> None:
    """
    Raises:
        ResnetlabError: `source` is neither the name of a data set nor a path that exists.
    """
    if source not in NAMED and not Path(source).exists():
        raise ResnetlabError(f"there is no data set, file or folder {source!r}: {near_matches(source, NAMED)}")


def load(source: str, data_dir: Path = Path("data"), fit: Fit | None = None, on_bad: OnBad = "stop") -> Dataset:
    """Load a data set into memory, by name or from an .npz file, a folder, a .csv or a .tar file; list boxes.

    `data_dir` is where named data sets are stored or downloaded to; `fit` scales and crops images of any size.

    Raises:
        ResnetlabError: `source` is neither a name nor a path; see also the loaders.
    """
    if source in NAMED:
        return NAMED[source].load(data_dir)
    refuse_unknown(source)
    path = Path(source)
    if is_annotated(path):
        return list_annotated(path)
    if is_listed(path):
        return load_folder(path, fit, on_bad)
    if path.is_file() and path.suffix == ".npz":
        return load_npz(path)
    raise ResnetlabError(f"{path} is neither a folder of images by class nor a .csv or .npz or .tar or .json file")
