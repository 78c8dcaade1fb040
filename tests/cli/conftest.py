"""The command line, run in this process from an empty folder."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from resnetlab.cli import main


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `resnetlab` with arguments; gives its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("resnetlab.cli.common.console.width", 200)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["resnetlab", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run
