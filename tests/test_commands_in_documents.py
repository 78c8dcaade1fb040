"""What documents tell to type can be typed: every command's options exist and take the values; Python compiles."""

import ast
import dataclasses
import functools
import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro

import resnetlab
import resnetlab.cli
from resnetlab.cli.command import app
from resnetlab.cli.renamed import renamed

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results" / "README.md"])
for module in pkgutil.iter_modules(resnetlab.cli.__path__):  # each registers its commands
    importlib.import_module(f"resnetlab.cli.{module.name}")


def commands(text: str) -> Iterator[str]:
    """Lines of shell blocks, and code inside sentences, that call resnetlab."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from (line.split(" #")[0] for line in block.replace("\\\n", " ").splitlines() if "resnetlab " in line)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]*\bresnetlab [^`]+)`", outside))


def words_of(command: str) -> list[str] | None:
    """The words after `resnetlab`; None for what is none of its commands, or has parts that stand for others."""
    found = re.search(r"(?:^|[ /])resnetlab (?!.*\[)(.*)", command)
    if found is None:
        return None
    words = shlex.split(found[1].split(" > ")[0].split(" | ")[0].replace("…", "x"))
    return None if words[0] in ("x", "...", "NAME", "COMMAND") or words[0].startswith("-") else words


CASES = [
    pytest.param(words, id=f"{path.name}: {' '.join(words)}")
    for path in DOCUMENTS
    for command in commands(path.read_text())
    if (words := words_of(command)) is not None
]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the commands that are parsed; none of them runs."""
    seen: list[str] = []

    def stub(name: str, function: Any) -> Any:
        @functools.wraps(function)
        def parse(*given: object, **options: object) -> None:
            seen.append(name)

        return parse

    kept = {
        name: dataclasses.replace(each, target=stub(name, each.target)) for name, each in app._subcommands.items()
    }
    monkeypatch.setattr(app, "_subcommands", kept)
    return seen


@pytest.mark.parametrize("words", CASES)
def test_it_can_be_typed(words: list[str], parsed: list[str]) -> None:
    if len(words) == 1:  # named in a sentence
        assert words[0] in app._subcommands
        return
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    typed = renamed(words, lambda text: pytest.fail(text))
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            app.cli(args=typed, prog="resnetlab", config=config)
        return
    app.cli(args=typed, prog="resnetlab", config=config)
    assert parsed == [words[0]]


def test_there_are_many() -> None:
    assert len(CASES) > 80


WHOLE = [path for path in DOCUMENTS if path.name != "how-it-is-built.md"]  # which has parts of modules


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_python_in_documents(path: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "resnetlab":
                assert hasattr(resnetlab, node.attr), f"resnetlab.{node.attr}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, link
