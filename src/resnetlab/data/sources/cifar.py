"""Read CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from the official archives without unpacking them."""

import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.data.dataset import Dataset, pixel_dataset
from resnetlab.data.download import check, download
from resnetlab.errors import ResnetlabError

URL = "https://www.cs.toronto.edu/~kriz/"
Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Archive:
    """One official archive: the hash from the data set's web page, and its files."""

    file: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str


@dataclass(frozen=True)
class Cifar:
    """A data set in its binary and Python versions; the label is the last of `label_bytes`, or under `label_key`."""

    name: str
    classes: int
    label_bytes: int
    label_key: bytes
    names_key: bytes
    binary: Archive
    python: Archive


CIFAR10 = Cifar(
    name="cifar10",
    classes=10,
    label_bytes=1,
    label_key=b"labels",
    names_key=b"label_names",
    binary=Archive(
        "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        "cifar-10-batches-bin",
        tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
        "test_batch.bin",
        "batches.meta.txt",
    ),
    python=Archive(
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
        tuple(f"data_batch_{k}" for k in range(1, 6)),
        "test_batch",
        "batches.meta",
    ),
)
CIFAR100 = Cifar(
    name="cifar100",
    classes=100,
    label_bytes=2,
    label_key=b"fine_labels",
    names_key=b"fine_label_names",
    binary=Archive(
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        "cifar-100-binary",
        ("train.bin",),
        "test.bin",
        "fine_label_names.txt",
    ),
    python=Archive(
        "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", "cifar-100-python", ("train",), "test", "meta"
    ),
)


def load_cifar(cifar: Cifar, data_dir: Path, url: str = URL) -> Dataset:
    """Read either version, packed or unpacked, from `data_dir`; if there is none, download the binary version.

    Raises:
        ResnetlabError: no connection, a damaged archive, or a folder with missing files.
    """
    for archive, decode in ((cifar.binary, _decode_binary), (cifar.python, _decode_python)):
        if (path := data_dir / archive.file).exists():
            return decode(cifar, archive, _packed(path, archive))
        if (data_dir / archive.folder).is_dir():
            return decode(cifar, archive, _unpacked(data_dir / archive.folder))
    archive = cifar.binary
    path = download(url + archive.file, data_dir / archive.file, f"md5:{archive.md5}")
    return _decode_binary(cifar, archive, _packed(path, archive))


def _packed(path: Path, archive: Archive) -> Read:
    """Read the needed members of the archive by name; nothing is written to disk, so unsafe paths do no harm."""
    check(path, f"md5:{archive.md5}")
    wanted = {f"{archive.folder}/{name}": name for name in (*archive.train, archive.test, archive.names)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name in wanted and (file := tar.extractfile(member)):
                    found[wanted[member.name]] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ResnetlabError(f"{path} cannot be read as an archive ({error}); delete it and try again") from error
    if missing := set(wanted.values()) - set(found):
        raise ResnetlabError(f"{path} lacks {', '.join(sorted(missing))}; delete it and try again")
    return found.__getitem__


def _unpacked(folder: Path) -> Read:
    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            raise ResnetlabError(f"{folder} lacks {name}; unpack the archive again, or remove the folder") from None

    return read


def _decode_binary(cifar: Cifar, archive: Archive, read: Read) -> Dataset:
    """Records of label bytes and 3,072 pixel values: the red, green and blue planes."""
    length = cifar.label_bytes + 3072

    def decode(name: str) -> tuple[np.ndarray, np.ndarray]:
        data = np.frombuffer(read(name), np.uint8)
        if data.size % length:
            raise ResnetlabError(f"{name} of {cifar.name} is damaged: {data.size} bytes, not a multiple of {length}")
        records = data.reshape(-1, length)
        return _planes_last(records[:, cifar.label_bytes :]), records[:, cifar.label_bytes - 1].astype(np.int64)

    names = read(archive.names).decode().split()
    return _assemble(cifar, names, [decode(name) for name in archive.train], decode(archive.test))


def _decode_python(cifar: Cifar, archive: Archive, read: Read) -> Dataset:
    """Python 2 pickles of dictionaries with one array of pixels and one list of labels."""

    def decode(name: str, *keys: bytes) -> list[Any]:
        try:
            content = ArraysOnly(io.BytesIO(read(name)), encoding="bytes").load()
            return [content[key] for key in keys]
        except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, IndexError) as error:
            raise ResnetlabError(f"{name} of {cifar.name} is damaged: {error}; download the archive again") from error

    def batch(name: str) -> tuple[np.ndarray, np.ndarray]:
        planes, labels = decode(name, b"data", cifar.label_key)
        return _planes_last(planes), np.asarray(labels, np.int64)

    (names,) = decode(archive.names, cifar.names_key)
    decoded = [name.decode() for name in names]
    return _assemble(cifar, decoded, [batch(name) for name in archive.train], batch(archive.test))


class ArraysOnly(pickle.Unpickler):
    """Unpickle plain containers and NumPy arrays, and refuse all other code that a pickle could run."""

    def find_class(self, module: str, name: str) -> object:
        """Allow the three names that a pickled array uses."""
        if (name, module.replace("numpy._core", "numpy.core")) == ("_reconstruct", "numpy.core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it would run {module}.{name}")


def _planes_last(planes: np.ndarray) -> np.ndarray:
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _assemble(
    cifar: Cifar, names: list[str], train: list[tuple[np.ndarray, np.ndarray]], test: tuple[np.ndarray, np.ndarray]
) -> Dataset:
    if len(names) != cifar.classes:
        raise ResnetlabError(
            f"{cifar.name} has {len(names)} class names, expected {cifar.classes}; download it again"
        )
    pixels, labels = (np.concatenate([batch[k] for batch in train]) for k in (0, 1))
    return pixel_dataset(cifar.name, (pixels, labels), test, tuple(names))
