"""Checks of what is compiled, in a process of their own without type checks; of Triton by its interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = [Path(__file__).with_name(name) for name in ("triton_norm.py", "compiled_draws.py")]
PLAIN = ("-o", "addopts=", "-o", "filterwarnings=", "-p", "no:cacheprovider")


def test_without_type_checks() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *PLAIN, *map(str, CHECKS)]
    done = subprocess.run(
        command,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b2 skipped", done.stdout)  # which need a GPU
