"""Splits that do not leak: identical images and groups stay together, each class has its share."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedKFold

from resnetlab.data.dataset import Dataset, File, Files, pixel_dataset, same_content
from resnetlab.data.folds import folded
from resnetlab.data.held_out import hold_out, shares, units
from resnetlab.data.named import DataSource
from resnetlab.data.sources.layouts import find_images
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError


def test_units_are_linked_through_others() -> None:
    assert units(["a", "b", "a", "c", None], [1, 2, 3, 2, None]) == [0, 1, 0, 1, 4]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=6, max_size=60),
    st.integers(0, 5),
    st.floats(0.05, 0.5),
)
def test_units_are_never_divided(images: list[tuple[int, int]], seed: int, share: float) -> None:
    labels, groups = [label for label, _ in images], units([group for _, group in images])
    quota = shares(torch.tensor(labels), max(1, round(share * len(images))))
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    held = hold_out(order, labels, groups, quota)
    assert all(len({held[k] for k in range(len(images)) if groups[k] == unit}) == 1 for unit in set(groups))
    for label, wanted in enumerate(quota):
        inside = [held[k] for k in range(len(images)) if labels[k] == label]
        assert any(inside) >= (wanted > 0)


def test_single_images_fill_the_quota_in_order() -> None:
    labels = [0, 1, 0, 1, 0, 1]
    held = hold_out([5, 4, 3, 2, 1, 0], labels, units(range(6)), [1, 2])
    assert [k for k in range(6) if held[k]] == [3, 4, 5]


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def folder_with_copies(root: Path) -> Path:
    """Two classes of 30 images, each of which is there twice."""
    for number, label in enumerate(("ant", "bee")):
        for k in range(60):
            write(root / label / f"{k:02}.png", 100 * number + k // 2)
    return root


def contents(split: Files) -> set[bytes]:
    return {file.read() for file in split.files}


def test_copies_are_on_one_side_of_each_split(tmp_path: Path) -> None:
    dataset = list_images(folder_with_copies(tmp_path / "insects")).with_validation(20)
    train, test, validation = (contents(split) for split in (dataset.train, dataset.test, dataset.validation))  # type: ignore[arg-type]
    assert not train & test and not train & validation and not test & validation  # noqa: PT018 -- one statement
    assert Counter(dataset.validation.labels.tolist()) == {0: 10, 1: 10}  # type: ignore[union-attr]
    assert Counter(dataset.test.labels.tolist()) == {0: 6, 1: 6}


def test_every_class_keeps_training_images(tmp_path: Path) -> None:
    """Also of many small classes, which cannot all give an image."""
    labels = np.arange(60).repeat(2)
    pixels = np.arange(120, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    whole = pixel_dataset("x", (pixels, labels), (pixels, labels), tuple(map(str, range(60))))
    for count in (6, 59, 60):
        part = whole.with_validation(count)
        assert set(part.train.labels.tolist()) == set(range(60))
        assert len(part.validation.labels) <= count  # type: ignore[union-attr]


def test_equal_arrays_are_on_one_side() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8).repeat(2, 0)
    labels = np.arange(80) // 40
    part = pixel_dataset("x", (pixels, labels), (pixels, labels), ("a", "b")).with_validation(16)
    held = {image.numpy().tobytes() for image in part.validation.pixels}  # type: ignore[union-attr]
    assert len(held) == 8
    assert not held & {image.numpy().tobytes() for image in part.train.pixels}  # type: ignore[union-attr]


def test_content_is_compared_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 9000)
    (tmp_path / "b").write_bytes(b"x" * 8999 + b"y")  # equal size and beginning
    (tmp_path / "c").write_bytes(b"x" * 9000)
    files = [File(name, str(tmp_path / name)) for name in ("a", "b", "c", "missing")]
    keys = same_content(files)
    assert keys[files[0]] == keys[files[2]]
    assert len(set(keys.values())) == 3


def patients(root: Path) -> Path:
    """Ten patients with six images each, of both classes."""
    for patient in range(10):
        for k in range(6):
            write(root / ("ill" if k % 2 else "well") / f"p{patient}_{k}.png", 10 * patient + k)
    return root


def groups_of(split: Files) -> set[str]:
    return {file.group for file in split.files}


def test_groups_by_a_part_of_the_name(tmp_path: Path) -> None:
    dataset = list_images(patients(tmp_path / "x"), r"(p\d)_").with_validation(9)
    assert "groups by `(p\\d)_` in their names stay together" in dataset.split_note
    parts = [groups_of(split) for split in (dataset.train, dataset.test, dataset.validation)]  # type: ignore[arg-type]
    assert set().union(*parts) == {f"p{k}" for k in range(10)}
    assert sum(map(len, parts)) == 10
    assert all(Counter(split.labels.tolist()).keys() == {0, 1} for split in dataset.splits.values())


def test_groups_by_a_column(tmp_path: Path) -> None:
    root = patients(tmp_path / "x")
    with (tmp_path / "x" / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "Patient"])
        rows.writerows([path.relative_to(root), path.parent.name, path.name[:2]] for path in root.rglob("*.png"))
    dataset = list_images(root / "list.csv", "patient")
    assert isinstance(dataset.train, Files)
    assert isinstance(dataset.test, Files)
    assert not groups_of(dataset.train) & groups_of(dataset.test)
    assert "column Patient" in dataset.split_note


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("(", "neither a column of a CSV file nor a regular expression"),
        ("q", "does not match"),
        ("p", "puts all files into one group, 'p'"),
    ],
)
def test_groups_that_cannot_be(tmp_path: Path, group_by: str, message: str) -> None:
    with pytest.raises(ResnetlabError, match=message):
        find_images(patients(tmp_path / "x"), group_by)


def test_a_class_of_one_group_cannot_be_split(tmp_path: Path) -> None:
    for number, label in enumerate(("ant", "bee")):
        for k in range(4):
            write(tmp_path / label / f"{'only' if number else k}_{k}.png", 10 * number + k)
    with pytest.raises(ResnetlabError, match="class bee has 4 files of the same content or group"):
        list_images(tmp_path, "([^/]+)_")


def test_folds_test_each_image_once(tmp_path: Path) -> None:
    whole = list_images(patients(tmp_path / "x"), r"(p\d)_")
    folds = [folded(whole, (k, 5)) for k in range(1, 6)]
    names = Counter(name for part in folds for name in part.test.names)
    assert sorted(names) == sorted(whole.train.names + whole.test.names)
    assert set(names.values()) == {1}
    for part in folds:
        assert isinstance(part.train, Files)
        assert isinstance(part.test, Files)
        assert not groups_of(part.train) & groups_of(part.test)
        assert part.fingerprint() != whole.fingerprint()


def arrays(count: int = 40) -> Dataset:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    return pixel_dataset("x", (pixels, np.arange(count) % 4), (pixels + 100, np.arange(count) % 4), tuple("abcd"))


def test_folds_of_data_with_its_own_split_are_of_the_training_images() -> None:
    whole = arrays()
    part = folded(whole, (2, 4))
    assert "the data's own test images are not used" in part.split_note
    _, expected = list(StratifiedKFold(4, shuffle=True, random_state=0).split(np.zeros(40), whole.train.labels))[1]
    assert part.test.labels.tolist() == whole.train.labels[expected].tolist()
    assert part.test.pixels.flatten(1)[:, 0].tolist() == expected.tolist()  # type: ignore[union-attr]
    with pytest.raises(ResnetlabError, match="class a has 10 images or groups that differ, too few for 11 folds"):
        folded(whole, (1, 11))


def test_folds_are_the_same_in_memory_and_as_files(tmp_path: Path) -> None:
    root = folder_with_copies(tmp_path / "insects")
    source = DataSource(str(root), fold=(1, 3))
    as_files, resident = source.load(resident=False), source.load()
    assert resident.test.pixels.numpy().tobytes() == as_files.as_files().test.open(0).tobytes() + b"".join(  # type: ignore[union-attr]
        as_files.test.open(k).tobytes() for k in range(1, len(as_files.test))
    )
