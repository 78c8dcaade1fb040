"""A quick start: neither importing the package nor asking for help imports what is heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "matplotlib", "sklearn", "scipy", "PIL")
LOOK = f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"


def heavy(code: str) -> str:
    """Which heavy packages a new interpreter has imported after this code."""
    script = f"import atexit, sys\natexit.register(lambda: {LOOK})\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr.strip()


def test_import_is_light() -> None:
    assert heavy("import resnetlab; resnetlab.ResnetlabError; resnetlab.parse('resnet50')") == ""
    assert "torch" in heavy("import resnetlab; resnetlab.build")


@pytest.mark.parametrize("command", ["", "train", "reproduce", "evaluate", "predict", "import", "check-data"])
def test_help_is_light(command: str) -> None:
    words = ["resnetlab", *filter(None, [command]), "--help"]
    assert heavy(f"from resnetlab.cli import main\nsys.argv = {words}\nmain()") == ""


@pytest.mark.parametrize("words", ["train nowhere/", "predict nowhere x", "evaluate nowhere", "serve nowhere"])
def test_a_simple_mistake_is_told_soon(words: str) -> None:
    """Before packages of statistics are imported, which take seconds."""
    said = heavy(
        f"from resnetlab.cli import main\nsys.argv = 'resnetlab {words}'.split()\ntry: main()\nexcept SystemExit: 0"
    )
    assert "error: " in said
    assert not {"sklearn", "scipy"} & set(said.splitlines()[-1].split())


def test_every_public_name_is_there() -> None:
    import resnetlab

    for name in dir(resnetlab):
        assert getattr(resnetlab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = resnetlab.nothing


def test_a_mistake_of_ours_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, status 70, and a file with the traceback."""
    from resnetlab.cli import main
    from resnetlab.networks import measure

    def broken(*arguments: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(measure, "stage_table", broken)
    monkeypatch.setattr(sys, "argv", ["resnetlab", "networks", "resnet18"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert said.startswith("internal error: RuntimeError: no such thing. Please report it with ")
    log = Path(said.split()[-1])
    assert "in broken" in log.read_text()
    log.unlink()


def test_a_pipe_that_is_closed_ends_quietly() -> None:
    script = "import sys; from resnetlab.cli import main; sys.argv = ['resnetlab', 'recipes']; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(0.3); {script}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.close()
    _, said = child.communicate()
    assert b"Traceback" not in said
    assert b"lost sys.stderr" not in said
