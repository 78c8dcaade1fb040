"""Runs that are interrupted anywhere end in the weights and metrics of the uninterrupted run, bit for bit."""

import random
import signal
from pathlib import Path

import processes
import pytest
from processes import Child, wait_until
from safetensors.torch import load_file

USUAL = ["--recipe", "cifar-warmup", "--set", "warmup_window=7", "batch_size=16", "padding=1", "report_every=9"]


def start(data: Path, out: Path, iterations: int, **options: int) -> Child:
    if data.is_dir():
        words = ["--recipe", "modern-short", "--image-size", "32", "--batch-size", "8", "--workers", "2"]
        words += ["--set", "report_every=9", "validation=5", "keep=best", "ema=0.9"]
    else:
        words = USUAL
    command = ["train", "--data", str(data), "--network", "cifar_resnet8", "--iterations", str(iterations), *words]
    command += ["--threads", "1", "--out", str(out)]
    return processes.resnetlab(*command, folder=out.parent, save_every=0.0, **options)


def finish(data: Path, out: Path, iterations: int) -> None:
    child = start(data, out, iterations)
    assert child.wait() == 0, child.text()


def evidence(out: Path) -> tuple[bytes, dict[str, bytes]]:
    tensors = load_file(out / "model.safetensors")
    return (out / "metrics.jsonl").read_bytes(), {key: value.numpy().tobytes() for key, value in tensors.items()}


def step_of(out: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in (out / "checkpoints").glob("step-*")), default=0)


def kill_at(data: Path, out: Path, iterations: int, step: int, number: signal.Signals) -> int:
    """Start the child and send the signal once a checkpoint at or after `step` is there; its exit status."""
    child = start(data, out, iterations)
    wait_until(lambda: step_of(out) >= step or not child.running)
    child.send(number)
    return child.wait()


def interrupted_run_equals_whole(data: Path, folder: Path, signals: list[signal.Signals], iterations: int) -> None:
    finish(data, folder / "whole", iterations)
    out = folder / "interrupted"
    randomly = random.Random(0)
    steps = sorted(randomly.sample(range(1, iterations - 20), len(signals)))
    for number, step in zip(signals, steps, strict=True):
        status = kill_at(data, out, iterations, step, number)
        assert status == (130 if number == signal.SIGINT else -number)
        assert not (out / "result.json").exists()
    finish(data, out, iterations)
    assert evidence(out) == evidence(folder / "whole")


def test_killed_and_interrupted_runs_end_alike(tiny_npz: Path, tmp_path: Path) -> None:
    signals = [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    interrupted_run_equals_whole(tiny_npz, tmp_path, signals, iterations=150)


@pytest.mark.slow
def test_runs_on_image_files_end_alike(photos: Path, tmp_path: Path) -> None:
    interrupted_run_equals_whole(photos, tmp_path, [signal.SIGKILL, signal.SIGINT], iterations=60)


@pytest.mark.slow
def test_killed_many_times(photos: Path, tmp_path: Path) -> None:
    interrupted_run_equals_whole(photos, tmp_path, [signal.SIGKILL] * 50, iterations=300)


@pytest.mark.slow
def test_a_disk_that_is_full_costs_nothing_saved(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kill_at(tiny_npz, out, 150, 20, signal.SIGINT)
    reached = step_of(out)
    child = start(tiny_npz, out, 150, largest_file=200_000)
    assert child.wait() == 2
    text = child.text()
    assert "File too large" in text
    assert "files that were complete are kept" in text
    assert "Traceback" not in text
    assert step_of(out) == reached
    assert not list(out.rglob("*.new"))
    finish(tiny_npz, out, 150)
    finish(tiny_npz, tmp_path / "whole", 150)
    assert evidence(out) == evidence(tmp_path / "whole")
