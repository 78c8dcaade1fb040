"""Measurements that need a GPU, in small on a processor, so that they work when there is one."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(folder: Path, *words: str) -> str:
    """A script of `benchmarks`, from a copy of the sources, so that it leaves nothing behind here."""
    for name in ("benchmarks", "src", "tests", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "exit status 1" not in done.stdout, done.stdout[-3000:]
    return done.stdout


def test_everything_for_a_gpu(tmp_path: Path) -> None:
    """All steps; the records, the figure and the runs come back."""
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        for part in ("train", "test"):
            for label in map(str, range(10)):
                for k in range(20):
                    pixels = np.random.default_rng(k).integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(tmp_path / "one.jpg")
                    archive.add(tmp_path / "one.jpg", f"{part}/{label}/{k}.jpg")
    steps = ("check", "training", "detection", "scenes", "figure6", "resnet1202")
    places = ("--archive", "images.tar", "--out", "out", "--smoke", "--minutes", "20")
    networks = ("--networks", "cifar_plain8", "cifar_resnet8")
    shown = run(tmp_path, "benchmarks.on_gpu", *steps, *places, *networks)
    assert shown.count("exit status 0") == 7, shown
    for name in ("repeatability-gpu", "training-gpu", "detection-gpu", "resnet1202-gpu", "figure6"):
        assert (tmp_path / "out" / f"{name}.json").exists(), name
    with tarfile.open(tmp_path / "out" / "runs-0.tar") as runs:
        names = [Path(name).name for name in runs.getnames()]
    assert names.count("result.json") == 2
    assert names.count("metrics.jsonl") == 2
    again = run_again(tmp_path)
    assert "training" not in again.partition("s left:")[2]


def run_again(folder: Path) -> str:
    """The step of training, whose record is there."""
    command = [sys.executable, "-m", "benchmarks.on_gpu", "training", "--out", "out", "--smoke"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_kernels_are_counted_without_a_gpu(tmp_path: Path) -> None:
    """As in the record; of small batches the compiler makes fewer kernels, because their sums are not split."""
    run(tmp_path, "benchmarks.launches", "--networks", "cifar_resnet20", "--out", "launches")
    counts = json.loads((tmp_path / "launches.json").read_text())["networks"]["cifar_resnet20"]
    assert 0 < counts["our kernels"] < counts["compiled by block"]
