"""`resnetlab check-data` as a user types it."""

import os
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
    assert command("pack", str(photos), "--out", str(photos / "train" / "packed")) == 2
    assert "is inside" in capsys.readouterr().err


def test_a_link_to_nothing_is_skipped(command: Command, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, target in (("gone", "nowhere"), ("loop", "loop.jpg")):
        (photos / "train" / "ant" / f"{name}.jpg").symlink_to(target)
    words = ("train", "--data", "photos", "--network", "cifar_resnet8-narrow4", "--recipe", "modern-short")
    words += ("--image-size", "32", "--batch-size", "8", "--iterations", "2", "--threads", "1", "--workers", "1")
    assert command(*words, "--out", "stopped") == 2
    assert ".jpg cannot be read" in capsys.readouterr().err
    assert command(*words, "--on-bad", "skip", "--out", "skipped") == 0
    assert command("pack", "photos", "--out", "packed", "--size", "32", "--on-bad", "skip") == 0


def test_names_that_look_like_formulas_are_drawn(command: Command, photos: Path) -> None:
    for split in ("train", "test"):
        (photos / split / "ant").rename(photos / split / "$x^{$")
        (photos / split / "bee").rename(photos / split / "$5 to $10")
    words = ("train", "--data", "photos", "--network", "cifar_resnet8-narrow4", "--recipe", "modern-short")
    words += ("--image-size", "32", "--batch-size", "8", "--iterations", "2", "--threads", "1", "--workers", "1")
    assert command(*words, "--out", "run") == 0
    (photos / "test" / "cow" / "000.jpg").rename(photos / "test" / "cow" / os.fsdecode(b"\xff.jpg"))
    assert command("predict", "run", "photos/test/cow", "--explain", "why") == 0


def test_a_seed_that_is_too_large(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "--data", "digits", "--network", "cifar_resnet8-narrow4", "--iterations", "2", "--out", "run")
    assert command(*words, "--seed", str(10**23)) == 2
    assert "it must be less than 2^63" in capsys.readouterr().err
    assert not Path("run").exists()
