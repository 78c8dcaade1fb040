"""`resnetlab evaluate` and `resnetlab embed` on folders of images."""

import json
from collections.abc import Callable
from csv import DictReader
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.data.preprocessing import read_image
from resnetlab.models.modelfile import load

Command = Callable[..., int]
TRAIN = ("train", "--data", "photos", "--network", "cifar_resnet8", "--recipe", "modern-short", "--image-size", "32")
TRAIN += ("--iterations", "12", "--batch-size", "8", "--set", "report_every=12", "--out", "run")


@pytest.fixture
def run(command: Command, photos: Path) -> Path:
    assert command(*TRAIN) == 0
    return Path("run")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(DictReader(file))


def test_all_there_is_to_know(command: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert command("evaluate", "run", "--out", "report") == 0
    printed = capsys.readouterr().out
    assert " %, Wilson), 1 centre crop, 32x32 of shorter side 37; trained by" in printed
    assert "errors of 12 test images; 95 % interval " in printed
    assert "photos: split by folder: train, test" in printed
    found = json.loads(Path("report/metrics.json").read_text())
    result = json.loads((run / "result.json").read_text())
    assert found["top1_error"] == pytest.approx(result["test_error"])
    predicted = rows(Path("report/predictions.csv"))
    assert [row["image"] for row in predicted][:2] == ["test/ant/000.jpg", "test/ant/001.jpg"]
    assert sum(row["class"] != row["class_1"] for row in predicted) == found["errors"]
    assert [row["class"] for row in rows(Path("report/per_class.csv"))] == ["ant", "bee", "cow"]
    for name in ("confusion.png", "mistakes.png"):
        with Image.open(Path("report") / name) as picture:
            assert min(picture.size) > 200
        assert (run / "evaluation" / name).exists()  # training leaves the same
    (Path("report") / "thesis.tex").write_text("x")
    assert command("evaluate", "run", "--out", "report") == 2
    assert "holds other files" in capsys.readouterr().err


def test_other_folders_are_matched_by_name(
    command: Command, run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "test" / "cow").rename(photos / "cow")
    (photos / "test" / "bee").rename(photos / "bee")
    assert command("evaluate", "run", "--data", "photos", "--split", "all") == 2  # ant is outside of both
    other = photos.parent / "other"
    other.mkdir()
    for name in ("cow", "bee"):  # without ant, numbers of classes are others
        (photos / name).rename(other / name)
    capsys.readouterr()
    assert command("evaluate", "run", "--data", "other", "--split", "all", "--out", "all") == 0
    assert "of 8 images" in capsys.readouterr().out
    model = load(run)
    for row in rows(Path("all/predictions.csv")):
        assert Path(row["image"]).parent.name == row["class"]
        pixels = torch.from_numpy(model.preprocessing.fit(read_image(other / row["image"])))[None]
        with torch.no_grad():
            number = int(model.network(model.preprocessing(pixels)).argmax())
        assert model.classes[number] == row["class_1"]
    (other / "bee").rename(other / "wasp")
    assert command("evaluate", "run", "--data", "other") == 2
    assert "not among the model's 3 (wasp)" in capsys.readouterr().err


def test_splits(command: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", "run", "--split", "train") == 0
    assert "errors of 30 train images" in capsys.readouterr().out
    assert command("evaluate", "run", "--split", "all") == 0
    assert "errors of 42 images" in capsys.readouterr().out
    assert command("evaluate", "run", "--split", "validation") == 2
    assert "has no validation images" in capsys.readouterr().err


def test_files_that_cannot_be_read(
    command: Command, run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "test" / "ant" / "001.jpg").write_bytes(b"x")
    assert command("evaluate", "run") == 2
    assert "ant/001.jpg is not a readable image" in capsys.readouterr().err
    assert command("evaluate", "run", "--on-bad", "skip", "--out", "report") == 0
    assert "1 files could not be read" in capsys.readouterr().err
    assert len(rows(Path("report/predictions.csv"))) == 11
    assert "test/ant/001.jpg" not in {row["image"] for row in rows(Path("report/predictions.csv"))}


@pytest.mark.slow
def test_chance_is_called_out(command: Command, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*TRAIN[:-3], "report_every=12", "learning_rate=1e-9", "ema=0.0", "--out", "run") == 0
    assert command("evaluate", "run", "--split", "all") == 0
    assert "Guessing gives the same error" in capsys.readouterr().err


def test_features(command: Command, run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("embed", "run", str(photos / "test" / "bee"), "--out", "features.npz") == 0
    found = np.load("features.npz")
    assert found["features"].shape == (4, 64)
    assert found["features"].dtype == np.float32
    model = load(run)
    images = [model.preprocessing.fit(read_image(Path(path))) for path in found["paths"]]
    with torch.no_grad():
        logits = model.network(model.preprocessing(torch.from_numpy(np.stack(images))))
    assert torch.allclose(model.network.fc(torch.from_numpy(found["features"])), logits, atol=1e-4)
    (photos / "test" / "bee" / "000.jpg").write_bytes(b"x")
    assert command("embed", "run", str(photos / "test" / "bee"), "--out", "features.csv") == 2
    assert "1 of 4 files could not be read" in capsys.readouterr().err
    assert len(rows(Path("features.csv"))) == 3
    assert command("embed", "run", str(photos), "--out", "features.txt") == 2


def test_torchrun_style_training_from_weights_by_name(
    command: Command, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("train", "--data", "photos", "--from", "run", "--recipe", "finetune", "--image-size", "32")
    steps = ("--iterations", "4", "--batch-size", "16", "--freeze", "layer1", "--tensorboard", "--out", "tuned")
    assert command(*arguments, *steps) == 0
    printed = capsys.readouterr().out
    assert "Batches of 16 images in place of 64: learning rate 0.0075 in place of 0.03" in printed
    assert "ResNet-8, recipe finetune: 4 steps of 16 images of 32x32 pixels" in printed
    assert list(Path("tuned/tensorboard").glob("events*"))
    assert command(*arguments[:5], "--network", "cifar_resnet14") == 2
    assert "whose name is cifar_resnet8, not cifar_resnet14" in capsys.readouterr().err
    assert command("train", "--data", "digits") == 2
    assert "give a network by name" in capsys.readouterr().err
    assert command(*arguments, "--epochs", "2", "--iterations", "2") == 2


def test_images_that_the_model_was_trained_on_are_named(
    command: Command, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tests on training images say so, and so do those of data that has changed since the training."""
    photos.joinpath("train").rename("own")
    assert command("train", "own", *TRAIN[3:]) == 0
    capsys.readouterr()
    assert command("evaluate", "run") == 0
    assert "trained on" not in capsys.readouterr().out
    assert command("evaluate", "run", "--split", "all") == 0
    assert "images that the model was trained on are among these: this is no test" in capsys.readouterr().out
    assert command("compare", "run", "run/model.safetensors", "--data", "own", "--split", "all") == 0
    assert "this is no test" in capsys.readouterr().out
    for k in range(12):
        (Path("own") / "bee" / f"more{k}.jpg").write_bytes(
            next(Path("own/bee").glob("0*.jpg")).read_bytes() + bytes(k)
        )
    assert command("evaluate", "run") == 0
    assert "so that some of these may have been trained on" in capsys.readouterr().out
    assert command("train", "own", *TRAIN[3:-1], "again") == 0
    assert command("train", "own", *TRAIN[3:-1], "again") == 0
    printed = capsys.readouterr().out
    assert "again was finished before; nothing is trained again" in printed
    assert printed.count("Test error") == 2
    Path("own").rename("gone")
    assert command("evaluate", "run") == 2
    assert "own, which is not there; say where it is now with --data" in capsys.readouterr().err
