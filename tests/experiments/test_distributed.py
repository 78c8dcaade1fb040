"""Several processes train the network that one trains, on the same batches."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from resnetlab.experiments.cell import Cell, run
from resnetlab.experiments.execution import Execution
from resnetlab.networks import architecture
from resnetlab.training.interrupt import Interrupted, Wish
from resnetlab.training.recipe import Recipe
from resnetlab.training.recipes import MODERN

RECIPE = replace(
    MODERN.for_crop_size(32), iterations=6, batch_size=8, ramp_up=0, report_every=3, validation=5, label_smoothing=0.0
)
PROCESSES = """
import json, sys
from pathlib import Path
from resnetlab.experiments.cell import Cell, run
from resnetlab.experiments.execution import Execution
from resnetlab.networks import architecture
from resnetlab.training.recipe import Recipe

fields = json.loads(sys.argv[1])
recipe = Recipe(**fields | {key: tuple(fields[key]) for key in ("drops", "sides")})
cell = Cell(sys.argv[2], architecture("cifar_resnet8"), recipe)
for progress in run(cell, Path(sys.argv[3]), Execution(threads=1)):
    dies(progress.step)
"""
LIVES = "def dies(step): pass\n"
DIES_ONCE = """
import os, signal
from resnetlab.training import run as folders
folders.SAVE_EVERY_SECONDS = 0.0

def dies(step):
    if step == 4 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def alone(photos: Path, out: Path, recipe: Recipe, until: int | None = None) -> None:
    wish = Wish()
    try:
        for progress in run(
            Cell(str(photos), architecture("cifar_resnet8"), recipe), out, Execution(threads=1), None, wish
        ):
            wish.to_stop = progress.step + 1 == until
    except Interrupted:
        assert until is not None


def torchrun(photos: Path, out: Path, recipe: Recipe, *options: str, before: str = LIVES) -> tuple[int, str]:
    """Exit status and standard error of two processes."""
    script = out.with_suffix(".py")
    script.write_text(before + PROCESSES)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    arguments = [str(script), json.dumps(vars(recipe)), str(photos), str(out)]
    ended = subprocess.run([*launcher, *arguments], capture_output=True, text=True, check=False, timeout=120)
    return ended.returncode, ended.stderr


def in_two(photos: Path, out: Path, recipe: Recipe) -> None:
    status, errors = torchrun(photos, out, recipe)
    assert status == 0, errors


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model.safetensors")


def assert_alike(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert torch.allclose(a[key].float(), b[key].float(), rtol=1e-3, atol=1e-5), key


def test_statistics_of_all_processes_make_them_one(photos: Path, tmp_path: Path) -> None:
    """Resumed with another number of processes, too."""
    recipe = replace(RECIPE, synchronised=True, ema=0.0)
    alone(photos, tmp_path / "one", recipe)
    alone(photos, tmp_path / "two", recipe, until=3)
    assert not (tmp_path / "two" / "result.json").exists()
    in_two(photos, tmp_path / "two", recipe)
    assert_alike(weights(tmp_path / "one"), weights(tmp_path / "two"))
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    for key in ("train_error", "test_error", "validation_error", "test_images"):
        assert results[0][key] == results[1][key]
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) == 2


def test_statistics_of_each_process_are_those_of_parts_of_the_batch(photos: Path, tmp_path: Path) -> None:
    in_two(photos, tmp_path / "two", RECIPE)
    two = weights(tmp_path / "two")
    for name, recipe in (("accumulate", replace(RECIPE, accumulate=2)), ("over", replace(RECIPE, statistics_over=4))):
        alone(photos, tmp_path / name, recipe)
        one = weights(tmp_path / name)
        trained = {key for key in one if "running" not in key and "num_batches" not in key}
        assert_alike({key: one[key] for key in trained}, {key: two[key] for key in trained})
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["environment"]["processes"] == 2


def test_an_error_of_one_is_the_end_of_all(photos: Path, tmp_path: Path) -> None:
    status, errors = torchrun(photos, tmp_path / "x", replace(RECIPE, batch_size=9))
    assert status != 0
    assert "9 images cannot be shared evenly by 2 processes" in errors


def test_a_process_that_dies_is_started_again(photos: Path, tmp_path: Path) -> None:
    in_two(photos, tmp_path / "whole", RECIPE)
    status, errors = torchrun(photos, tmp_path / "dies", RECIPE, "--max-restarts", "1", before=DIES_ONCE)
    assert status == 0, errors
    assert "another process of this run has ended" in errors
    log = (tmp_path / "dies" / "log.jsonl").read_text().splitlines()
    starts = [json.loads(line)["step"] for line in log if json.loads(line)["event"] == "start"]
    assert starts[0] == 0
    assert len(starts) == 2
    assert starts[1] > 0
    whole, dies = weights(tmp_path / "whole"), weights(tmp_path / "dies")
    assert all(torch.equal(whole[key], dies[key]) for key in whole)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_batch_in_parts_has_the_gradient_of_the_whole_but_for_batch_statistics(
    photos: Path, tmp_path: Path, accumulate: int
) -> None:
    recipe = replace(RECIPE, iterations=1, accumulate=accumulate, freeze="layer3", ema=0.0, validation=0)
    alone(photos, tmp_path / "parts", recipe)
    alone(photos, tmp_path / "whole", replace(recipe, accumulate=1))
    assert_alike(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
