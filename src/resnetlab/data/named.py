"""Load a data set by name or by path; named ones have a default recipe."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resnetlab.choices import OnBad
from resnetlab.data.dataset import Dataset
from resnetlab.data.preprocessing import Fit
from resnetlab.data.sources.cifar import CIFAR10, CIFAR100, load_cifar
from resnetlab.data.sources.digits import digits
from resnetlab.data.sources.layouts import is_listed
from resnetlab.data.sources.resident import load_folder, load_npz
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError, near_matches


@dataclass(frozen=True)
class Named:
    """A named data set. `load` takes the folder where it is stored or downloaded to."""

    load: Callable[[Path], Dataset]
    recipe: str
    """Default recipe for CIFAR networks."""
    deep_recipe: str
    """Default recipe for 110 layers or more, where the paper uses warm-up (Section 4.2)."""


NAMED = {
    "digits": Named(lambda data_dir: digits(), "digits", "digits"),
    "cifar10": Named(lambda data_dir: load_cifar(CIFAR10, data_dir), "cifar", "cifar-warmup"),
    "cifar100": Named(lambda data_dir: load_cifar(CIFAR100, data_dir), "cifar", "cifar-warmup"),
}


@dataclass(frozen=True)
class DataSource:
    """Where images come from: a name, or the path of an .npz file, a folder, a .csv or a .tar file.

    `data_dir` is where named data sets are stored or downloaded to. `image_size` is the side in pixels of the square
    that image files in memory are scaled and cropped to. Unreadable files raise, or are skipped and listed.
    """

    name: str
    data_dir: Path = Path("data")
    image_size: int | None = None
    on_bad: OnBad = "stop"

    @property
    def stem(self) -> str:
        """The name used in folder names and titles."""
        path = Path(self.name)
        return path.resolve().stem if path.exists() else path.stem

    def refuse_unused(self, resident: bool, on_bad: bool, data_dir: bool, workers: bool) -> None:
        """Refuse options that have no effect with this source.

        Raises:
            ResnetlabError: names the option.
        """
        files = self.name not in NAMED and is_listed(Path(self.name))
        for option, said, holds, what in (
            ("on_bad", on_bad, files, "image files"),
            ("workers", workers, not resident, "image files"),
            ("data_dir", data_dir, self.name in NAMED and self.name != "digits", "cifar10 and cifar100"),
            ("image_size", self.image_size is not None, files, "image files; other images keep their size"),
        ):
            if said and not holds:
                raise ResnetlabError(f"`{option}` takes no effect with {self.name}; it is for {what}")

    def load(self, resident: bool = True) -> Dataset:
        """The data set in memory, or as files that are read, scaled and cropped on demand.

        Raises:
            ResnetlabError: it cannot be read.
        """
        if resident:
            fit = Fit.square(self.image_size) if self.image_size else None
            return load(self.name, self.data_dir, fit, self.on_bad)
        path = Path(self.name)
        return list_images(path) if is_listed(path) else load(self.name, self.data_dir).as_files()


def load(source: str, data_dir: Path = Path("data"), fit: Fit | None = None, on_bad: OnBad = "stop") -> Dataset:
    """Load a data set into memory, by name or from an .npz file, a folder, a .csv or a .tar file.

    `data_dir` is where named data sets are stored or downloaded to; `fit` scales and crops images of any size.

    Raises:
        ResnetlabError: `source` is neither a name nor a path; see also the loaders.
    """
    if source in NAMED:
        return NAMED[source].load(data_dir)
    path = Path(source)
    if is_listed(path):
        return load_folder(path, fit, on_bad)
    if path.is_file() and path.suffix == ".npz":
        return load_npz(path)
    if path.exists():
        raise ResnetlabError(f"{path} is neither a folder of images by class nor a .csv or .npz or .tar file")
    raise ResnetlabError(f"there is no data set, file or folder {source!r}: {near_matches(source, NAMED)}")
