"""The benchmark of fine-tuning: its folders from archives of the real ones' layout, and a small run."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.errors import ResnetlabError

OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])


def picture(width: int, height: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=95, subsampling=0)
    return file.getvalue()


def pixels(file: Path | io.BytesIO) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image, int)


def archive(path: Path, mode: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    from benchmarks.finetuning_data import OTHERS, OWN

    folder = tmp_path / "archives"
    folder.mkdir()
    small = {
        f"{part}/{name}/{k:04}.jpg": picture(32, 32, k)
        for part in ("train", "test")
        for name in (*OWN, *OTHERS)
        for k in range(4)
    }
    archive(folder / "cifar10-jpeg.tar.xz", "w:xz", small)
    photos = {
        f"hymenoptera_data/{part}/{name}/{k}.jpg": picture(400, 320, k)
        for part in ("train", "val")
        for name in ("ants", "bees")
        for k in range(2)
    }
    photos["hymenoptera_data/train/ants/2.jpg"] = b"<html>"
    archive(folder / "hymenoptera.tar", "w", photos)
    objects = OBJECT.format("RBC", 1, 1, 20, 30) + OBJECT.format("WBC", 41, 11, 80, 60)
    tiny = OBJECT.format("RBC", 1, 1, 4, 30)
    scenes = {f"BCCD/JPEGImages/{name}.jpg": picture(100, 80, 0) for name in "abc"}
    scenes |= {f"BCCD/Annotations/{name}.xml": f"<annotation>{objects}{tiny}</annotation>".encode() for name in "abc"}
    scenes |= {
        f"BCCD/ImageSets/Main/{part}.txt": f"{name}\n".encode()
        for part, name in (("train", "a"), ("val", "b"), ("test", "c"))
    }
    archive(folder / "bccd.tar.xz", "w:xz", scenes)
    return folder


def test_folders(archives: Path, tmp_path: Path) -> None:
    from benchmarks.finetuning_data import DATA, OTHERS, OWN, STARTING, counts, make_folders

    made = make_folders(archives, tmp_path / "made", starting=3)
    assert set(made) == {*DATA, STARTING}
    found = {name: counts(folder) for name, folder in made.items()}
    assert found["cifar-50"] == {"train": dict.fromkeys(OWN, 4), "test": dict.fromkeys(OWN, 4)}
    assert found[STARTING] == {"train": dict.fromkeys(OTHERS, 3), "test": dict.fromkeys(OTHERS, 4)}
    assert found["hymenoptera"] == {"train": {"ants": 2, "bees": 2}, "test": {"ants": 2, "bees": 2}}  # not the HTML
    assert found["cells"] == {"train": {"RBC": 1, "WBC": 1}, "test": {"RBC": 2, "WBC": 2}}  # not the tiny ones
    assert pixels(made["hymenoptera"] / "train/ants/0.jpg").shape == (160, 200, 3)
    whole, cell = pixels(io.BytesIO(picture(100, 80, 0))), pixels(made["cells"] / "train/WBC/a-0.jpg")
    assert cell.shape == (50, 40, 3)
    assert np.abs(cell - whole[10:60, 40:80]).mean() < 4
    (made["cells"] / "mine").touch()
    (archives / "bccd.tar.xz").unlink()
    make_folders(archives, tmp_path / "made")
    assert (made["cells"] / "mine").exists()  # folders that are there are kept
    with pytest.raises(ResnetlabError, match=r"bccd\.tar\.xz does not exist"):
        make_folders(archives, tmp_path / "again")


def test_page() -> None:
    from benchmarks.finetuning import FORMER, OURS, TIMM, page

    errors = [("cells", OURS, 10.0), ("cells", OURS, 20.0), ("cifar-50", OURS, 30.0), ("cells", TIMM, 1.0)]
    row = {"start": "weights", "seconds": 5.4, "steps": 7, "seed": 0}
    rows = [row | {"data": data, "recipe": recipe, "error": error} for data, recipe, error in errors]
    rows.append(row | {"data": "cells", "recipe": "steps=9", "error": 2.0})
    said = {"recipe": "r", "passes": 2, "images": 3000, "error": 4.0}
    machine = {"device": "d", "torch": "2", "threads": 1}
    text = page({"environment": machine, "rows": rows, "weights": said, "data": {}})
    assert f"| {OURS} | 30.0 (1; 7, 5 s) | 15.0 ± 7.1 (2; 7, 5 s) | 22.5 |" in text
    assert "| timm |" not in text  # it is not measured on all
    assert f"| {FORMER} |" not in text
    assert "| steps=9 | 2.0 | 2.0 |" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO")  # timm leaves files open
def test_measured_once(archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.finetuning import FORMER, OURS, TIMM, main
    from benchmarks.finetuning_data import make_folders

    folders, out = tmp_path / "made", tmp_path / "record"
    make_folders(archives, folders, starting=3)

    def measure(*compared: str) -> list[dict[str, object]]:
        main(
            folders,
            out,
            seeds=1,
            variants=("steps=2 mixup=0.2",),
            data=("cifar-50",),
            compared=compared,
            passes=1,
            starting_passes=1,
        )
        rows: list[dict[str, object]] = json.loads(out.with_suffix(".json").read_text())["rows"]
        return rows

    first = measure(FORMER, OURS)
    assert [(row["recipe"], row["start"], row["steps"]) for row in first][:2] == [
        ("steps=2 mixup=0.2", "weights", 2),
        (FORMER, "weights", 1),
    ]
    both = measure(FORMER, OURS, TIMM)
    assert [row for row in both if row["recipe"] != TIMM] == first
    assert [row["start"] for row in both if row["recipe"] == TIMM] == ["weights", "random"]
    assert all(0 <= float(str(row["error"])) <= 100 for row in both)
    text = out.with_suffix(".md").read_text()
    assert "## From random weights" in text
    assert "| steps=2 mixup=0.2 |" in text
    assert "| timm |" in text
    assert "± " not in text.split("##", 1)[1]  # of one seed
    assert text in capsys.readouterr().out
