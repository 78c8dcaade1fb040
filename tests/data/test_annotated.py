"""Data sets with boxes, annotated as in Pascal VOC and COCO."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from resnetlab.data.boxes import Boxes
from resnetlab.data.dataset import Dataset, Files, Split
from resnetlab.data.named import DataSource, load
from resnetlab.data.sources.annotated import is_annotated, list_annotated, read_annotations
from resnetlab.errors import ResnetlabError

VOC = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant"
VOC += " sheep sofa train tvmonitor"
OBJECT = (
    "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
Objects = Sequence[tuple[str, str, object, object, object, object]]
A_CAT = [("cat", "", 1, 2, 30, 40)]
A_DOG = [("dog", "", 5, 6, 70.5, "50.0")]


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 60), (shade % 256, shade // 256, 9)).save(path)


def voc(root: Path, images: Mapping[str, Objects], lists: Mapping[str, str] = {}, size: str = "100 60") -> Path:
    width, height = size.split()
    stated = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    for k, (name, objects) in enumerate(images.items()):
        picture(root / "JPEGImages" / f"{name}.jpg", k)
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        inside = "".join(OBJECT.format(*each) for each in objects)
        path.write_text(f"<annotation>\n\t<filename>{name}.jpg</filename>{stated}{inside}</annotation>")
    for name, content in lists.items():
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return root


def coco(
    path: Path, images: Sequence[Any], annotations: Sequence[Any], categories: Sequence[Any], at: Path | None
) -> Path:
    """A file of these entries; pictures of the images are written to the folder `at`."""
    for entry in images:
        if at is not None:
            picture(at / entry["file_name"], entry["id"])
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def image(number: int, **more: object) -> dict[str, object]:
    return {"id": number, "file_name": f"{number:04}.jpg", "width": 100, "height": 60, **more}


def box(number: int, of: int, category: int, bbox: Sequence[object], **more: object) -> dict[str, object]:
    outline = {"segmentation": [[1, 2, 3, 4, 5, 6]], "area": 9, "iscrowd": 0}
    return {"id": number, "image_id": of, "category_id": category, "bbox": bbox, **outline, **more}


TEST_LIST = "ImageSets/Main/test.txt"
CATEGORIES = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat"}]


@pytest.fixture
def small_coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    train = [
        box(1, 7, 18, [10, 5, 20, 30]),
        box(2, 9, 3, [0.5, 1.25, 99.5, 58.75]),
        box(3, 7, 3, [1, 1, 2, 2], iscrowd=1),
    ]
    coco(
        root / "annotations/instances_train2017.json",
        [image(9), image(7), image(8)],
        train,
        CATEGORIES,
        root / "train2017",
    )
    val = [box(9, 5, 3, [90, 50, 20, 20]), box(10, 5, 3, [1, 1, 0, 5])]
    coco(root / "annotations/instances_val2017.json", [image(5)], val, CATEGORIES, root / "val2017")
    (root / "annotations" / "captions_val2017.json").write_text("{}")
    return root


def boxes(split: Split | None) -> Boxes:
    assert isinstance(split, Files)
    assert split.boxes is not None
    assert len(split.boxes) == len(split)
    assert split.labels.shape == (len(split), 0)
    return split.boxes


def names(split: Split | None) -> list[str]:
    assert isinstance(split, Files)
    return [Path(name).stem for name in split.names]


def test_voc(tmp_path: Path) -> None:
    objects = [
        ("dog", "<difficult>1</difficult>", 5, 6, 70.5, "50.0"),
        ("cat", "<difficult>0</difficult>", 1, 1, 100, 60),
    ]
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    images = {"a 1": objects, "b": [("cat", part, 2, 2, 3, 3)], "c": [], "d": A_CAT, "e": A_CAT}
    voc(
        tmp_path,
        images,
        {"train": "\ufeffa 1\r\n  b \r\n\r\n", "val": "c", "trainval": "a 1\nb\nc\n", "test": "d.jpg\ne\n"},
    )
    found = list_annotated(tmp_path)
    assert found.classes == ("cat", "dog")
    assert (names(found.train), names(found.validation), names(found.test)) == (["a 1", "b"], ["c"], ["d", "e"])
    assert boxes(found.train).tolist() == [
        [(4, 5, 70.5, 50, 1, 1, 0), (0, 0, 100, 60, 0, 0, 0)],
        [(1, 1, 3, 3, 0, 0, 0)],
    ]
    assert boxes(found.validation).tolist() == [[]]
    assert found.note == "split by ImageSets/Main: train, validation, test"
    assert "2 training, 1 validation and 2 test images with 5 boxes, 2 classes" in found.describe()
    assert isinstance(found.train, Files)
    assert found.train.open(0).size == (100, 60)
    assert (found.category_ids, found.image_ids) == ((), {})
    again = list_annotated(tmp_path).fingerprint()
    assert found.fingerprint() == again
    (tmp_path / "Annotations" / "b.xml").write_text("<annotation/>")
    assert list_annotated(tmp_path).fingerprint() != again


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"train": "a", "val": "b"}, ("a", "", "b")),
        ({"trainval": "a\nb", "test": "c"}, ("ab", "", "c")),
        ({"trainval": "a\nb\nc", "val": "b", "test": "d"}, ("ac", "b", "d")),
        ({"trainval": "a\nb", "test": ""}, None),
        ({"train": "a\na\nb", "test": "c"}, ("ab", "", "c")),
        ({"val": "a\nb"}, None),
        ({}, None),
    ],
)
def test_lists_of_voc(tmp_path: Path, lists: dict[str, str], expected: tuple[str, str, str] | None) -> None:
    found = list_annotated(voc(tmp_path, dict.fromkeys("abcd", A_CAT), lists))
    if expected is None:
        assert "10% of the images held out" in found.note
        assert (len(found.test), found.validation) == (1, None)
        assert set(names(found.train) + names(found.test)) == set("ab" if lists else "abcd")
    else:
        parts = (found.train, found.validation, found.test)
        assert tuple("".join(names(part)) if part is not None else "" for part in parts) == expected


def test_the_order_of_vocs_classes(tmp_path: Path) -> None:
    objects = [(name, "", 1, 1, 9, 9) for name in reversed(VOC.split())]
    assert list_annotated(voc(tmp_path, {"a": objects, "b": []}, {"train": "a", "val": "b"})).classes == tuple(
        VOC.split()
    )


def test_boxes_without_area_and_outside(tmp_path: Path) -> None:
    objects = [("cat", "", *corners) for corners in (
        (10, 10, 10, 20), (10, 20, 30, 19), (101, 1, 120, 9), (0, -5, 30, 9), (90, 50, 300, 61)
    )]  # fmt: skip
    found = list_annotated(voc(tmp_path, {"a": objects, "b": []}, {"train": "a", "val": "b"}))
    assert boxes(found.train).tolist() == [[(0, 0, 30, 9, 0, 0, 0), (89, 49, 100, 60, 0, 0, 0)]]
    assert found.note.endswith(
        "; 2 boxes without area dropped, see check-data; 1 box outside of the image dropped, see check-data; "
        "2 boxes over the edge clipped, see check-data"
    )


@pytest.mark.parametrize("size", ["0 0", "x 60", "nan 60", " 60"])
def test_a_size_that_is_not_stated_is_read(tmp_path: Path, size: str) -> None:
    width, _, height = size.partition(" ")
    root = voc(tmp_path, {"a": [("cat", "", 1, 1, 500, 500)], "b": []}, {"train": "a", "val": "b"})
    path = root / "Annotations" / "a.xml"
    stated = f"<width>{width}</width><height>{height}</height>"
    path.write_text(path.read_text().replace("<width>100</width><height>60</height>", stated))
    assert boxes(list_annotated(root).train).tolist() == [[(0, 0, 100, 60, 0, 0, 0)]]
    (root / "JPEGImages" / "a.jpg").write_bytes(b"x")  # training stops there, or skips it
    assert boxes(list_annotated(root).train).tolist() == [[(0, 0, 500, 500, 0, 0, 0)]]


def test_held_out_images(tmp_path: Path) -> None:
    """A tenth, stable, equal files together, and no class that training lacks."""
    images: dict[str, Objects] = {f"{k:02}": A_CAT if k % 2 else [] for k in range(60)}
    first = list_annotated(voc(tmp_path / "x", images))
    assert (len(first.train), len(first.test)) == (54, 6)
    (tmp_path / "x").rename(tmp_path / "y")
    assert names(list_annotated(tmp_path / "y").test) == names(first.test)
    lone = names(first.test)[0]
    images = {**images, lone: [("emu", "", 1, 1, 9, 9)], "copy": A_CAT}
    root = voc(tmp_path / "z", images)
    (root / "JPEGImages" / "copy.jpg").write_bytes((root / "JPEGImages" / f"{names(first.test)[1]}.jpg").read_bytes())
    found = list_annotated(root)
    assert lone in names(found.train)
    assert ("copy" in names(found.test)) == (names(first.test)[1] in names(found.test))
    with pytest.raises(ResnetlabError, match="no image can be held out"):
        list_annotated(voc(tmp_path / "w", {"a": A_CAT, "b": A_DOG}))


def test_coco(small_coco: Path) -> None:
    found = list_annotated(small_coco)
    assert (found.classes, found.category_ids) == (("cat", "dog"), (3, 18))
    assert names(found.train) == ["0009", "0007", "0008"]
    assert boxes(found.train).tolist() == [
        [(0.5, 1.25, 100, 60, 0, 0, 0)],
        [(10, 5, 30, 35, 1, 0, 0), (1, 1, 3, 3, 0, 0, 1)],
        [],
    ]
    assert boxes(found.test).tolist() == [[(90, 50, 100, 60, 0, 0, 0)]]
    assert found.validation is None
    assert isinstance(found.test, Files)
    assert found.image_ids[found.test.files[0].name] == 5
    assert found.image_ids["train2017/0007.jpg"] == 7
    assert found.note == (
        "split by file: train, validation; 1 box without area dropped, see check-data; 1 box over the edge clipped, "
        "see check-data"
    )
    assert found.with_training(images=2).category_ids == (3, 18)


def test_coco_is_read_like_pycocotools(small_coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs_of = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed").COCO
    found = list_annotated(small_coco)
    theirs = theirs_of(str(small_coco / "annotations" / "instances_train2017.json"))
    assert isinstance(found.train, Files)
    for file, rows in zip(found.train.files, boxes(found.train).tolist(), strict=True):
        entries = theirs.loadAnns(theirs.getAnnIds(imgIds=[found.image_ids[file.name]]))
        assert len(rows) == len(entries)
        for (left, top, right, bottom, label, _, crowd), entry in zip(rows, entries, strict=True):
            assert [left, top, right - left, bottom - top] == entry["bbox"]
            assert (found.category_ids[label], crowd) == (entry["category_id"], entry["iscrowd"])
            assert theirs.loadCats([entry["category_id"]])[0]["name"] == found.classes[label]


IMAGES = [image(k) for k in range(4)]
BOXES = [box(k, k, 3 + 15 * (k % 2), [1, 1, 20, 20]) for k in range(4)]


def roboflow(root: Path) -> Path:
    for split in ("train", "valid", "test"):
        coco(root / split / "_annotations.coco.json", IMAGES[:2], BOXES[:2], CATEGORIES, root / split)
    return root


def beside(root: Path) -> Path:
    return coco(root / "a.json", IMAGES, BOXES, CATEGORIES, root)


def above(root: Path) -> Path:
    return coco(root / "a.json", IMAGES, BOXES, CATEGORIES, root / "images").parent


def cvat(root: Path) -> Path:
    coco(root / "annotations" / "instances_default.json", IMAGES, BOXES, CATEGORIES, root / "images")
    return root


def one_of_cocos(root: Path) -> Path:
    return coco(root / "annotations" / "instances_val2017.json", IMAGES, BOXES, CATEGORIES, root / "val2017")


def own_names(root: Path) -> Path:
    for split, ids in (("train", (1, 2)), ("test", (3,))):
        images, drawn = [image(k) for k in ids], [box(k, k, 3, [1, 1, 9, 9]) for k in ids]
        coco(root / "annotations" / f"{split}.json", images, drawn, CATEGORIES, root / "images")
    return root


def deep(root: Path) -> Path:
    images = [image(k, file_name=f"images/deep/{k}.jpg") for k in range(4)]
    return coco(root / "x.json", images, BOXES, CATEGORIES, root)


@pytest.mark.parametrize(
    ("make", "sizes", "name"),
    [
        (roboflow, (2, 2, 2), "train/0000.jpg"),
        (beside, (3, 0, 1), "0000.jpg"),
        (above, (3, 0, 1), "images/0000.jpg"),
        (cvat, (3, 0, 1), "images/0000.jpg"),
        (one_of_cocos, (3, 0, 1), "val2017/0000.jpg"),
        (own_names, (2, 0, 1), "images/0001.jpg"),
        (deep, (3, 0, 1), "images/deep/0.jpg"),
    ],
)
def test_layouts_of_coco(
    make: Callable[[Path], Path], sizes: tuple[int, int, int], name: str, tmp_path: Path
) -> None:
    source = make(tmp_path / "set")
    assert is_annotated(source)
    found = list_annotated(source)
    assert tuple(len(split) if split else 0 for split in (found.train, found.validation, found.test)) == sizes
    assert name in {name for split in found.splits.values() for name in split.names}
    assert all(
        Path(file.path).is_file()
        for split in found.splits.values()
        if isinstance(split, Files)
        for file in split.files
    )


def test_what_has_no_boxes(photos: Path, tmp_path: Path) -> None:
    (photos / "annotations").mkdir()
    (photos / "JPEGImages").mkdir()
    (photos / "info.json").write_text('{"images": 3}')
    (photos / "train" / "Annotations").mkdir()
    picture(photos / "train" / "Annotations" / "1.jpg")
    for source in (photos, photos / "train", tmp_path / "nowhere", photos / "train" / "ant" / "000.jpg"):
        assert not is_annotated(source)
    with pytest.raises(ResnetlabError, match="has no boxes; expected VOC's layout"):
        list_annotated(photos)


def test_a_folder_of_voc_folders(tmp_path: Path) -> None:
    voc(tmp_path / "kit" / "VOC2007", {"a": A_CAT, "b": A_CAT}, {"train": "a", "val": "b"})
    assert is_annotated(tmp_path / "kit")
    assert list_annotated(tmp_path / "kit").classes == ("cat",)
    voc(tmp_path / "kit" / "VOC2012", {"a": A_CAT, "b": A_CAT})
    with pytest.raises(ResnetlabError, match="no year has both .* give the path of one"):
        list_annotated(tmp_path / "kit")
    small = tmp_path / "small"
    voc(small, {"a": A_CAT, "b": A_CAT})
    (small / "Annotations").rename(small / "annotations")
    (small / "JPEGImages").rename(small / "images")
    assert sorted(name for split in list_annotated(small).splits.values() for name in split.names) == [
        "images/a.jpg", "images/b.jpg"
    ]  # fmt: skip


def broken(what: str) -> Callable[[Path], None]:
    """Write something else into an annotation."""

    def act(root: Path) -> None:
        old, new = what.split(" -> ")
        path = root / "Annotations" / "a.xml"
        path.write_text(path.read_text().replace(old, new))

    return act


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (broken("</annotation> -> "), "unreadable annotation: Annotations/a.xml: no element found"),
        (broken("annotation> -> other>"), "a.xml: its root element is <other>, expected <annotation>"),
        (broken("<name>cat</name> -> "), "a.xml: object 1 has no <name>; repair it"),
        (broken("<xmax>30 -> <xmax>wide"), r"a.xml: box 1 \(cat\): xmin 1, ymin 2, xmax wide, ymax 40; correct or"),
        (broken("<xmax>30 -> <xmax>NaN"), r"a.xml: box 1 \(cat\): xmin 1, ymin 2, xmax NaN, ymax 40; correct or"),
        (broken("<ymin>2</ymin> -> "), r"box 1 \(cat\): xmin 1, ymin missing, xmax 30"),
        (broken("bndbox -> polygon"), "xmin missing, ymin missing"),
        (
            lambda root: (root / "Annotations/b.xml").unlink(),
            "annotation missing: Annotations/b.xml: the list of test",
        ),
        (
            lambda root: (root / "JPEGImages/b.jpg").unlink(),
            "image missing: JPEGImages/b.jpg: the list of test names it",
        ),
        (lambda root: (root / TEST_LIST).write_text("b\nc\n"), "class never in training: dog: 1 boxes in test"),
        (broken("<object> -> <object><difficult>1</difficult>"), "no boxes: train; detection learns"),
        (lambda root: (root / TEST_LIST).write_bytes(b"\xff"), "test.txt cannot be read"),
    ],
)
def test_faults_of_voc(tmp_path: Path, act: Callable[[Path], object], message: str) -> None:
    voc(tmp_path, {"a": A_CAT, "b": A_CAT, "c": A_DOG}, {"train": "a", "test": "b"})
    assert list_annotated(tmp_path).classes == ("cat",)
    act(tmp_path)
    with pytest.raises(ResnetlabError, match=message):
        list_annotated(tmp_path)


def changed(place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def act(content: dict[str, Any]) -> None:
        key, number, name = place.split()
        content[key][int(number)][name] = value

    return act


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            changed("annotations 0 category_id", 4),
            "unknown category: train2017/0007.jpg: annotation 1: category_id 4",
        ),
        (changed("annotations 0 bbox", [1, 2, 3]), r"not numbers: train2017/0007.jpg: annotation 1: bbox \[1, 2, 3]"),
        (changed("annotations 0 bbox", [1, 2, 3, "x"]), "not numbers: train2017/0007.jpg: annotation 1"),
        (changed("annotations 0 bbox", [1, 2, 3, float("nan")]), "not numbers: train2017/0007.jpg: annotation 1"),
        (changed("annotations 0 bbox", [1, 2, 3, None]), "not numbers: train2017/0007.jpg: annotation 1"),
        (changed("annotations 0 bbox", 1), r"annotations/instances_train2017.json: annotations\[0] is"),
        (changed("images 0 file_name", 1), r"images\[0\] is .*; expected id \(int\), file_name \(str\)"),
        (changed("images 0 file_name", "no.jpg"), "image missing: train2017/no.jpg: annotations/instances_train"),
        (changed("images 0 id", 8), "ambiguous id: annotations/instances_train2017.json: image 8 is there twice"),
        (changed("images 0 file_name", "0008.jpg"), "9 and 8 are 0008.jpg"),
        (changed("categories 0 name", "wolf"), "category 18 is wolf and dog; give each its own id"),
        (lambda content: content["categories"].clear(), "unknown category.*category_id 18"),
        (lambda content: content.pop("annotations"), "train2017.json: it has no list of annotations"),
    ],
)
def test_faults_of_coco(small_coco: Path, act: Callable[[dict[str, Any]], None], message: str) -> None:
    path = small_coco / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    act(content)
    path.write_text(json.dumps(content))
    if "category_id" in message:  # nor does the other file have categories
        other = small_coco / "annotations" / "instances_val2017.json"
        other.write_text(json.dumps({**json.loads(other.read_text()), "categories": []}))
    with pytest.raises(ResnetlabError, match=message):
        list_annotated(small_coco)


def test_files_that_are_not_json(small_coco: Path) -> None:
    path = small_coco / "annotations" / "instances_train2017.json"
    for content in (path.read_text()[:-30], "", "[1]", "[" * 100_000, "\x00"):
        path.write_text(content)
        with pytest.raises(ResnetlabError, match="unreadable annotation: annotations/instances_train2017.json"):
            list_annotated(small_coco)


def test_classes_that_training_lacks(small_coco: Path) -> None:
    path = small_coco / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = 1  # the only cat that is trained on
    path.write_text(json.dumps(content))
    with pytest.raises(ResnetlabError, match="class never in training: cat: 1 boxes in validation"):
        list_annotated(small_coco)


def test_files_of_one_split(small_coco: Path) -> None:
    path = small_coco / "annotations" / "instances_train2014.json"
    path.write_text("{}")
    with pytest.raises(ResnetlabError, match=r"instances_train2014.json and instances_train2017.json do not say"):
        list_annotated(small_coco)
    path.rename(path.with_name("instances_more.json"))
    with pytest.raises(ResnetlabError, match=r"instances_more.json and instances_train2017.json do not say"):
        list_annotated(small_coco)


def test_what_a_source_takes(small_coco: Path, tmp_path: Path) -> None:
    for path in (small_coco, small_coco / "annotations" / "instances_val2017.json"):
        source = DataSource(str(path))
        source.refuse_unused(resident=True, on_bad=True, data_dir=False, workers=True)
        with pytest.raises(ResnetlabError, match="`data_dir` takes no effect"):
            source.refuse_unused(resident=True, on_bad=False, data_dir=True, workers=False)
        with pytest.raises(ResnetlabError, match="`image_size` takes no effect"):
            DataSource(str(path), image_size=32).refuse_unused(True, False, False, False)
    for resident in (True, False):
        found = DataSource(str(small_coco), on_bad="skip").load(resident)
        assert found.has_boxes
        assert found.made_from == ""
    assert load(str(small_coco)).fingerprint() == found.fingerprint()


def test_bccd(bccd: Path) -> None:
    """As many images and boxes as are known to be in it."""
    found: Dataset = list_annotated(bccd)
    assert found.classes == ("Platelets", "RBC", "WBC")
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 205, "validation": 87, "test": 72}
    counts = sum(boxes(split).classes.bincount(minlength=3) for split in found.splits.values())
    assert torch.equal(counts, torch.tensor([361, 4155 - 2, 372]))
    assert "2 boxes without area dropped" in found.note
    assert isinstance(found.train, Files)
    assert all(file.open().size == (640, 480) for file in islice(found.train.files, 3))
    assert not any(finding.weight == "stops" for finding in read_annotations(bccd).findings)


def test_pascal_voc_of_two_years_is_the_papers_07_and_12(tmp_path: Path) -> None:
    both = {"a": A_CAT, "b": A_DOG, "c": [*A_CAT, *A_DOG], "d": A_CAT}
    lists = {"train": "a\nb\n", "val": "", "trainval": "a\nb\n", "test": "c\nd\n"}
    voc(tmp_path / "VOC2007", both, lists)
    voc(tmp_path / "VOC2012", {"e": A_DOG, "f": A_CAT}, {"train": "e\nf\n", "trainval": "e\nf\n"})
    found = list_annotated(tmp_path)
    assert isinstance(found.train, Files)
    assert isinstance(found.test, Files)
    trained = ("VOC2007/JPEGImages/a.jpg", "VOC2007/JPEGImages/b.jpg", "VOC2012/JPEGImages/e.jpg")
    assert found.train.names == (*trained, "VOC2012/JPEGImages/f.jpg")
    assert found.test.names == ("VOC2007/JPEGImages/c.jpg", "VOC2007/JPEGImages/d.jpg")
    assert found.train.boxes is not None
    assert found.train.boxes.classes.tolist() == [0, 1, 1, 0]
    assert found.validation is None
    assert found.note.startswith("trained on train and val of VOC2007, VOC2012, tested on test")
    voc(tmp_path / "VOC2012", {"e": [("cow", "", 1, 1, 9, 9)]})
    with pytest.raises(ResnetlabError, match="VOC2012 has other classes than"):
        list_annotated(tmp_path)


def test_half_a_voc_folder_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "one/Annotations").mkdir(parents=True)
    (tmp_path / "one/Annotations/a.xml").write_text("<annotation/>")
    with pytest.raises(
        ResnetlabError, match=r"Annotations has \.xml files, but .*JPEGImages with their images is missing"
    ):
        list_annotated(tmp_path / "one")
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / "two" / name).mkdir(parents=True)
    with pytest.raises(ResnetlabError, match=r"Annotations has no \.xml files; expected one for each image in"):
        list_annotated(tmp_path / "two")
