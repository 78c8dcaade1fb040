"""Device, threads and compilation: asked for, remembered, or refused."""

import shutil
from dataclasses import replace

import pytest
import torch

from resnetlab.errors import ResnetlabError
from resnetlab.runs.settings import Settings
from resnetlab.training.named_recipes import CIFAR, MODERN_SHORT
from resnetlab.training.recipe import Recipe

SHORT = CIFAR.scaled(100)


def test_an_earlier_start_is_followed_unless_something_else_is_asked_for() -> None:
    earlier = {"device": "cpu", "threads": 3, "compiled": False, "captured": False, "recomputed": False}
    earlier |= {"workers": 5, "kernels": "torch"}
    assert Settings().settle(CIFAR, 20, earlier) == earlier
    assert Settings(threads=2).settle(CIFAR, 20, earlier) == {**earlier, "threads": 2}
    assert Settings(compile="no").settle(CIFAR, 20, {**earlier, "compiled": True}) == earlier


def test_long_runs_are_compiled_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    cpu = Settings(device="cpu", threads=1)
    assert cpu.settle(CIFAR, 20, None)["compiled"]
    assert not cpu.settle(SHORT, 20, None)["compiled"]
    assert Settings(device="cpu", compile="yes").settle(SHORT, 20, None)["compiled"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not cpu.settle(CIFAR, 20, None)["compiled"]
    with pytest.raises(ResnetlabError, match="needs Linux and a C"):
        Settings(device="cpu", compile="yes").settle(SHORT, 20, None)


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [Settings().shared_by(jobs).settle(SHORT, 20, None)["threads"] for jobs in (1, 3, 16)] == [8, 2, 1]


def test_a_run_that_was_started_on_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    earlier = {"device": "cuda", "threads": 3, "compiled": False}
    with pytest.raises(ResnetlabError, match="no cuda device here; use `device=cpu`"):
        Settings().settle(SHORT, 20, earlier)
    assert Settings(device="cpu").settle(SHORT, 20, earlier)["device"] == "cpu"


def test_what_is_for_gpus_and_for_depth() -> None:
    cpu = Settings(device="cpu", threads=1)
    with pytest.raises(ResnetlabError, match="tfloat32 needs an NVIDIA GPU"):
        cpu.settle(replace(SHORT, precision="tfloat32"), 20, None)
    assert [cpu.settle(SHORT, depth, None)["recomputed"] for depth in (20, 110, 1202)] == [False, False, True]
    assert not cpu.settle(SHORT, 20, None)["captured"]
    asked = replace(cpu, capture="yes", recompute="no").settle(SHORT, 1202, None)
    assert (asked["captured"], asked["recomputed"]) == (True, False)


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [(MODERN_SHORT, "images that are read from files and averaged"), (replace(SHORT, ema=0.9), "averaged weights")],
)
def test_steps_that_cannot_be_captured_are_not_said_to_be(recipe: Recipe, reason: str) -> None:
    with pytest.raises(ResnetlabError, match=f"cannot be captured with {reason}"):
        Settings(device="cpu", capture="yes").settle(recipe, 20, None)
    assert not Settings(device="cpu").settle(recipe, 20, {"captured": True})["captured"]


def test_kernels_of_our_own_are_for_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    asked = Settings(device="cpu", threads=1, kernels="triton")
    with pytest.raises(
        ResnetlabError, match="`kernels=triton` cannot be used with a device other than an NVIDIA GPU; remove it"
    ):
        asked.settle(SHORT, 20, None)
    assert Settings(device="cpu").settle(SHORT, 20, {"kernels": "triton"})["kernels"] == "torch"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    settled = asked.settle(CIFAR, 20, None)
    assert settled["kernels"] == "triton"
    assert Settings(device="cpu").settle(SHORT, 20, settled)["kernels"] == "triton"
    assert replace(asked, kernels="torch").settle(SHORT, 20, settled)["kernels"] == "torch"
    for recipe, given, reason in (
        (replace(SHORT, accumulate=2), {}, "a batch in parts"),
        (SHORT, {"recompute": "yes"}, "recomputed activations"),
        (replace(SHORT, synchronised=True), {}, "several processes"),
        (MODERN_SHORT, {}, "images that are read from files"),
    ):
        with pytest.raises(ResnetlabError, match=f"cannot be used with {reason}"):
            replace(asked, **given).settle(recipe, 20, None)
