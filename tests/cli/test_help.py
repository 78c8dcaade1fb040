"""Help: all commands on one screen, and for each what it takes, with an example that can be typed."""

import importlib
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

import resnetlab.cli
from resnetlab.cli.command import app, summaries
from resnetlab.cli.helping import GROUPS

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]
for module in pkgutil.iter_modules(resnetlab.cli.__path__):  # each registers its commands
    importlib.import_module(f"resnetlab.cli.{module.name}")
NAMES = sorted(summaries)
COMPLETE = """
COMP_WORDS=(resnetlab re); COMP_CWORD=1; COMP_LINE='resnetlab re'; COMP_POINT=12
"$(complete -p resnetlab | sed 's/.*-F \\([^ ]*\\).*/\\1/')" resnetlab re resnetlab
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_all_commands_on_one_screen(
    command: Command, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert len(shown.splitlines()) <= 60
    for name, text in summaries.items():
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)
        assert " ".join(text.split()) in " ".join(shown.split())


def test_every_command_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == NAMES
    assert set(app._subcommands) == set(NAMES)


def test_summaries_are_short() -> None:
    assert all(len(text) <= 125 and text.endswith(".") for text in summaries.values())


def test_every_command_has_an_example() -> None:
    for name, registered in app._subcommands.items():
        function = registered.target
        found = re.search(r"Examples?: (.*?)(?:\n\n|\n    $|\n    Args|$)", function.__doc__ or "", re.DOTALL)
        assert found, name
        for example in found[1].split(", resnetlab"):
            words = shlex.split(example.removeprefix("resnetlab").strip())
            assert words[0] == name


@pytest.mark.parametrize("name", ["report", "serve", "train"])
def test_help_fits_80_columns(name: str) -> None:
    words = [sys.executable, "-m", "resnetlab", name, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}, check=True)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f"Example: resnetlab {name}" in " ".join(done.stdout.split())


def test_bash_completes() -> None:
    """The script that the README installs completes commands."""
    words = [sys.executable, "-m", "resnetlab", "--tyro-print-completion", "bash"]
    made = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    done = subprocess.run(["bash", "--norc", "-c", made + COMPLETE], capture_output=True, text=True)
    assert {"report", "reproduce", "recipes"} <= set(done.stdout.split()), done.stderr


@pytest.mark.parametrize(("word", "hint"), [("tarin", "did you mean train"), ("xyzzy", "known: analyse")])
def test_misspelt_commands(command: Command, word: str, hint: str, capsys: Captured) -> None:
    assert command(word, "photos") == 2
    assert f"error: unknown command '{word}': {hint}" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["detections", "None"])
def test_a_wrong_choice_names_the_right_ones(command: Command, word: str, capsys: Captured) -> None:
    assert command("train", "--data", "digits", "--task", word) == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"invalid choice '{word}' for argument '--task'. Expected one of ('classification', 'detection')" in shown
