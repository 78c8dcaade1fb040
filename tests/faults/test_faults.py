"""No damaged file ends in a traceback, a hang, much memory or a number that is none. See `python -m tests.faults`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(module: str, *words: str, seconds: float) -> str:
    """What a module prints, if it ends well; in a process of its own, for threads do not survive its forks."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults{module}", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def test_damaged_files(tmp_path: Path) -> None:
    text = run("", "--cases", "300", "--light", "--out", str(tmp_path), "--processes", "1", seconds=300)
    assert "0 bad of 300 cases" in text


@pytest.mark.slow
def test_many_damaged_files(tmp_path: Path) -> None:
    text = run("", "--cases", "20000", "--seed", "1", "--out", str(tmp_path), seconds=3600)
    assert "0 bad of 20,000 cases" in text


@pytest.mark.slow
def test_kills(tmp_path: Path) -> None:
    text = run(".kills", "--kills", "200", "--out", str(tmp_path), seconds=3600)
    assert "\n0 differences of " in text
