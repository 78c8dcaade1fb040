"""The layouts in which people have their images."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from resnetlab.data.class_names import imagenet
from resnetlab.data.dataset import Dataset, File, Files, Split
from resnetlab.data.preprocessing import open_image
from resnetlab.data.sources.annotated import is_annotated
from resnetlab.data.sources.layouts import find_images
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError
from resnetlab.files import csv_writer

IDS = tuple(imagenet())


def named(split: Split | None, classes: tuple[str, ...]) -> list[tuple[str, str]]:
    assert isinstance(split, Files)
    return [(file.name, classes[label]) for file, label in zip(split.files, split.labels.tolist(), strict=True)]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(path).encode())


def test_folders_by_split(tmp_path: Path) -> None:
    touch(*(tmp_path / split / name / "x" / "1.JPG" for split in ("train", "Val", "test") for name in ("b", "a")))
    found = list_images(tmp_path)
    assert found.classes == ("a", "b")
    assert named(found.train, found.classes) == [("train/a/x/1.JPG", "a"), ("train/b/x/1.JPG", "b")]
    assert named(found.validation, found.classes) == [("Val/a/x/1.JPG", "a"), ("Val/b/x/1.JPG", "b")]
    assert named(found.test, found.classes) == [("test/a/x/1.JPG", "a"), ("test/b/x/1.JPG", "b")]
    assert found.note == "split by folder: train, validation, test"
    assert found.train.files[0].read() == str(tmp_path / "train/a/x/1.JPG").encode()


def test_one_pool_is_split_and_stays_split(tmp_path: Path) -> None:
    touch(*(tmp_path / "here" / name / f"{k}.png" for name in "ab" for k in range(40)))
    first = list_images(tmp_path / "here")
    assert (len(first.train), len(first.test), first.validation) == (72, 8, None)
    assert np.bincount(first.test.labels).tolist() == [4, 4]
    (tmp_path / "here").rename(tmp_path / "there")
    moved = list_images(tmp_path / "there")
    assert named(moved.test, moved.classes) == named(first.test, first.classes)
    touch(*(tmp_path / "there" / "a" / f"{k}.png" for k in range(40, 44)))
    more = list_images(tmp_path / "there")
    kept = {file.name for file in first.test.files} & {file.name for file in more.test.files}
    assert len(kept) >= 7


def test_files_of_one_content_are_on_one_side(tmp_path: Path) -> None:
    touch(*(tmp_path / name / f"{k}.png" for name in "ab" for k in range(20)))
    before = list_images(tmp_path)
    for name in "ab":
        for k in range(20):
            copy = tmp_path / name / f"copy-{k}.png"
            copy.write_bytes((tmp_path / name / f"{k}.png").read_bytes())
    assert isinstance(before.test, Files)
    twin = tmp_path / "b" / "twin.png"  # of another class, even
    twin.write_bytes(before.test.files[0].read())
    found = list_images(tmp_path)
    assert isinstance(found.train, Files)
    assert isinstance(found.test, Files)
    assert not {file.read() for file in found.train.files} & {file.read() for file in found.test.files}
    assert len(found.train) + len(found.test) == 81
    assert 6 <= len(found.test) <= 12


def test_a_class_of_one_content_cannot_be_split(tmp_path: Path) -> None:
    touch(*(tmp_path / "a" / f"{k}.png" for k in range(4)))
    for k in range(3):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / f"{k}.png").write_bytes(b"the same")
    with pytest.raises(ResnetlabError, match="class b has 3 files of the same content"):
        list_images(tmp_path)


def test_fingerprints_tell_data_apart(tmp_path: Path) -> None:
    touch(*(tmp_path / name / f"{k}.png" for name in "ab" for k in range(4)))
    first = list_images(tmp_path).fingerprint()
    assert list_images(tmp_path).fingerprint() == first
    (tmp_path / "a" / "0.png").write_bytes(b"longer than it was before, which is seen by its size on the disk " * 3)
    assert list_images(tmp_path).fingerprint() != first


def test_validation_images_are_set_apart(tmp_path: Path) -> None:
    touch(*(tmp_path / name / f"{k}.png" for name in "ab" for k in range(40)))
    found = list_images(tmp_path)
    apart = found.with_validation(10)
    assert apart.validation is not None
    assert (len(apart.train), len(apart.validation)) == (62, 10)
    every = {file.name for split in (apart.train, apart.validation) for file in split.files}
    assert every == {file.name for file in found.train.files}
    with pytest.raises(ResnetlabError, match="72 training images"):
        found.with_validation(72)


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    touch(*(tmp_path / name for name in ("x/1.jpg", "x/2.jpg", "y/3.jpg", "y/4.jpg")))
    touch(*(tmp_path / f"{k}.jpg" for k in range(20)))
    file.write_text("Path, Label, Split\n x/1.jpg, cat, train\nx/2.jpg,dog,train\ny/3.jpg,dog,val\ny/4.jpg,cat,val\n")
    found = list_images(file)
    assert named(found.train, found.classes) == [("x/1.jpg", "cat"), ("x/2.jpg", "dog")]
    assert named(found.test, found.classes) == [("y/4.jpg", "cat"), ("y/3.jpg", "dog")]
    assert found.train.files[0].path == str(tmp_path / "x" / "1.jpg")
    file.write_text("filename,class\n" + "".join(f"{k}.jpg,{'ab'[k % 2]}\n" for k in range(20)))
    assert (len(list_images(file).train), len(list_images(file).test)) == (18, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,kind\n1.jpg,a\n", "has the columns name, kind; its first line must have path, label"),
        ("", "has the columns none"),
        ("path,label\n1.jpg,\n", "line 2: '1.jpg, '"),
        ("path,label\n", "has no lines after the first"),
        ("path,label,split\n1.jpg,a,dev\n", "a split of train, val or test"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,\n", "some lines have a split and some have none"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "images of 1 class; it takes two"),
        ("path,label\n1.jpg,a\n2.jpg,b\n", "class a has one image"),
        ("1.jpg,a\n2.jpg,b\n", "begins with 1.jpg, a, which is a line of data"),
        ("path,label,path\n1.jpg,a,2.jpg\n", "names a column twice"),
        ("path,label\n1.jpg,a,train\n", "no more cells than in the first line"),
        ("path,label,subset\n1.jpg,a,dev\n", "a split of train, val or test"),
        (
            "path,label\n1.jpg,a\n3.jpg,b\n4.jpg,b\n",
            "names 2 files that do not exist: 3.jpg, 4.jpg; paths are relative",
        ),
    ],
)
def test_csv_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    touch(tmp_path / "1.jpg", tmp_path / "2.jpg")
    with pytest.raises(ResnetlabError, match=message):
        list_images(tmp_path / "labels.csv")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """ImageNet in miniature: 2 training images of 3 classes, 4 validation images in one folder."""
    touch(*(tmp_path / "train" / IDS[k] / f"{IDS[k]}_{n}.JPEG" for k in (2, 0, 1) for n in range(2)))
    touch(*(tmp_path / "val" / f"ILSVRC2012_val_0000000{k}.JPEG" for k in range(1, 5)))
    return tmp_path


EXPECTED = [(f"val/ILSVRC2012_val_0000000{k}.JPEG", IDS[number]) for k, number in ((2, 0), (4, 0), (3, 1), (1, 2))]


def check_flat(found: Dataset) -> None:
    assert found.classes == IDS[:3]
    assert named(found.test, found.classes) == EXPECTED


def test_imagenets_flat_validation_images(flat: Path) -> None:
    with pytest.raises(ResnetlabError, match="nor a label file.*LOC_val_solution"):
        list_images(flat)
    order = [2, 0, 1, 0]
    synsets = flat / "imagenet_2012_validation_synset_labels.txt"
    synsets.write_text("".join(IDS[k] + "\n" for k in order))
    check_flat(list_images(flat))
    synsets.write_text("".join(IDS[k] + "\n" for k in order[:3]))
    with pytest.raises(ResnetlabError, match="has 3 labels, .* has 4 images"):
        list_images(flat)
    synsets.unlink()
    names = [f"ILSVRC2012_val_0000000{k}.JPEG" for k in range(1, 5)]
    (flat / "val.txt").write_text("".join(f"{name} {IDS[k]}\n" for name, k in zip(names, order, strict=True)))
    check_flat(list_images(flat))
    (flat / "val.txt").write_text("".join(f"{name} {k}\n" for name, k in zip(names, order, strict=True)))
    with pytest.raises(ResnetlabError, match="'0' is not a WordNet id"):
        list_images(flat)


def test_the_devkits_numbers(flat: Path) -> None:
    data = flat / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("7\n9\n8\n9\n")
    with pytest.raises(ResnetlabError, match="needs meta.mat"):
        list_images(flat)
    kind = np.dtype([("ILSVRC2012_ID", object), ("WNID", object)])
    savemat(data / "meta.mat", {"synsets": np.array([(7, IDS[2]), (8, IDS[1]), (9, IDS[0])], dtype=kind)})
    check_flat(list_images(flat))


def test_kaggles_copy(flat: Path) -> None:
    inside = flat / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC"
    inside.mkdir(parents=True)
    for name in ("train", "val"):
        (flat / name).rename(inside / name)
    lines = [
        f"ILSVRC2012_val_0000000{k},{IDS[number]} 1 2 3 4 "
        for k, number in zip((1, 2, 3, 4), (2, 0, 1, 0), strict=True)
    ]
    (flat / "kaggle" / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines]) + "\n")
    check_flat(list_images(flat / "kaggle"))


def shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def test_tar_shards(tmp_path: Path) -> None:
    shard(tmp_path / "train-000.tar", {"a.jpg": b"AAA", "a.cls": b"1", "./b.jpg": b"BB", "./b.cls": b"0\n"})
    shard(tmp_path / "train-001.tar", {"c.jpg": b"C" * 1000, "c.cls": b"2", "c.json": b"{}"})
    shard(tmp_path / "val" / "000.tar", {"d.jpg": b"D", "d.cls": b"2"})
    found = list_images(tmp_path)
    assert found.classes == ("0", "1", "2")
    assert named(found.train, found.classes) == [
        ("train-000.tar/b.jpg", "0"),
        ("train-000.tar/a.jpg", "1"),
        ("train-001.tar/c.jpg", "2"),
    ]
    assert [file.read() for file in found.train.files] == [b"BB", b"AAA", b"C" * 1000]
    assert named(found.test, found.classes) == [("val/000.tar/d.jpg", "2")]
    (tmp_path / "classes.txt").write_text("ant\nbee\ncow\ndodo\n")
    assert list_images(tmp_path).classes == ("ant", "bee", "cow", "dodo")
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(ResnetlabError, match=r"classes\.txt names 2 classes; the shards have numbers up to 2"):
        list_images(tmp_path)


def test_shards_with_names_of_classes(tmp_path: Path) -> None:
    members = {}
    for name in ("cat", "dog"):
        for k in range(5):
            members |= {f"{name}{k}.png": f"{name} {k}".encode(), f"{name}{k}.cls": name.encode()}
    shard(tmp_path / "all.tar", members)
    found = list_images(tmp_path)
    assert found.classes == ("cat", "dog")
    assert (len(found.train), len(found.test)) == (8, 2)


def test_archives_that_are_no_shards(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"cat/1.jpg": b"x"})
    with pytest.raises(ResnetlabError, match=r"a\.tar has no cat/1\.cls .* Unpack an archive"):
        list_images(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"nothing like it" * 100)
    with pytest.raises(ResnetlabError, match=r"a\.tar cannot be read as a tar shard"):
        list_images(tmp_path)


def test_one_tar_file_named_as_imagenet(tmp_path: Path) -> None:
    names = ("n01440764_1.JPEG", "n01440764_2.JPEG", "n01491361_tiger_shark.JPEG")
    for name in names:
        Image.new("RGB", (9, 8), (len(name), 0, 0)).save(tmp_path / name, format="jpeg")
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        for name in names:
            tar.add(tmp_path / name, arcname=f"photos/{name}")
    classes, split = find_images(tmp_path / "some.tar").all()
    assert classes == ("n01440764", "n01491361")
    assert [Path(file.name).name for file in split.files] == list(names)
    assert split.labels.tolist() == [0, 0, 1]
    assert all(file.read() == (tmp_path / Path(file.name).name).read_bytes() for file in split.files)
    (tmp_path / "some.tar").unlink()
    flat, in_folder = find_images(tmp_path).all()  # the same names in a flat folder
    assert flat == classes
    assert in_folder.labels.tolist() == [0, 0, 1]


def test_imagenets_validation_folder_by_itself(tmp_path: Path) -> None:
    val = tmp_path / "val"
    val.mkdir()
    for k in (1, 2):
        Image.new("RGB", (9, 8)).save(val / f"ILSVRC2012_val_0000000{k}.JPEG")
    with pytest.raises(ResnetlabError, match="nor a label file; expected LOC_val_solution.csv"):
        find_images(val)
    (tmp_path / "val_labels.txt").write_text("n01491361\nn01440764\n")
    for place in (val, tmp_path / "val2"):
        if not place.exists():  # a single folder in it, as a data set of classes would have it
            place.mkdir()
            val.rename(place / "images")
        classes, split = find_images(place).all()
        assert classes == ("n01440764", "n01491361")
        assert [file.name[-6] for file in split.files] == ["2", "1"]


def test_images_in_memory_as_files(tiny: Dataset) -> None:
    listing = tiny.as_files()
    assert listing.fingerprint() == tiny.fingerprint()
    assert listing.classes == tiny.classes
    for files, images in ((listing.train, tiny.train), (listing.test, tiny.test)):
        assert files.labels.tolist() == images.labels.tolist()
        for file, pixels in zip(files.files, images.pixels.numpy(), strict=True):
            assert np.array_equal(np.asarray(open_image(file.read(), file.path)), pixels)
    grey = File("g", "g", pixels=np.arange(6, dtype=np.uint8).reshape(2, 3, 1))
    assert np.array_equal(np.asarray(open_image(grey.read(), "g")), grey.pixels[..., 0])  # type: ignore[index]


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    """They are read, and written to a table that can be read again."""
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for k in range(3):
            name = os.fsdecode(b"\xff\xfe-%d.png" % k)
            Image.new("RGB", (8, 8), (50 * k, 9, 200 if label == "ant" else 0)).save(
                tmp_path / "photos" / label / name
            )
    found = list_images(tmp_path / "photos")
    assert len(found.train) + len(found.test) == 6
    found.fingerprint()
    with csv_writer(tmp_path / "list.csv") as writer:
        writer.writerow(["path", "label"])
        writer.writerows(
            [f"photos/{file.name}", file.name[:3]] for part in (found.train, found.test) for file in part.files
        )
    again = list_images(tmp_path / "list.csv")
    assert sorted(f"photos/{name}" for name in (*found.train.names, *found.test.names)) == sorted(
        (*again.train.names, *again.test.names)
    )
    assert all(file.open().size == (8, 8) for file in again.train.files)


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"\x1b[31m", b" "])
def test_names_of_classes_are_text(tmp_path: Path, name: bytes) -> None:
    for label in (os.fsdecode(name), "bee"):
        (tmp_path / label).mkdir()
        for k in range(3):
            Image.new("RGB", (8, 8), (50 * k, 9, 9)).save(tmp_path / label / f"{k}.png")
    with pytest.raises(ResnetlabError, match="is no name of a class"):
        list_images(tmp_path)


def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ResnetlabError, match="class folder"):
        list_images(tmp_path)
    assert not is_annotated(tmp_path)


def test_a_table_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("path,label\na.jpg,café\nb.jpg,bar\n".encode("latin-1"))
    with pytest.raises(ResnetlabError, match=r"list.csv is not in UTF-8; save it as CSV in UTF-8"):
        list_images(tmp_path / "list.csv")


def test_names_of_classes_in_any_script(tmp_path: Path) -> None:
    for label in ("日本\u3000犬", "می\u200cخواهم", "a\u00a0b"):
        (tmp_path / label).mkdir()
        for k in range(3):
            Image.new("RGB", (8, 8), (50 * k, 9, 9)).save(tmp_path / label / f"{k}.png")
    assert len(list_images(tmp_path).classes) == 3


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_with_another_separator(tmp_path: Path, separator: str) -> None:
    """As Excel writes it in much of Europe."""
    rows = [["path", "label"]]
    for label in ("ant", "bee"):
        for k in range(3):
            Image.new("RGB", (8, 8), (50 * k, 9, 200 if label == "ant" else 0)).save(tmp_path / f"{label}{k}.png")
            rows.append([f"{label}{k}.png", label])
    text = "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    (tmp_path / "list.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list_images(tmp_path / "list.csv").classes == ("ant", "bee")
