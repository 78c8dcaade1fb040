"""`resnetlab check-data` as a user types it."""

from collections.abc import Callable
from csv import DictReader
from pathlib import Path

import pytest

Command = Callable[..., int]


def test_a_sound_folder(command: Command, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check-data", str(photos)) == 0
    printed = capsys.readouterr().out
    assert "42 images: nothing stops training" in printed
    assert "worth knowing: grey, 2 times: read as RGB" in printed


def test_a_folder_with_faults(command: Command, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((photos / "train" / "bee").iterdir())[:8]:
        path.write_bytes(path.read_bytes()[:50])
    assert command("check-data", str(photos), "--out", "all.csv") == 1
    printed = capsys.readouterr().out
    assert "STOPS TRAINING: unreadable, 8 times" in printed
    assert "and 3 more; --out FILE.csv lists them all" in printed
    with Path("all.csv").open() as file:
        rows = list(DictReader(file))
    assert sum(row["kind"] == "unreadable" for row in rows) == 8


@pytest.mark.parametrize("name", ["nowhere", "empty", "labels.txt"])
def test_what_is_no_data_set(command: Command, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.txt").write_text("x")
    assert command("check-data", name) == 2
    assert "error: " in capsys.readouterr().err


def test_pack_and_train(command: Command, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("pack", str(photos), "--out", "packed", "--size", "36") == 0
    assert "packed: 42 images in" in capsys.readouterr().out
    options = (
        "--recipe",
        "modern-short",
        "--image-size",
        "32",
        "--batch-size",
        "8",
        "--iterations",
        "2",
        "--out",
        "run",
    )
    assert command("train", "--data", "packed", "--network", "cifar_resnet8", *options) == 0
    assert command("evaluate", "run", "--data", str(photos)) == 0
    assert "of 12 test images" in capsys.readouterr().out
    (photos / "train" / "ant" / "001.jpg").write_bytes(b"x")
    assert command("pack", str(photos), "--out", "other") == 2
    assert "1 files could not be read and were skipped" in capsys.readouterr().err
    assert command("pack", str(photos), "--out", "third", "--quality", "200") == 2
