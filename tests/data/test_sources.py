"""Data sets as users have them, whole and damaged."""

import io
import pickle
import tarfile
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from servers import Ranges
from sklearn.datasets import load_digits

from resnetlab.data.dataset import Dataset, Pixels, pixel_dataset
from resnetlab.data.named import load
from resnetlab.data.preprocessing import Fit
from resnetlab.data.sources.cifar import CIFAR10, CIFAR100, Archive, Cifar, load_cifar
from resnetlab.errors import ResnetlabError


def test_digits_are_scikit_learns() -> None:
    digits = load("digits")
    assert (len(digits.train), len(digits.test), digits.image_shape) == (1297, 500, (1, 8, 8))
    theirs = load_digits()
    both = torch.cat([digits.train.pixels, digits.test.pixels])[..., 0].double() * 16 / 255
    rows = {
        (tuple(image.round().flatten().tolist()), label)
        for image, label in zip(both, torch.cat([digits.train.labels, digits.test.labels]).tolist(), strict=True)
    }
    assert rows == {
        (tuple(image.flatten()), label) for image, label in zip(theirs.images, theirs.target, strict=True)
    }
    assert digits.fingerprint() == "328a0217ab0f8038"  # the split is for ever


def test_validation_images_are_set_apart(tiny: Dataset) -> None:
    part = tiny.with_validation(10)
    assert part.validation is not None
    assert (len(part.train), len(part.validation)) == (38, 10)
    every = torch.cat([part.train.pixels, part.validation.pixels]).flatten(1)
    assert {tuple(x.tolist()) for x in every} == {tuple(x.tolist()) for x in tiny.train.pixels.flatten(1)}
    assert torch.equal(tiny.with_validation(10).train.pixels, part.train.pixels)
    with pytest.raises(ResnetlabError, match="48 training images"):
        tiny.with_validation(48)


# CIFAR's archives, made here in miniature in both versions


