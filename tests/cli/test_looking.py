"""`runs`, `watch` and `demo`: what was trained, what is being trained, and the experiment that shows it all."""

import functools
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from hypothesis import given
from hypothesis import strategies as st

import resnetlab
from resnetlab.cli.textchart import text_chart
from resnetlab.experiments.options import Options
from resnetlab.runs.listing import listed
from resnetlab.training.resolve import RecipeOptions

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and one that was stopped after its first report."""
    folder = tmp_path_factory.mktemp("made")
    options = {"iterations": 20, "set": {"report_every": 10}, "progress": False}
    resnetlab.train("digits", network="cifar_resnet8-narrow4", out=folder / "a", **options)  # type: ignore[arg-type]
    stopped = folder / "deep" / "b"
    resnetlab.train("digits", network="cifar_plain8-narrow4", lr=0.02, out=stopped, **options)  # type: ignore[arg-type]
    (stopped / "result.json").unlink()
    lines = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_text(lines[0])
    return folder


@pytest.fixture
def runs(command: Command, made: Path) -> Path:
    """The same, in the folder of the test."""
    shutil.copytree(made, "runs")
    return Path("runs")


def test_runs_and_in_what_they_differ(command: Command, runs: Path, capsys: Captured) -> None:
    assert command("runs") == 0
    shown = capsys.readouterr().out
    result = json.loads((runs / "a" / "result.json").read_text())
    assert f"{result['test_error']:.2f}" in shown
    assert "stopped, step 10 of 20" in " ".join(shown.replace("│", " ").split())
    assert "In what they differ" in shown
    assert "learning_rate" in shown
    assert "0.02" in shown
    assert "seed" not in shown


def test_runs_that_fit(command: Command, runs: Path, capsys: Captured) -> None:
    for words, expected in (
        (("lr=0.02",), {"b"}),
        (("lr=2e-2", "weight_decay=1e-4"), {"b"}),
        (("recipe.learning_rate=0.02", "plain"), {"b"}),
        (("resnet-8",), {"a"}),
        (("cifar_plain8",), {"b"}),
        (("digits",), {"a", "b"}),
        (("flip=no",), {"a", "b"}),
    ):
        assert command("runs", "--match", *words) == 0
        shown = capsys.readouterr().out
        assert {name for name in ("a", "b") if f"runs/{'deep/' * (name == 'b')}{name}" in shown} == expected
    assert command("runs", "--match", "digits", "resnet50") == 2
    assert "none of 2 runs fits" in capsys.readouterr().err
    Path("empty").mkdir()
    assert command("runs", "empty") == 2
    assert "there is no run" in capsys.readouterr().err
    assert command("runs", "nowhere") == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(("order", "first"), [("folder", "a"), ("step", "a"), ("date", "a"), ("test", "")])
def test_order(command: Command, runs: Path, capsys: Captured, order: str, first: str) -> None:
    assert command("runs", "--sort", order) == 0
    shown = capsys.readouterr().out
    names = sorted(("runs/a", "runs/deep/b"), key=lambda name: listed(Path(name)).number("test"))
    assert shown.index(f"runs/{first}" if first else names[0]) < shown.index(names[1] if not first else "runs/deep")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"network": {}}'),
        ("log.jsonl", '{"event": "report", "step": 5, "time": "x"}\n'),
        ("log.jsonl", '{"event": "report", "step": null}\n'),
        ("result.json", "{"),
    ],
)
def test_a_damaged_run_is_named(command: Command, runs: Path, capsys: Captured, name: str, content: str) -> None:
    """Alone it is refused; among others it is left out."""
    damaged = runs / "a" / name
    damaged.write_text(content)
    for words in (("runs",), ("watch",), ("report", "--no-estimate", "--out", "page")):
        assert command(words[0], "runs/a", *words[1:]) == 2
        assert str(damaged) in capsys.readouterr().err
    assert command("runs") == 0
    shown = capsys.readouterr()
    assert str(damaged) in shown.err
    assert "runs/deep/b" in shown.out
    assert command("watch") == 0


def test_a_page_without_a_run_that_is_damaged(command: Command, runs: Path, capsys: Captured) -> None:
    shutil.copytree(runs / "a", runs / "c")
    config = json.loads((runs / "c" / "config.json").read_text())
    del config["data"]["split"]
    (runs / "c" / "config.json").write_text(json.dumps(config))
    assert command("report", "runs", "--out", "page", "--no-evaluate") == 0
    assert "runs/c is damaged: KeyError('split'); left out" in capsys.readouterr().err
    assert command("report", "runs/c", "--out", "page", "--no-evaluate") == 2
    assert "runs/c is damaged" in capsys.readouterr().err


def test_a_command_that_cannot_be_parsed(command: Command, runs: Path) -> None:
    (runs / "a" / "log.jsonl").write_text('{"event": "start", "command": "resnetlab train it\'s"}\n')
    assert command("report", "runs", "--no-estimate", "--out", "page") == 0
    assert "resnetlab train it" in Path("page/index.html").read_text()


def test_watching_ends_with_the_training(command: Command, runs: Path, capsys: Captured) -> None:
    assert command("watch", "runs/a") == 0
    assert "runs/a: finished, training" in capsys.readouterr().out
    assert not listed(runs / "deep/b").in_use

    def train() -> None:
        with filelock.FileLock(runs / "deep/b/.lock"):
            held.set()
            time.sleep(0.6)
            with (runs / "deep/b/metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": 20, "train_error": 50.0, "test_error": 40.0}) + "\n")
            time.sleep(0.6)

    held = threading.Event()
    training = threading.Thread(target=train)
    training.start()
    held.wait()
    assert command("watch", "--every", "0.1") == 0
    training.join()
    shown = capsys.readouterr().out
    assert "runs/deep/b: training, step 10 of 20" in shown
    assert "runs/deep/b: training, step 20 of 20, training 50.00, test 40.00 %" in shown
    assert "runs/deep/b: stopped, step 20 of 20" in shown


@pytest.mark.parametrize("every", ["0", "nan", "1e9"])
def test_impossible_intervals(command: Command, runs: Path, capsys: Captured, every: str) -> None:
    assert command("watch", "runs", "--every", every) == 2
    assert "it must be from 0.1 to 3600" in capsys.readouterr().err


def test_time_left(runs: Path) -> None:
    log = runs / "deep/b/log.jsonl"
    now = time.time()
    events = [("start", 0, 400), ("report", 5, 300), ("start", 5, 250), ("report", 10, 200), ("report", 15, 100)]
    log.write_text("".join(json.dumps({"event": e, "step": s, "time": now - t}) + "\n" for e, s, t in events))
    with filelock.FileLock(runs / "deep/b/.lock"):
        left = listed(runs / "deep/b").left
    assert left is not None
    assert abs(left - 0) < 2  # 5 steps of 20 s are left, and 100 s have passed
    assert listed(runs / "deep/b").left is None  # nobody trains it


def test_a_line_in_characters() -> None:
    lines = text_chart([[(0.0, 0.0), (10.0, 10.0)]], 10, 5).plain.split("\n")
    assert len(lines) == 6
    assert lines[0].startswith("   10.0 ┤")
    assert lines[4].startswith("    0.0 ┤")
    assert not lines[0][9:17].strip()  # rises to the right
    assert lines[0][-1] != " "
    assert lines[4][9] != " "
    assert lines[5].endswith("10")
    assert text_chart([[], [(1.0, float("nan"))]], 10, 5).plain == "no test so far"


@given(st.lists(st.lists(st.tuples(st.floats(0, 1e9), st.floats(allow_infinity=True)), max_size=20), max_size=4))
def test_any_curves(curves: list[list[tuple[float, float]]]) -> None:
    lines = text_chart([[(x, abs(y)) for x, y in sorted(curve)] for curve in curves], 30, 6).plain.split("\n")
    assert len(lines) in (1, 7)


def test_the_demo(command: Command, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    networks = ("cifar_plain8", "cifar_resnet8")
    make = functools.partialmethod(Options.__init__, networks=networks, recipe=RecipeOptions(iterations=20))
    monkeypatch.setattr(Options, "__init__", make)
    monkeypatch.setattr("resnetlab.experiments.overview.Expected.__call__", lambda self, entry: "a while")
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))
    monkeypatch.setenv("DISPLAY", ":0")
    assert command("demo", "--out", "r", "--page", "p") == 0
    shown = capsys.readouterr().out
    page = Path("p/index.html")
    assert opened == [page.resolve().as_uri()]
    assert "The page is open in your browser" in shown
    text = page.read_text()
    for title in ("Figure 6: plain and residual networks", "Lesions", "Layer responses", "ResNet-8 on digits"):
        assert title.lower() in text.lower()
    assert command("demo", "--out", "r", "--page", "q", "--no-browser") == 0  # nothing is trained again
    assert len(opened) == 1
    assert Path("q/index.html").exists()
    assert command("demo", "--out", "r", "--page", "p/index.html") == 2
    assert "is a file" in capsys.readouterr().err
