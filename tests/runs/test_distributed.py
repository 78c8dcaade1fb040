"""Several processes train the network that one trains, on the same batches."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import processes
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from resnetlab.data.dataset import Pixels
from resnetlab.data.named import DataSource
from resnetlab.data.named import load as load_data
from resnetlab.errors import FailedElsewhereError, Interrupted, ResnetlabError
from resnetlab.models.modelfile import KNOWN, load
from resnetlab.networks.architecture import parse
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.distributed import joined, summed
from resnetlab.training.interrupt import Wish
from resnetlab.training.named_recipes import MODERN_SHORT
from resnetlab.training.recipe import Recipe

RECIPE = replace(
    MODERN_SHORT.for_crop_size(32),
    precision="float32",
    iterations=6,
    batch_size=8,
    ramp_up=0,
    report_every=3,
    validation=5,
    label_smoothing=0.0,
)
DIES_ONCE = """
import os, signal, sys
from resnetlab.cli import main
from resnetlab.runs import folder, run

folder.SAVE_EVERY_SECONDS = 0.0
take = run.launched

def dying(*arguments):
    step = take(*arguments)

    def dies(state, rate):
        if state.step == 4 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        step(state, rate)

    return dies

run.launched = dying
main()
"""


def spec(photos: Path, recipe: Recipe) -> RunSpec:
    return RunSpec(parse("cifar_resnet8-narrow2"), DataSource(str(photos)), recipe)


def alone(photos: Path, out: Path, recipe: Recipe, until: int | None = None) -> None:
    wish = Wish()
    try:
        for progress in run(spec(photos, recipe), out, Settings(threads=1), None, wish):
            wish.to_stop = progress.step + 1 == until
    except Interrupted:
        assert until is not None


def train(photos: Path, out: Path, recipe: Recipe) -> None:
    """What each of two processes does."""
    try:
        for _ in run(spec(photos, recipe), out, Settings(threads=1)):
            pass
    except FailedElsewhereError:
        sys.exit(2)
    except ResnetlabError as error:
        sys.exit(f"error: {error}")


def in_two(photos: Path, out: Path, recipe: Recipe, call: Callable[..., None] = train) -> list[str]:
    """What two processes printed, which must end well."""
    children = processes.in_two(call, photos, out, recipe, folder=out.parent)
    statuses = [child.wait() for child in children]
    assert statuses == [0, 0], [child.text() for child in children]
    return [child.text() for child in children]


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model.safetensors")


def assert_alike(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        least = 2e-3 if key == KNOWN else 1e-5  # features are kept in 16 bits
        assert torch.allclose(a[key].float(), b[key].float(), rtol=1e-3, atol=least), key


def test_statistics_of_all_processes_make_them_one(photos: Path, tmp_path: Path) -> None:
    """Resumed with another number of processes, too, and with images mixed with those of the other process."""
    recipe = replace(RECIPE, synchronised=True, ema=0.0, mixup=0.2, cutmix=1.0, erasing=0.2, repeats=2)
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


@pytest.mark.slow
def test_statistics_of_each_process_are_those_of_parts_of_the_batch(photos: Path, tmp_path: Path) -> None:
    in_two(photos, tmp_path / "two", RECIPE)
    two = weights(tmp_path / "two")
    for name, recipe in (("accumulate", replace(RECIPE, accumulate=2)), ("over", replace(RECIPE, statistics_over=4))):
        alone(photos, tmp_path / name, recipe)
        one = weights(tmp_path / name)
        trained = {key for key in one if "running" not in key and "num_batches" not in key and key != KNOWN}
        assert_alike({key: one[key] for key in trained}, {key: two[key] for key in trained})
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["environment"]["processes"] == 2


def test_an_error_of_one_is_the_end_of_all(photos: Path, tmp_path: Path) -> None:
    children = processes.in_two(train, photos, tmp_path / "x", replace(RECIPE, batch_size=9), folder=tmp_path)
    assert all(child.wait() != 0 for child in children)
    assert "9 images cannot be divided evenly by 2 processes" in "".join(child.text() for child in children)


@pytest.mark.slow
def test_a_process_that_dies_is_started_again(photos: Path, tmp_path: Path) -> None:
    """By torchrun itself, with the command. What the other process says then depends on when it notices."""
    script = tmp_path / "dies.py"
    script.write_text(DIES_ONCE)
    words = [
        "--network",
        "cifar_resnet8-narrow2",
        "--recipe",
        "modern-short",
        "--image-size",
        "32",
        "--iterations",
        "6",
    ]
    words += ["--threads", "1", "--set", "batch_size=8", "ramp_up=0", "report_every=3", "validation=5"]
    words = ["train", "--data", str(photos), *words, "--out"]
    whole = processes.in_two(processes.command, [*words, str(tmp_path / "whole")], folder=tmp_path)
    assert [child.wait() for child in whole] == [0, 0], whole[0].text()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "--max-restarts", "1", str(script), *words, str(tmp_path / "dies")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    log = (tmp_path / "dies" / "log.jsonl").read_text().splitlines()
    starts = [json.loads(line)["step"] for line in log if json.loads(line)["event"] == "start"]
    assert starts[0] == 0
    assert len(starts) == 2
    assert starts[1] > 0
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "dies")
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_the_evaluation_of_a_run_of_several_processes_has_all_test_images(tmp_path: Path) -> None:
    words = ["train", "--data", "digits", "--network", "cifar_resnet8-narrow4", "--iterations", "2", "--threads", "1"]
    children = processes.in_two(processes.command, [*words, "--out", str(tmp_path / "run")], folder=tmp_path)
    assert [child.wait() for child in children] == [0, 0], [child.text() for child in children]
    found = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (found["images"], found["unreadable"]) == (result["test_images"], 0)
    assert found["top1_error"] == pytest.approx(result["test_error"])
    model, test = load(tmp_path / "run"), load_data("digits").test
    assert isinstance(test, Pixels)
    metrics = CLASSIFICATION.test(model.network, [(model.preprocessing(test.pixels), test.labels)]).metrics
    assert metrics["loss"] == pytest.approx(result["test_loss"])  # with the statistics that are saved


@pytest.mark.parametrize("balance", ["none", "loss"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_batch_in_parts_has_the_gradient_of_the_whole_but_for_batch_statistics(
    photos: Path, tmp_path: Path, accumulate: int, balance: str
) -> None:
    unbalance(photos)
    recipe = replace(RECIPE, iterations=1, accumulate=accumulate, freeze="layer3", ema=0.0, validation=0)
    recipe = replace(recipe, balance=balance)
    alone(photos, tmp_path / "parts", recipe)
    alone(photos, tmp_path / "whole", replace(recipe, accumulate=1))
    assert_alike(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_class_weights_in_two_processes_are_those_of_one(photos: Path, tmp_path: Path) -> None:
    unbalance(photos)
    recipe = replace(RECIPE, iterations=1, freeze="layer3", ema=0.0, validation=0, balance="loss")
    alone(photos, tmp_path / "one", recipe)
    in_two(photos, tmp_path / "two", recipe)
    assert_alike(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_exact_statistics_of_two_processes_are_those_of_one(photos: Path, tmp_path: Path) -> None:
    """Whose layers are synchronised; else each process's batches would be others."""
    recipe = replace(RECIPE, synchronised=True, ema=0.0, exact_statistics=True)
    alone(photos, tmp_path / "one", recipe)
    in_two(photos, tmp_path / "two", recipe)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key in one:
        assert torch.allclose(one[key].float(), two[key].float(), rtol=0.02, atol=1e-4), key


def unbalance(photos: Path) -> None:
    for path in sorted((photos / "train" / "ant").iterdir())[3:]:
        path.unlink()


def meet_twice() -> None:
    """What each process does; the first is slow to leave a meeting, and the second is back before it."""
    if os.environ["RANK"] == "0":
        leave = dist.destroy_process_group

        def slowly() -> None:
            time.sleep(1)
            leave()

        dist.destroy_process_group = slowly
    for number in range(3):
        with joined(torch.device("cpu")):
            assert float(summed(torch.tensor([1.0 + number]))) == 2 * (1 + number)


def test_a_meeting_begins_while_another_process_still_leaves_the_last(tmp_path: Path) -> None:
    children = processes.in_two(meet_twice, folder=tmp_path)
    assert [child.wait() for child in children] == [0, 0], [child.text() for child in children]
