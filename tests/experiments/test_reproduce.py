"""Experiments from start to record: run side by side, not run twice, interrupted, planned."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from processes import wait_until

from resnetlab.evaluation.scores import Scored
from resnetlab.experiments import plan
from resnetlab.experiments.earlier import read_record

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]
FIGURE6 = ("reproduce", "figure6", "--networks", "cifar_plain8", "cifar_resnet8")
SMALL = ("--iterations", "6", "--set", "batch_size=8", "--workers", "1", "--jobs", "1", "--threads", "1")


def test_it_runs_and_records_and_does_not_run_again(
    command: Command, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SECONDS", 0.0)
    words = (*FIGURE6, "--iterations", "20", "--seeds", "2", "--out", "out", "--jobs", "2")
    assert command(*words) == 0
    first = capsys.readouterr().out
    folder = Path("out/figure6-digits")
    assert {path.name for path in folder.iterdir()} == {f"figure6.{kind}" for kind in ("png", "svg", "md", "json")}
    assert "plain-8" in first
    assert "One depth alone shows nothing about depth." in first
    record = read_record(folder / "figure6.json")
    assert [(run["network"], run["seed"]) for run in record.runs] == [
        ("cifar_plain8", 0),
        ("cifar_resnet8", 0),
        ("cifar_plain8", 1),
        ("cifar_resnet8", 1),
    ]
    assert all(run["curve"][-1]["test_error"] == run["result"]["test_error"] for run in record.runs)
    stamps = {p: p.stat().st_mtime_ns for p in Path("out").glob("*/model.safetensors")}
    assert len(stamps) == 4
    assert command(*words) == 0
    assert {p: p.stat().st_mtime_ns for p in Path("out").glob("*/model.safetensors")} == stamps
    assert capsys.readouterr().out.partition("┏")[2] == first.partition("┏")[2]  # table and sentence
    assert command(*words, "--dry-run") == 0
    assert "Finished in out, not repeated: plain-8, seed 0; " in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_interrupted_it_leaves_no_process_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    words = [*FIGURE6, "--iterations", "120", "--out", str(out), "--jobs", "2"]
    parent = processes.resnetlab(*words, folder=tmp_path)

    def both_report() -> bool:
        metrics = list(out.glob("*/metrics.jsonl"))
        return len(metrics) == 2 and all(path.read_text() for path in metrics)

    wait_until(both_report, parent)
    parent.send(number)
    status = parent.wait()
    if number == signal.SIGINT:
        assert status == 130
        assert parent.text().count("and saved; the same command continues") == 2
        assert "Traceback" not in parent.text()
    wait_until(lambda: len(list(out.glob("*/checkpoints/step-*"))) >= 2)  # orphans notice, save and end
    again = processes.resnetlab(*words, folder=tmp_path)
    assert again.wait() == 0, again.text()
    assert len(list(out.glob("*/result.json"))) == 2


@pytest.mark.slow
def test_from_start_to_tables(command: Command, capsys: Captured) -> None:
    assert command("reproduce", "table5", *SMALL, "--networks", "resnet18-A", "resnet18-A", "plain18") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "all 3" in text
    assert "1/8 of the paper's widths" in text
    assert "Errors: 10-crop, shorter side 37, softmax averaged" in text
    assert "is not for crops as small as these" in text
    runs = Path("runs")
    record = json.loads((runs / "table5-digits/table5.json").read_text())
    assert [(run["network"], run["seed"]) for run in record["runs"]] == [
        ("resnet18", 0),
        ("resnet18", 1),
        ("plain18", 0),
    ]
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")}
    assert len(stamps) == 3
    assert len(list(runs.glob("*/scores-ten-crop.safetensors"))) == 3
    assert command("reproduce", "table2", *SMALL, "--networks", "resnet18-A", "plain18") == 0
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")} == stamps
    assert {path.suffix for path in (runs / "table2-digits").iterdir()} == {".md", ".json", ".png", ".svg"}
    page = (runs / "table2-digits/table2.md").read_text()
    (row,) = [line for line in page.splitlines() if "ResNet-18 A" in line and "27.88" in line]
    kept = next(runs.glob("*resnet18-A*seed0*/scores-ten-crop.safetensors"))
    assert f"{Scored.load(kept).answers().error:.2f}" in row
    capsys.readouterr()
    assert command("evaluate", str(kept.parent), "--protocol", "ten-crop") == 0  # the same, by hand
    assert f"test error {Scored.load(kept).answers().error:.2f} %" in capsys.readouterr().out


def two(words: list[str]) -> None:
    """What each of two processes does."""
    processes.command(words)


@pytest.mark.slow
def test_a_folder_in_two_processes(command: Command, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    words = [
        "reproduce",
        "table2",
        "--data",
        "photos",
        "--iterations",
        "2",
        *SMALL[2:],
        "--networks",
        "resnet18-A",
        "plain18",
    ]
    words += ["--image-size", "32", "--narrow", "8", "--out", "two"]
    children = processes.in_two(two, words, folder=tmp_path)
    assert [child.wait() for child in children] == [0, 0], children[0].text()
    record = json.loads((tmp_path / "two/table2-photos/table2.json").read_text())
    assert [run["network"] for run in record["runs"]] == ["resnet18", "plain18"]
    for run in record["runs"]:
        assert run["tested"]["images"] == 12
        assert run["result"]["environment"]["processes"] == 2
    assert "ResNet-18 A" in children[0].text()
    assert children[1].text() == ""
    folder = next((tmp_path / "two").glob("*resnet18*"))
    assert command("evaluate", str(folder), "--protocol", "ten-crop", "--out", "e") == 0
    assert "of 12 test images" in capsys.readouterr().out
    one, other = (Scored.load(path) for path in (tmp_path / "e", folder / "scores-ten-crop.safetensors"))
    assert (one.scores - other.scores).abs().max() < 1e-4
    assert one.names == other.names


@pytest.mark.slow
def test_a_study_of_networks_that_two_processes_trained(tmp_path: Path) -> None:
    """Only the first process measures, and does not wait for the other one."""
    words = [
        "reproduce",
        "lesions",
        "--networks",
        "cifar_plain8-narrow4",
        "cifar_resnet8-narrow4",
        "--iterations",
        "2",
    ]
    children = processes.in_two(two, [*words, "--images", "100", "--threads", "1", "--out", "two"], folder=tmp_path)
    assert [child.wait() for child in children] == [0, 0], children[0].text()
    record = read_record(tmp_path / "two/lesions-digits/lesions.json")
    assert [run["result"]["environment"]["processes"] for run in record.runs] == [2, 2]
    assert all(run["measured"]["images"] == 100 for run in record.runs)


def test_plans(command: Command, capsys: Captured, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    monkeypatch.setattr(plan, "SECONDS", 0.01)
    monkeypatch.setattr(plan, "others_busy", lambda: 0.0)
    words = ("--networks", "resnet18-B", "plain18", "--narrow", "8", "--image-size", "32")
    assert command("reproduce", "table3", "--scale", "full", "--dry-run", *words) == 0
    text = capsys.readouterr().out
    assert "153,600,000" in text  # 256 images in 600,000 steps
    text = " ".join(text.split())
    assert "1,281,167 training and 50,000 test images" in text
    assert "without reading of files" in text
    assert "WARNING" not in text
    monkeypatch.setattr(plan, "others_busy", lambda: 2.0)
    assert command("reproduce", "figure6", "--dry-run", "--networks", "cifar_plain8") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "128,000" in text
    assert "WARNING: other programs kept about 2.0 of" in text
    words = ("--data", "photos", "--dry-run", "--image-size", "32", "--epochs", "2", "--networks", "resnet18-B")
    assert command("reproduce", "table4", *words) == 0
    assert "with reading of files" in " ".join(capsys.readouterr().out.split())
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("table3", "--scale", "full"), "data/imagenet does not exist"),
        (("table3", "--scale", "folder"), "needs a folder of your images with --data"),
        (("table6", "--scale", "folder"), "has the scales digits, short, full"),
        (("table6", "--narrow", "2"), "--narrow takes no effect with table6; it is for figure4, table2"),
        (("table3", "--narrow", "5"), "its first 64 filters must divide"),
        (("table3", "--rounds", "2"), "--rounds takes no effect with table3; it is for cost"),
        (("table3", "--epochs", "1", "--iterations", "2"), "both epochs and iterations are given"),
        (("table1", "--seeds", "2"), "--seeds takes no effect with table1"),
        (("cost", "--set", "flip=false"), "--set takes no effect with cost"),
        (("figure6", "--recipe", "cifar"), "--recipe takes no effect with figure6; remove it"),
        (("table77",), "did you mean table"),
        (("table2", "--networks", "resnet19"), "did you mean resnet18"),
    ],
)
def test_mistakes(command: Command, arguments: tuple[str, ...], hint: str, capsys: Captured) -> None:
    assert command("reproduce", *arguments) == 2
    shown = capsys.readouterr().err
    assert hint in " ".join(shown.split())
    assert not Path("runs").exists()