@pytest.fixture(params=[CIFAR10, CIFAR100], ids=lambda cifar: cifar.name)
def miniature(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Cifar, Path, dict[str, np.ndarray]]:
    """A data set like the real one, with archives of 3 images a file, and the arrays that are in them."""
    cifar: Cifar = request.param
    random = np.random.default_rng(0)
    files = len(cifar.binary.train) + 1
    pixels = random.integers(0, 256, (files, 3, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, cifar.classes, (files, 3))
    names = [f"class{k}" for k in range(cifar.classes)]
    binary, python = {}, {}
    for k, (file, twin) in enumerate(
        zip((*cifar.binary.train, cifar.binary.test), (*cifar.python.train, cifar.python.test), strict=True)
    ):
        planes = pixels[k].transpose(0, 3, 1, 2).reshape(3, 3072)
        prefix = np.concatenate([np.full((3, cifar.label_bytes - 1), 7), labels[k][:, None]], axis=1)
        binary[file] = np.concatenate([prefix.astype(np.uint8), planes], axis=1).tobytes()
        python[twin] = python2({b"data": planes, cifar.label_key: labels[k].tolist()})
    binary[cifar.binary.names] = "\n".join(names).encode() + b"\n\n"
    python[cifar.python.names] = python2({cifar.names_key: [name.encode() for name in names]})
    made = replace(
        cifar,
        binary=pack(tmp_path, cifar.binary, binary),
        python=pack(tmp_path, cifar.python, python),
    )
    arrays = {"x_train": pixels[:-1], "x_test": pixels[-1], "y_train": labels[:-1], "y_test": labels[-1]}
    return made, tmp_path, arrays


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2's cPickle wrote: text and bytes are one type, and numpy's modules had other names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.write(b"T" + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2(content: dict[bytes, object]) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")


def pack(folder: Path, archive: Archive, files: dict[str, bytes]) -> Archive:
    path = folder / archive.file
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {**files, "../escape.txt": b"no"}.items():
            member = tarfile.TarInfo(f"{archive.folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return replace(archive, md5=md5(path.read_bytes()).hexdigest())


def check_contents(images: Dataset, arrays: dict[str, np.ndarray]) -> None:
    assert np.array_equal(images.train.pixels.numpy(), arrays["x_train"].reshape(-1, 32, 32, 3))
    assert np.array_equal(images.test.pixels.numpy(), arrays["x_test"])
    assert images.train.labels.tolist() == arrays["y_train"].flatten().tolist()
    assert images.test.labels.tolist() == arrays["y_test"].tolist()
    assert images.classes[3] == "class3"


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("packed", [True, False])
def test_both_versions_packed_and_unpacked(miniature, version: str, packed: bool, tmp_path: Path) -> None:
    cifar, folder, arrays = miniature
    archive: Archive = getattr(cifar, version)
    data_dir = tmp_path / "elsewhere"
    data_dir.mkdir()
    if packed:
        (folder / archive.file).rename(data_dir / archive.file)
    else:
        with tarfile.open(folder / archive.file) as tar:
            members = [member for member in tar.getmembers() if ".." not in member.name]
            tar.extractall(data_dir, members)
    before = sorted(data_dir.rglob("*"))
    check_contents(load_cifar(cifar, data_dir, url="http://unused.invalid/"), arrays)
    assert sorted(data_dir.rglob("*")) == before
    assert not (data_dir / "escape.txt").exists()


def test_a_missing_file_is_named(miniature) -> None:
    cifar, folder, _ = miniature
    unpacked = folder / "u" / cifar.binary.folder
    unpacked.mkdir(parents=True)
    with pytest.raises(ResnetlabError, match=f"lacks {cifar.binary.names}"):
        load_cifar(cifar, folder / "u")


def test_a_damaged_archive_is_refused(miniature) -> None:
    cifar, folder, _ = miniature
    path = folder / cifar.binary.file
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ResnetlabError, match=f"{cifar.binary.file} is damaged.*delete it"):
        load_cifar(cifar, folder)


def test_a_pickle_that_would_run_code_is_refused(miniature, tmp_path: Path) -> None:
    cifar, _, _ = miniature
    folder = tmp_path / "evil" / cifar.python.folder
    folder.mkdir(parents=True)
    marker = tmp_path / "ran"
    attack = b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V" + str(marker).encode() + b"\ntRtR."
    for name in (*cifar.python.train, cifar.python.test, cifar.python.names):
        (folder / name).write_bytes(attack)
    with pytest.raises(ResnetlabError, match="would run pathlib"):
        load_cifar(cifar, folder.parent)
    assert not marker.exists()


def test_download_once(miniature, server: str) -> None:
    cifar, folder, arrays = miniature
    for _ in range(2):
        check_contents(load_cifar(cifar, folder / "new", server), arrays)
    assert Ranges.seen == [None]
    assert [p.name for p in (folder / "new").iterdir()] == [cifar.binary.file]


def test_a_broken_download_goes_on_where_it_stopped(miniature, server: str) -> None:
    cifar, folder, arrays = miniature
    (folder / "new").mkdir()
    start = (folder / cifar.binary.file).read_bytes()[:1000]
    (folder / "new" / f"{cifar.binary.file}.part").write_bytes(start)
    check_contents(load_cifar(cifar, folder / "new", server), arrays)
    assert Ranges.seen == ["bytes=1000-"]


def test_a_download_that_is_another_file_is_not_kept(miniature, server: str) -> None:
    cifar, folder, _ = miniature
    (folder / cifar.binary.file).write_bytes(b"404 but with status 200")
    with pytest.raises(ResnetlabError, match="is damaged"):
        load_cifar(cifar, folder / "new", server)
    assert list((folder / "new").iterdir()) == []


def test_no_connection_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ResnetlabError, match="cannot download http://127.0.0.1:9/.*put the file into"):
        load_cifar(CIFAR10, tmp_path, "http://127.0.0.1:9/")


# Folders and arrays


def write_images(folder: Path, count: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for k in range(count):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{k}.png")


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.floats(0.02, 0.9))
def test_validation_has_each_class_by_its_share(sizes: list[int], share: float) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = min(max(1, round(share * len(labels))), len(labels) - 1)
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    names = tuple(f"class {k}" for k in range(len(sizes)))
    both = pixel_dataset("x", (pixels, labels), (pixels, labels), names)
    exact = torch.tensor(sizes) * count / len(labels)
    if max(sizes) == 1:
        with pytest.raises(ResnetlabError, match="each class of x needs its images for training"):
            both.with_validation(count)
        return
    part = both.with_validation(count)
    assert isinstance(part.validation, Pixels)
    found = part.validation.labels.bincount(minlength=len(sizes))
    least = torch.tensor(sizes) - 1  # each class keeps an image
    assert (found <= least).all()
    assert ((found - exact).abs()[exact < least] < 1).all()
    assert (found == least)[exact >= least + 1].all()
    numbers = torch.cat([part.train.pixels, part.validation.pixels])[:, 0, 0, 0]
    assert sorted(numbers.tolist()) == list(range(len(labels)))


def test_three_of_three_classes_have_one_each() -> None:
    labels = np.repeat(np.arange(3), 60)
    pixels = np.arange(180, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    some = pixel_dataset("x", (pixels, labels), (pixels, labels), ("a", "b", "c")).with_validation(3)
    assert some.validation is not None
    assert some.validation.labels.tolist() == [0, 1, 2]


def test_a_split_folder(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for k, name in enumerate(("zebra", "ant")):
            write_images(tmp_path / "animals" / split / name, count, seed=k)
    (tmp_path / "animals" / "train" / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / "animals" / "train" / ".hidden").mkdir()
    images = load(str(tmp_path / "animals"))
    assert images.classes == ("ant", "zebra")
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.test.labels.tolist() == [0, 0, 1, 1]
    expected = np.asarray(Image.open(tmp_path / "animals" / "train" / "zebra" / "0.png"))
    assert np.array_equal(images.train.pixels[3].numpy(), expected)


def test_a_folder_without_a_split_gets_a_stable_one(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b")):
        write_images(tmp_path / "data" / name, 20, seed=k)
    first = load(str(tmp_path / "data"))
    assert (len(first.train), len(first.test)) == (36, 4)
    assert "no split found" in first.note
    held_out = {tuple(x.flatten().tolist()) for x in first.test.pixels}
    (tmp_path / "data").rename(tmp_path / "moved")
    assert {tuple(x.flatten().tolist()) for x in load(str(tmp_path / "moved")).test.pixels} == held_out


def test_sizes_must_agree_or_be_given(tmp_path: Path) -> None:
    write_images(tmp_path / "d" / "a", 3, (8, 8))
    write_images(tmp_path / "d" / "b", 3, (8, 12))
    with pytest.raises(ResnetlabError, match=r"b/\d\.png has 12x8 pixels.*`image_size`"):
        load(str(tmp_path / "d"))
    assert load(str(tmp_path / "d"), fit=Fit.square(6)).image_shape == (3, 6, 6)


@pytest.mark.parametrize("damage", [b"", b"not an image", b"\x89PNG\r\n\x1a\n1234"])
def test_a_broken_image_is_named(tmp_path: Path, damage: bytes) -> None:
    for name in ("a", "b"):
        write_images(tmp_path / "d" / name, 3)
    (tmp_path / "d" / "b" / "1.png").write_bytes(damage)
    with pytest.raises(ResnetlabError, match="1.png is not a readable image"):
        load(str(tmp_path / "d"))


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ResnetlabError, match="has no class folders"):
        load(str(tmp_path))
    write_images(tmp_path / "a", 2)
    (tmp_path / "b").mkdir()
    with pytest.raises(ResnetlabError, match="no images in b"):
        load(str(tmp_path))
    write_images(tmp_path / "s" / "train" / "a", 2)
    write_images(tmp_path / "s" / "train" / "b", 2)
    write_images(tmp_path / "s" / "val" / "a", 2)
    write_images(tmp_path / "s" / "val" / "c", 2)
    with pytest.raises(ResnetlabError, match="only one of train and validation: b, c"):
        load(str(tmp_path / "s"))


def test_arrays(tiny: Dataset, tiny_npz: Path) -> None:
    loaded = load(str(tiny_npz))
    assert loaded.fingerprint() == tiny.fingerprint()
    assert loaded.classes == tiny.classes


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"y_test": None}, "lacks the arrays y_test"),
        ({"x_train": np.zeros((4, 8, 8, 3), np.float32)}, "float32.*expected uint8"),
        ({"x_train": np.zeros((4, 3, 8, 8), np.uint8)}, r"shape \(4, 3, 8, 8\).*height, width, 1 or 3 channels"),
        ({"y_train": np.zeros(3, np.int64)}, "labels are int64 of shape .3,.*one per image"),
        ({"y_train": np.zeros(4, np.float32)}, "labels are float32"),
        ({"y_train": np.array([0, 1, -1, 1])}, "label -1 of image 2 is out of range"),
        ({"y_test": np.array([0, 12])}, "label 12 of image 1 is out of range; there are 2 classes"),
        ({"x_test": np.zeros((2, 9, 8, 3), np.uint8)}, "training images have shape"),
        ({"x_train": np.zeros((0, 8, 8, 3), np.uint8), "y_train": np.zeros(0, np.int64)}, "no images"),
        ({"y_test": np.array([{}, {}], dtype=object)}, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, change: dict[str, np.ndarray | None], hint: str) -> None:
    arrays = {
        "x_train": np.zeros((4, 8, 8, 3), np.uint8),
        "y_train": np.array([0, 1, 0, 1]),
        "x_test": np.zeros((2, 8, 8, 3), np.uint8),
        "y_test": np.array([0, 1]),
        **change,
    }
    path = tmp_path / "x.npz"
    np.savez(path, allow_pickle=True, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(ResnetlabError, match=hint):
        load(str(path))


def test_sources_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(ResnetlabError, match="'cifar-10': did you mean cifar10"):
        load("cifar-10")
    (tmp_path / "x.zip").write_text("")
    with pytest.raises(ResnetlabError, match="neither a folder of images by class nor a .csv or .npz"):
        load(str(tmp_path / "x.zip"))
    (tmp_path / "x.npz").write_text("no zip")
    with pytest.raises(ResnetlabError, match="cannot be read as an .npz"):
        load(str(tmp_path / "x.npz"))


def test_real_pixels(shared: Path) -> None:
    images = load(str(shared / "cifar10-lossless-5k.npz"))
    assert (len(images.train), len(images.test), images.image_shape) == (4000, 1000, (3, 32, 32))


def test_labels_are_checked_against_names() -> None:
    pixels = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(ResnetlabError, match="out of range; there are 1 classes"):
        pixel_dataset("x", (pixels, np.array([0, 1])), (pixels, np.array([0, 0])), ("only",))


def test_fewer_images_and_wrong_labels_are_the_same_each_time(tiny: Dataset) -> None:
    few, fewer = tiny.with_training(24), tiny.with_training(12)
    assert (len(few.train), len(fewer.train), len(tiny.train)) == (24, 12, 48)
    kept = {bytes(image.numpy().tobytes()) for image in few.train.pixels}
    assert all(image.numpy().tobytes() in kept for image in fewer.train.pixels)
    assert few.fingerprint() == tiny.with_training(24).fingerprint() != tiny.fingerprint()
    noisy = tiny.with_training(label_noise=0.25)
    wrong = noisy.train.labels != tiny.train.labels
    assert int(wrong.sum()) == 12
    assert torch.equal(noisy.train.pixels, tiny.train.pixels)
    assert torch.equal(noisy.test.labels, tiny.test.labels)
    assert int(noisy.train.labels.max()) < 4
    assert tiny.with_training() is tiny
    with pytest.raises(ResnetlabError, match="images=49: tiny has 48 training images"):
        tiny.with_training(49)
    several = replace(tiny, train=Pixels(tiny.train.pixels, torch.zeros(48, 4)))
    with pytest.raises(ResnetlabError, match="needs one of several classes per image"):
        several.with_training(label_noise=0.1)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b"]),
        np.array([0.0, np.nan]),
        np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
        np.array([0, 10**12]),
        np.array(3),
        np.array([[0], [1]]),
        np.array([True, False]),
    ],
    ids=["texts", "floats", "dates", "huge", "0-d", "2-d", "bool"],
)
def test_labels_that_cannot_be(tmp_path: Path, labels: np.ndarray) -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=np.array([0, 1]))
    with pytest.raises(ResnetlabError, match="x"):
        load(str(tmp_path / "x.npz"))


def test_classes_that_cannot_be(tmp_path: Path) -> None:
    pixels, labels = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])
    for classes in (np.array("a"), np.array([["a", "b"]])):
        np.savez(tmp_path / "x.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels, classes=classes)
        with pytest.raises(ResnetlabError, match="expected one name per class"):
            load(str(tmp_path / "x.npz"))
