"""Runs that are interrupted anywhere end in the weights and metrics of the uninterrupted run, bit for bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

CHILD = """
import sys
from resnetlab.training import run
run.SAVE_EVERY_SECONDS = float(sys.argv.pop(1))
from resnetlab.cli import main
main()
"""

USUAL = ["--recipe", "cifar-warmup", "--set", "warmup_window=7", "batch_size=16", "padding=1", "report_every=9"]


def command(data: Path, out: Path, iterations: int, save_every: float = 0.0) -> list[str]:
    if data.is_dir():
        options = ["--recipe", "modern", "--image-size", "32", "--batch-size", "8", "--workers", "2"]
        options += ["--set", "report_every=9", "validation=5", "keep=best", "ema=0.9"]
    else:
        options = USUAL
    arguments = ["train", "--data", str(data), "--network", "cifar_resnet8", "--iterations", str(iterations)]
    return [sys.executable, "-c", CHILD, str(save_every), *arguments, *options, "--threads", "1", "--out", str(out)]


def evidence(out: Path) -> tuple[bytes, dict[str, bytes]]:
    tensors = load_file(out / "model.safetensors")
    return (out / "metrics.jsonl").read_bytes(), {key: value.numpy().tobytes() for key, value in tensors.items()}


def step_of(out: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in (out / "checkpoints").glob("step-*")), default=0)


def kill_at(arguments: list[str], out: Path, step: int, number: signal.Signals) -> int:
    """Start the child and send the signal once a checkpoint at or after `step` is there; its exit status."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 60
        while step_of(out) < step and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        child.send_signal(number)
        return child.wait(timeout=60)


def interrupted_run_equals_whole(data: Path, folder: Path, signals: list[signal.Signals], iterations: int) -> None:
    subprocess.run(command(data, folder / "whole", iterations), check=True, stdout=subprocess.DEVNULL)
    out = folder / "interrupted"
    randomly = random.Random(0)
    steps = sorted(randomly.sample(range(1, iterations - 20), len(signals)))
    for number, step in zip(signals, steps, strict=True):
        status = kill_at(command(data, out, iterations), out, step, number)
        assert status == (130 if number == signal.SIGINT else -number)
        assert not (out / "result.json").exists()
    subprocess.run(command(data, out, iterations), check=True, stdout=subprocess.DEVNULL)
    assert evidence(out) == evidence(folder / "whole")


def test_killed_and_interrupted_runs_end_alike(tiny_npz: Path, tmp_path: Path) -> None:
    signals = [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    interrupted_run_equals_whole(tiny_npz, tmp_path, signals, iterations=150)


def test_runs_on_image_files_end_alike(photos: Path, tmp_path: Path) -> None:
    interrupted_run_equals_whole(photos, tmp_path, [signal.SIGKILL, signal.SIGINT], iterations=60)


@pytest.mark.slow
def test_killed_many_times(photos: Path, tmp_path: Path) -> None:
    interrupted_run_equals_whole(photos, tmp_path, [signal.SIGKILL] * 50, iterations=300)


def test_a_disk_that_is_full_costs_nothing_saved(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kill_at(command(tiny_npz, out, 150), out, 20, signal.SIGINT)
    reached = step_of(out)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    full = command(tiny_npz, out, 150)
    full[2] = limit + CHILD
    ended = subprocess.run(full, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "File too large" in ended.stderr
    assert "what was saved before is kept" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert step_of(out) == reached
    assert not list(out.rglob("*.new"))
    subprocess.run(command(tiny_npz, out, 150), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(command(tiny_npz, tmp_path / "whole", 150), check=True, stdout=subprocess.DEVNULL)
    assert evidence(out) == evidence(tmp_path / "whole")
