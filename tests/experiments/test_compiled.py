"""The compiled step, outside the run-time type checks, which the compiler cannot see through."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = "from resnetlab.cli import main; main()"


@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("g++")), reason="needs Linux and g++")
def test_compiled_training_learns_as_eager_training(tiny_npz: Path, tmp_path: Path) -> None:
    curves = {}
    for choice in ("yes", "no"):
        options = [
            "--network",
            "cifar_resnet8",
            "--iterations",
            "20",
            "--set",
            "report_every=1",
            "--compile",
            choice,
            "--out",
            str(tmp_path / choice),
        ]
        command = [sys.executable, "-c", RUN, "train", "--data", str(tiny_npz), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = (tmp_path / choice / "metrics.jsonl").read_text().splitlines()
        curves[choice] = [json.loads(line)["train_loss"] for line in lines]
        assert json.loads((tmp_path / choice / "execution.json").read_text())["compiled"] == (choice == "yes")
    assert curves["yes"][0] == pytest.approx(curves["no"][0], rel=1e-3)
    assert curves["yes"][:3] == pytest.approx(curves["no"][:3], rel=0.05)
