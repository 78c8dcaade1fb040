"""What networks are trained on, resident in memory as 8-bit pixels."""

from collections.abc import Callable
from pathlib import Path

from resnetlab.data.augment import per_pixel_mean as per_pixel_mean
from resnetlab.data.augment import preprocess as preprocess
from resnetlab.data.cifar import CIFAR10, CIFAR100, load_cifar
from resnetlab.data.digits import digits
from resnetlab.data.folder import load_folder, load_npz
from resnetlab.data.images import Images as Images
from resnetlab.data.images import ImageSet as ImageSet
from resnetlab.data.layouts import is_listed as is_listed
from resnetlab.data.preprocessing import Fit as Fit
from resnetlab.data.preprocessing import Preprocessing as Preprocessing
from resnetlab.data.stream import Stream as Stream
from resnetlab.errors import ResnetlabError, near_matches

NAMED: dict[str, Callable[[Path], ImageSet]] = {
    "digits": lambda data_dir: digits(),
    "cifar10": lambda data_dir: load_cifar(CIFAR10, data_dir),
    "cifar100": lambda data_dir: load_cifar(CIFAR100, data_dir),
}


def load(source: str, data_dir: Path = Path("data"), fit: Fit | None = None) -> ImageSet:
    """A data set by name, from an .npz file, or from a folder or CSV file of images by class.

    `data_dir` is where named data sets are looked for and downloaded to; `fit` is for folders of images of any sizes.

    Raises:
        ResnetlabError: neither a name nor a path, or see the loaders.
    """
    if source in NAMED:
        return NAMED[source](data_dir)
    path = Path(source)
    if is_listed(path):
        return load_folder(path, fit)
    if path.is_file() and path.suffix == ".npz":
        return load_npz(path)
    if path.exists():
        raise ResnetlabError(f"{path} is neither a folder of images by class nor a .csv or .npz or .tar file")
    raise ResnetlabError(f"no data set and no file or folder is called {source!r}: {near_matches(source, NAMED)}")
