"""The compiled step, outside the run-time type checks, which the compiler cannot see through."""

import json
import shutil
import sys
from pathlib import Path

import processes
import pytest


@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("g++")), reason="needs Linux and g++")
@pytest.mark.slow
@pytest.mark.parametrize(
    "recompute",
    ["no", "yes"],  # yes: compiled block by block
)
def test_compiled_training_learns_as_eager_training(tiny_npz: Path, tmp_path: Path, recompute: str) -> None:
    curves = {}
    network = "cifar_resnet14" if recompute == "yes" else "cifar_resnet8-narrow4"
    for choice in ("yes", "no"):
        out = tmp_path / choice
        options = f"--network {network} --iterations 20 --set report_every=1 --compile {choice}".split()
        changed = ["--recompute", recompute if choice == "yes" else "no", "--out", str(out)]
        child = processes.resnetlab("train", "--data", str(tiny_npz), *options, *changed, folder=tmp_path)
        assert child.wait() == 0, child.text()
        lines = (out / "metrics.jsonl").read_text().splitlines()
        curves[choice] = [json.loads(line)["train_loss"] for line in lines]
        execution = json.loads((out / "execution.json").read_text())
        assert execution["compiled"] == (choice == "yes")
        assert execution["recomputed"] == (choice == "yes" and recompute == "yes")
    assert curves["yes"] != curves["no"]  # other kernels round in other ways
    assert curves["yes"][0] == pytest.approx(curves["no"][0], rel=1e-3)
    assert curves["yes"][:3] == pytest.approx(curves["no"][:3], rel=0.05)
