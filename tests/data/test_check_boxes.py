"""Every fault that a data set with boxes can have is found, and a sound one is sound."""

import json
from collections.abc import Callable, Mapping, Sequence
from csv import DictReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnetlab.data.check import examine
from resnetlab.data.check_boxes import BoxReport, images_of, report_boxes
from resnetlab.data.findings import KINDS
from resnetlab.data.sources.annotated import list_annotated, read_annotations
from resnetlab.errors import ResnetlabError

Command = Callable[..., int]
OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
SIZE = "<size><width>100</width><height>60</height></size>"
Row = tuple[str, object, object, object, object]
CAT: Row = ("cat", 1, 1, 50, 50)
DOG: Row = ("dog", 10, 10, 60, 55)


def check(source: Path) -> BoxReport:
    found = read_annotations(source)
    return report_boxes(found, examine(images_of(found), threads=2))


def kinds(source: Path) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in check(source).findings:
        found.setdefault(finding.kind, []).append((finding.file, finding.detail))
    return found


def picture(path: Path, seed: int, turned: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (60, 100, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Image.fromarray(pixels).save(path, exif=exif)


def annotate(root: Path, name: str, objects: Sequence[Row], size: str = SIZE) -> None:
    path = root / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{size}{''.join(OBJECT.format(*row) for row in objects)}</annotation>")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four training images and two test images without a fault."""
    root = tmp_path / "voc"
    for k, name in enumerate("abcdef"):
        picture(root / "JPEGImages" / f"{name}.jpg", k)
        annotate(root, name, [CAT, DOG])
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nc\nd\n")
    (root / "ImageSets" / "Main" / "test.txt").write_text("e\nf\n")
    return root


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three training images and a validation image without a fault."""
    root = tmp_path / "coco"
    for split, ids in (("train2017", (1, 2, 3)), ("val2017", (4,))):
        for k in ids:
            picture(root / split / f"{k}.jpg", k)
        content = {
            "images": [{"id": k, "file_name": f"{k}.jpg", "width": 100, "height": 60} for k in ids],
            "annotations": [
                {"id": 10 * k + j, "image_id": k, "category_id": j, "bbox": [5 * j, 1, 30, 20]}
                for k in ids
                for j in (1, 2)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        path = root / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return root


def change(root: Path, act: Callable[[Any], object], split: str = "train2017") -> None:
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    act(content)
    path.write_text(json.dumps(content))


def add(root: Path, *rows: Mapping[str, object]) -> None:
    change(
        root, lambda content: content["annotations"].extend({"image_id": 1, "category_id": 1, **row} for row in rows)
    )


def test_sound_data(voc: Path, coco: Path) -> None:
    checked = check(voc)
    assert (checked.sound, checked.findings, checked.sides) == (True, (), (60, 60.0, 60))
    assert checked.counts == {"train": {"cat": 4, "dog": 4}, "test": {"cat": 2, "dog": 2}}
    assert checked.containing == checked.counts
    assert checked.images == {"train": 4, "test": 2}
    checked = check(coco)
    assert (checked.sound, checked.findings) == (True, ())
    assert checked.counts == {"train": {"cat": 3, "dog": 3}, "validation": {"cat": 1, "dog": 1}}


def test_boxes_of_voc(voc: Path) -> None:
    rows = [
        CAT,
        ("cat", 5, 5, 5, 5),
        ("cat", 101, 1, 130, 9),
        ("dog", 0, -3, 20, 20),
        ("dog", 40, 40, 42, 60),
        ("cat", 2, 1, 50, 50),
        ("dog", 2, 1, 50, 50),
    ]
    annotate(voc, "a", rows)
    found = kinds(voc)
    assert found == {
        "box without area": [("Annotations/a.xml", "box 2 (cat): 5,5 to 5,5")],
        "box outside of the image": [("Annotations/a.xml", "box 3 (cat): 101,1 to 130,9")],
        "box over the edge": [("Annotations/a.xml", "box 4 (dog): 0,-3 to 20,20")],
        "tiny box": [("Annotations/a.xml", "box 5 (dog): 40,40 to 42,60")],
        "object with two boxes": [("Annotations/a.xml", "box 6 (cat): 2,1 to 50,50, like 1, IoU 0.98")],
    }
    assert not check(voc).sound
    assert check(voc).counts["train"] == {"cat": 5, "dog": 6}
    assert check(voc).containing["train"] == {"cat": 4, "dog": 4}
    assert "1 box without area dropped" in list_annotated(voc).note


def test_files_of_voc(voc: Path) -> None:
    annotate(voc, "a", [("Cat ", 1, 1, 20, 20), ("d-og", 30, 1, 60, 20)])
    annotate(voc, "b", [])
    annotate(voc, "c", [("emu", 1, 1, 20, 20)], SIZE.replace("60", "99"))
    annotate(voc, "d", [DOG], "")
    annotate(voc, "lone", [CAT])
    picture(voc / "JPEGImages" / "extra.png", 9)
    picture(voc / "JPEGImages" / "f.jpg", 5, turned=True)
    (voc / "JPEGImages" / "e.jpg").write_bytes((voc / "JPEGImages" / "a.jpg").read_bytes())
    (voc / "ImageSets" / "Main" / "test.txt").write_text("e\nf\nb\nnone\n")
    found = kinds(voc)
    assert found == {
        "image missing": [("JPEGImages/none.jpg", "the list of test names it")],
        "same image in two splits": [
            ("JPEGImages/a.jpg", "JPEGImages/e.jpg"),
            ("JPEGImages/b.jpg", "it is in train and test"),
        ],
        "class names alike": [("Cat, cat", ""), ("d-og, dog", "")],
        "annotation of another size": [
            ("Annotations/c.xml", "it says 100x99, the image has 100x60 pixels"),
            ("Annotations/f.xml", "it says 100x60, the image has 60x100 pixels upright"),
        ],
        "rotated by EXIF": [("JPEGImages/f.jpg", "orientation 6")],
        "image without boxes": [("JPEGImages/b.jpg", "")],
        "image size not stated": [("Annotations/d.xml", "")],
        "class only in training": [("Cat", ""), ("d-og", ""), ("emu", "")],
        "image in no split": [("JPEGImages/extra.png", "")],
        "annotation without image": [("Annotations/lone.xml", "")],
    }
    with pytest.raises(ResnetlabError, match="image missing: JPEGImages/none.jpg"):
        list_annotated(voc)


def test_what_stops_training_is_all_reported(voc: Path) -> None:
    (voc / "Annotations" / "a.xml").write_text("<annotation>")
    annotate(voc, "b", [("cat", 1, "x", 2, 3), DOG])
    (voc / "Annotations" / "c.xml").unlink()
    (voc / "JPEGImages" / "d.jpg").write_bytes((voc / "JPEGImages" / "d.jpg").read_bytes()[:300])
    found = kinds(voc)
    assert found["unreadable annotation"] == [("Annotations/a.xml", "no element found: line 1, column 12")]
    assert found["coordinates that are not numbers"] == [
        ("Annotations/b.xml", "box 1 (cat): xmin 1, ymin x, xmax 2, ymax 3")
    ]
    assert found["annotation missing"] == [("Annotations/c.xml", "the list of train names its image")]
    assert [file for file, _ in found["unreadable"]] == ["JPEGImages/d.jpg"]
    with pytest.raises(ResnetlabError, match="lists 2 more such problems"):
        list_annotated(voc)


def test_classes_that_training_lacks(voc: Path) -> None:
    annotate(voc, "e", [CAT, ("emu", 1, 1, 9, 9)])
    assert kinds(voc) == {"class never in training": [("emu", "1 boxes in test")]}


def test_boxes_of_coco(coco: Path) -> None:
    add(
        coco,
        {"id": 7, "bbox": [1, 2, 0, 5]},
        {"id": 8, "bbox": [100, 2, 10, 5]},
        {"id": 9, "bbox": [-5.25, 2, 90, 5]},
        {"id": 10, "bbox": [90, 50, 3.5, 5]},
        {"id": 13, "bbox": [5, 1, 30, 20.5]},
        {"id": 14, "bbox": [5, 1, 30, 20.5], "iscrowd": 1},
        {"id": 15, "bbox": [5, 30, 30, float("inf")]},
        {"id": 16, "bbox": [5, 30, 30, 9], "category_id": 5},
        {"id": 17, "bbox": [5, 30, 30, 9], "image_id": 99},
    )
    assert kinds(coco) == {
        "box without area": [("train2017/1.jpg", "annotation 7 (cat): bbox [1, 2, 0, 5]")],
        "box outside of the image": [("train2017/1.jpg", "annotation 8 (cat): bbox [100, 2, 10, 5]")],
        "box over the edge": [("train2017/1.jpg", "annotation 9 (cat): bbox [-5.25, 2, 90, 5]")],
        "tiny box": [("train2017/1.jpg", "annotation 10 (cat): bbox [90, 50, 3.5, 5]")],
        "object with two boxes": [
            ("train2017/1.jpg", "annotation 13 (cat): bbox [5, 1, 30, 20.5], like 11, IoU 0.98")
        ],
        "coordinates that are not numbers": [("train2017/1.jpg", "annotation 15: bbox [5, 30, 30, Infinity]")],
        "unknown category": [("train2017/1.jpg", "annotation 16: category_id 5")],
        "annotation without image": [("annotations/instances_train2017.json", "annotation 17: image_id 99")],
    }


def test_files_and_categories_of_coco(coco: Path) -> None:
    def act(content: dict[str, Any]) -> None:
        content["categories"] = [
            {"id": k, "name": name} for k, name in ((0, "animal"), (1, "cat"), (2, "dog"), (7, "cat"), (9, "DOG"))
        ]
        content["images"] += [{"id": 8, "file_name": "8.jpg"}, {"id": 9, "file_name": "gone.jpg"}]

    change(coco, act)
    picture(coco / "train2017" / "8.jpg", 8)
    picture(coco / "val2017" / "extra.jpg", 8)
    both = "annotations/instances_train2017.json, annotations/instances_val2017.json"
    assert kinds(coco) == {
        "image missing": [("train2017/gone.jpg", "annotations/instances_train2017.json names it")],
        "category twice": [(both, "cat has the ids 1, 7")],
        "unusual category ids": [(both, "0 to 9, 5 of them missing")],
        "class names alike": [("DOG, dog", "")],
        "class without boxes": [("DOG", ""), ("animal", "")],
        "image without boxes": [("train2017/8.jpg", "")],
        "image size not stated": [("train2017/8.jpg", "")],
        "image in no split": [("val2017/extra.jpg", "")],
    }


def test_every_kind_is_known(voc: Path, coco: Path) -> None:
    assert kinds(voc).keys() | kinds(coco).keys() <= KINDS.keys()


def test_the_command(command: Command, voc: Path, coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check-data", str(voc)) == 0
    printed = capsys.readouterr().out
    assert "6 images: nothing stops training" in printed
    assert "test images" in " ".join(printed.split())
    annotate(voc, "a", [CAT, ("cat", 5, 5, 5, 5)])
    assert command("check-data", str(voc), "--csv", "all.csv") == 1
    printed = capsys.readouterr().out
    assert "MAKES RESULTS WRONG: box without area, 1 time: dropped" in printed
    assert "Annotations/a.xml: box 2 (cat): 5,5 to 5,5" in printed
    with Path("all.csv").open() as file:
        assert [row["detail"] for row in DictReader(file)] == ["box 2 (cat): 5,5 to 5,5"]
    assert command("check-data", str(coco / "annotations" / "instances_val2017.json")) == 0
    assert "1 image: nothing" in capsys.readouterr().out
    (coco / "annotations" / "instances_val2017.json").write_text("{")
    assert command("check-data", str(coco)) == 1
    assert "STOPS TRAINING: unreadable annotation, 1 time" in capsys.readouterr().out
    assert command("pack", str(voc), "--out", "packed") == 2
    assert "has boxes" in capsys.readouterr().err


def test_bccd(bccd: Path) -> None:
    """The two boxes without area in it are named."""
    found = read_annotations(bccd)
    checked = report_boxes(found, [])  # decoding all of them takes seconds
    assert [(each.file, each.detail) for each in checked.findings if each.kind == "box without area"] == [
        ("Annotations/BloodImage_00338.xml", "box 13 (RBC): 504,337 to 504,337"),
        ("Annotations/BloodImage_00343.xml", "box 4 (RBC): 181,329 to 181,329"),
    ]
    assert checked.counts["train"] == {"Platelets": 209, "RBC": 2381, "WBC": 214}
