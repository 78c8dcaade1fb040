"""Every fault that a folder of images can have is found, and a sound one is sound."""

import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.data.check import KINDS, Report, examine, report
from resnetlab.data.sources.layouts import find_images
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError


def check(source: Path) -> Report:
    found = find_images(source)
    return report(found, examine(found, threads=3, hashes=True))


def kinds(source: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in check(source).findings:
        found.setdefault(finding.kind, []).append(finding.file)
    return found


def test_a_sound_folder(photos: Path) -> None:
    checked = check(photos)
    assert checked.sound
    assert checked.counts == {
        "train": dict.fromkeys(("ant", "bee", "cow"), 10),
        "test": dict.fromkeys(("ant", "bee", "cow"), 4),
    }
    assert checked.sides is not None
    assert 40 <= checked.sides[0] <= checked.sides[1] <= checked.sides[2] < 90
    assert Counter(finding.kind for finding in checked.findings) == {"grey": 2, "rotated by EXIF": 2}


def test_similar_images(photos: Path) -> None:
    with Image.open(photos / "train" / "bee" / "004.jpg") as image:
        for k, place in enumerate(("test/bee", "train/cow")):
            image.resize((image.width + 9 + k, image.height + 9)).save(photos / place / "similar.png")
    found = {finding.kind: (finding.file, finding.detail) for finding in check(photos).findings}
    others = "train/cow/similar.png, test/bee/similar.png"
    assert found["similar image in two splits"] == ("train/bee/004.jpg", others)
    assert "similar image in two classes" in found
    assert "similar images in a class" not in found


def test_every_fault_is_found(photos: Path) -> None:
    train, test = photos / "train", photos / "test"
    ant, bee = train / "ant", train / "bee"
    whole = (bee / "002.jpg").read_bytes()
    (ant / "005.jpg").write_bytes((ant / "005.jpg").read_bytes()[:-200])
    (ant / "006.jpg").write_bytes(b"")
    (bee / "003.jpg").write_bytes(whole[:-400] + bytes(200) + whole[-200:])
    (test / "bee" / "leak.jpg").write_bytes(whole)
    (train / "cow" / "wrong.jpg").write_bytes(whole)
    (ant / "again.jpg").write_bytes((ant / "007.jpg").read_bytes())
    (train / "dodo").mkdir()
    (train / "Bee ").mkdir()
    (test / "emu").mkdir()
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 50, 3)).astype(np.uint8))
    image.save(test / "emu" / "png.jpg", "PNG")
    image.convert("CMYK").save(train / "cow" / "cmyk.jpg")
    image.convert("P").save(train / "cow" / "palette.png")
    image.convert("RGBA").save(train / "cow" / "alpha.png")
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40).save(train / "cow" / "deep.png")
    image.resize((20, 40)).save(train / "cow" / "tiny.png")
    image.save(train / "cow" / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    (train / "cow" / ".hidden.jpg").write_bytes(whole)
    (train / ".cache").mkdir()
    (train / "cow" / "notes.txt").write_text("x")
    (train / "stray.jpg").write_bytes(whole)
    found = kinds(photos)
    assert not check(photos).sound
    assert found["unreadable"] == ["train/ant/005.jpg", "train/ant/006.jpg"]
    assert found["damaged"] == ["train/bee/003.jpg"]
    assert found["same image in two splits"] == ["train/bee/002.jpg"]
    assert found["same image in two classes"] == ["train/bee/002.jpg"]
    assert found["same image twice in a class"] == ["train/ant/007.jpg"] or found["same image twice in a class"] == [
        "train/ant/again.jpg"
    ]
    assert found["empty class"] == ["train/Bee ", "train/dodo"]
    assert found["class in only one split"] == ["Bee ", "dodo", "emu"]
    assert found["class names alike"] == ["Bee , bee"]
    assert found["content is not what the suffix says"] == ["test/emu/png.jpg"]
    assert found["CMYK"] == ["train/cow/cmyk.jpg"]
    assert found["palette"] == ["train/cow/moving.gif", "train/cow/palette.png"]
    assert found["alpha"] == ["train/cow/alpha.png"]
    assert found["16 bit"] == ["train/cow/deep.png"]
    assert found["tiny"] == ["train/cow/tiny.png"]
    assert found["several frames"] == ["train/cow/moving.gif"]
    assert found["hidden"] == ["train/.cache", "train/cow/.hidden.jpg"]
    assert found["not an image"] == ["train/cow/notes.txt"]
    assert found["outside of the classes"] == ["train/stray.jpg"]
    assert found.keys() <= KINDS.keys()


def test_unbalanced_classes(photos: Path) -> None:
    for path in sorted((photos / "train" / "ant").iterdir())[1:]:
        path.unlink()
    assert kinds(photos)["unbalanced"] == ["train"]


def test_files_that_a_csv_names_and_that_are_not_there(photos: Path) -> None:
    lines = [
        "path,label",
        "train/ant/001.jpg,ant",
        "train/bee/001.jpg,bee",
        "nowhere.jpg,bee",
        "train/ant/002.jpg,ant",
    ]
    (photos / "labels.csv").write_text("\n".join(lines))
    assert kinds(photos / "labels.csv")["unreadable"] == ["nowhere.jpg"]


@pytest.mark.parametrize("form", ["turned", "CMYK", "grey"])
def test_damage_of_any_jpeg_is_found(photos: Path, form: str) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 255, (60, 70, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6 if form == "turned" else 1
    path = photos / "train" / "ant" / "odd.jpg"
    image.convert({"turned": "RGB", "CMYK": "CMYK", "grey": "L"}[form]).save(path, exif=exif)
    assert "damaged" not in kinds(photos)
    whole = path.read_bytes()
    path.write_bytes(whole[:-900] + b"\xff\xd3" * 100 + whole[-700:])
    assert kinds(photos)["damaged"] == ["train/ant/odd.jpg"]


def test_names_that_differ_in_marks_are_names(photos: Path) -> None:
    for split in ("train", "test"):
        for old, new in ("ant", "C"), ("bee", "C++"):
            (photos / split / old).rename(photos / split / new)
    assert check(photos).sound


def test_names_that_training_refuses(photos: Path) -> None:
    for split in ("train", "test"):
        (photos / split / "ant").rename(photos / split / "a\nt")
    assert kinds(photos)["no name of a class"] == ["a\nt"]


@pytest.mark.parametrize("damaged", [False, True])
def test_shards(photos: Path, tmp_path: Path, damaged: bool) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for split in ("train", "test"):
        with tarfile.open(shards / f"{split}-0.tar", "w") as tar:
            for number, name in enumerate(("ant", "bee", "cow")):
                for path in sorted((photos / split / name).iterdir()):
                    if damaged and path.stem == "003":
                        path.write_bytes(path.read_bytes()[:100])
                    label = tmp_path / "label"
                    label.write_text(str(number))
                    tar.add(path, f"{name}-{path.name}")
                    tar.add(label, f"{name}-{path.stem}.cls")
    checked = check(shards)
    assert checked.sound != damaged
    assert sum(finding.kind == "unreadable" for finding in checked.findings) == 6 * damaged


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    """Training refuses it, so the check does; files of one content are one image."""
    random = np.random.default_rng(0)
    for name, count in (("ant", 3), ("bee", 1), ("cow", 2)):
        (tmp_path / name).mkdir()
        for k in range(count):
            pixels = random.integers(0, 255, (40, 50, 3)) if name != "cow" else np.zeros((40, 50, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{k}.png")
    assert kinds(tmp_path)["class of one image"] == ["bee", "cow"]
    assert not check(tmp_path).sound
    with pytest.raises(ResnetlabError, match="class bee has one image"):
        list_images(tmp_path)
