"""The compiled step, outside the run-time type checks, which the compiler cannot see through."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = "from resnetlab.cli import main; main()"


@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("g++")), reason="needs Linux and g++")
@pytest.mark.parametrize("recompute", ["no", "yes"])  # yes: compiled block by block
def test_compiled_training_learns_as_eager_training(tiny_npz: Path, tmp_path: Path, recompute: str) -> None:
    curves = {}
    for choice in ("yes", "no"):
        out = tmp_path / choice
        options = f"--network cifar_resnet14 --iterations 20 --set report_every=1 --compile {choice}".split()
        changed = ["--recompute", recompute if choice == "yes" else "no", "--out", str(out)]
        command = [sys.executable, "-c", RUN, "train", "--data", str(tiny_npz), *options, *changed]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = (out / "metrics.jsonl").read_text().splitlines()
        curves[choice] = [json.loads(line)["train_loss"] for line in lines]
        execution = json.loads((out / "execution.json").read_text())
        assert execution["compiled"] == (choice == "yes")
        assert execution["recomputed"] == (choice == "yes" and recompute == "yes")
    assert curves["yes"] != curves["no"]  # other kernels round in other ways
    assert curves["yes"][0] == pytest.approx(curves["no"][0], rel=1e-3)
    assert curves["yes"][:3] == pytest.approx(curves["no"][:3], rel=0.05)
