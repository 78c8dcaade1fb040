"""`resnetlab predict`: JSON, sorting into folders, protocols of several views, files that cannot be read."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import Model, save
from resnetlab.networks.resnet import build
from resnetlab.report.prediction_files import Sorter

Command = Callable[..., int]
PREDICT = ("predict", "m.safetensors", "photos", "--precision", "float32")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A model and eight images of two classes, two of one name, and a file that is no image."""
    torch.manual_seed(0)
    about = Preprocessing.by_channel(Fit.square(40, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    save(Model(build("resnet18-narrow8", num_classes=2), about, ("ant", "be/e"), {}), tmp_path / "m.safetensors")
    random = np.random.default_rng(0)
    for label in ("ant", "be"):  # names with dots, which are no suffixes
        (tmp_path / "photos" / label).mkdir(parents=True)
        for k in range(4):
            pixels = random.integers(0, 256, (50, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"scan.{k:03}.png")
    return tmp_path / "photos"


def test_json(
    command: Command, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress is on standard error."""
    monkeypatch.setattr("resnetlab.cli.common.PLAIN_EVERY_SECONDS", -1.0)
    assert command(*PREDICT, "--json", "--unsure", "0.6", "--out", "p.csv", "--out", "p.json") == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert len(lines) == 8
    assert "8 images" in shown.err
    assert "predicting: 8 of 8" in shown.err
    assert lines == json.loads(Path("p.json").read_text())
    with Path("p.csv").open() as file:
        for row, line in zip(csv.DictReader(file), lines, strict=True):
            first, second = line["classes"]
            assert row["image"] == line["image"]
            assert (row["class_1"], row["class_2"]) == (first["class"], second["class"])
            assert float(row["probability_1"]) == first["probability"] > second["probability"]
            assert row["unsure"] == ("yes" if line["unsure"] else "no")
            assert line["unsure"] == (first["probability"] < 0.6)


@pytest.mark.parametrize("copies", [False, True])
def test_sorting(command: Command, photos: Path, copies: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*PREDICT, "--json", "--sort-into", "by", "--unsure", "0.6", *(["--copy"] * copies)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        folder = "unsure" if line["unsure"] else line["classes"][0]["class"].replace("/", "_")
        target = Path("by") / folder / Path(line["image"]).relative_to("photos")
        assert target.is_symlink() != copies
        assert target.read_bytes() == Path(line["image"]).read_bytes()
    assert len([path for path in Path("by").rglob("*") if not path.is_dir()]) == 8
    assert command(*PREDICT, "--sort-into", "by") == 2
    assert "give a new folder with --sort-into" in capsys.readouterr().err


def test_names_of_folders_are_free() -> None:
    sorter = Sorter(Path("nowhere"), [Path("a.png")], copies=True)
    for label, expected in (("a/b", "a_b"), ("a_b", "a_b-2"), ("unsure", "unsure-2"), (".x? ", "x_"), ("..", "_")):
        assert sorter._free(label) == expected
        sorter._folders[label] = expected
    above = Sorter(Path("nowhere"), [Path("../x/a.png"), Path("../../y/b.png")], copies=True)
    assert ".." not in "".join(map(str, above.places.values()))


def test_ten_crops_are_those_of_evaluation(
    command: Command, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "be").rename(photos / "be_e")
    assert command(*PREDICT, "--json", "--protocol", "ten-crop") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [["path", "label"], *([line["image"], ("ant", "be/e")[k > 3]] for k, line in enumerate(lines))]
    Path("list.csv").write_text("\n".join(",".join(row) for row in rows))
    words = ("evaluate", "m.safetensors", "--data", "list.csv", "--protocol", "ten-crop", "--out", "e")
    assert command(*words) == 0
    scores = Scored.load(Path("e")).scores.max(1).values
    assert [line["classes"][0]["probability"] for line in lines] == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize(("on_bad", "status", "shown"), [(None, 2, 8), ("skip", 0, 8), ("stop", 2, 4)])
def test_files_that_cannot_be_read(
    command: Command,
    photos: Path,
    on_bad: str | None,
    status: int,
    shown: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photos / "be" / "-bad.png").write_text("no image")
    assert command(*PREDICT, "--json", *(["--on-bad", on_bad] if on_bad else [])) == status
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == shown
    assert "-bad.png is not a readable image" in said.err


def test_old_names_of_options_still_work(command: Command, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*PREDICT, "--csv=p.csv") == 0
    assert capsys.readouterr().err == "--csv is --out now; the old name still works\n"
    assert Path("p.csv").exists()
    assert command("networks", "resnet50", "--version=v1.5") == 0
    shown = capsys.readouterr()
    assert "--version is --stride-on now" in shown.err
    assert "resnet50-v1.5" in shown.out
    assert command("networks", "resnet50", "--version", "v1") == 0
    assert "resnet50-v1.5" not in capsys.readouterr().out
