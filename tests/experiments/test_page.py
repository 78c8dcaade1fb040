"""The page has every entry of the catalogue, the paper's number beside ours, every run with its evaluation."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import resnetlab
from resnetlab.cli.evaluation import evaluation_of_run
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.catalogue import CATALOGUE, ENTRIES, find
from resnetlab.experiments.depth import depth_record
from resnetlab.experiments.experiment import Experiment
from resnetlab.experiments.gathering import Gathered, gather
from resnetlab.experiments.options import Options
from resnetlab.experiments.overview import Expected, lead, missing, overview
from resnetlab.experiments.sections import _classes, of_run, page
from resnetlab.experiments.study import experiment_of
from resnetlab.report.record import Record
from resnetlab.report.writing import write_record
from resnetlab.runs.finished import FinishedRun, finished_runs
from resnetlab.runs.settings import Settings
from tests.experiments.test_records import DEGRADED, run

Command = Callable[..., int]


def record(name: str, runs: list[FinishedRun]) -> Record:
    entry = CATALOGUE[name]
    assert isinstance(entry, Experiment)
    return depth_record(entry, runs)


def test_our_number_beside_the_papers() -> None:
    seeds = [run("cifar_resnet110", 0.1, test, seed) for seed, test in enumerate((6.4, 6.8))]
    rows = overview({"record-1": record("table6", [*seeds, run("cifar_resnet56", 0.1, 7.2)])}, {}).rows
    (row,) = [row for row in rows if row.anchor]
    assert row.cells == (
        "Table 6: test error of residual networks of growing depth",
        "run: cifar10, 2 networks, 2 seeds",
        "ResNet-110: 6.60 ± 0.28 % test error",
        "6.61 % (CIFAR-10 test, single view, with data augmentation)",
        "-0.01 (within the seeds' spread)",
    )


def test_other_data_is_not_compared() -> None:
    rows = overview({"a": record("figure6", [run("cifar_resnet20", 0.1, 7.2, data="digits")])}, {}).rows
    (row,) = [row for row in rows if row.anchor]
    assert row.cells[2:] == (
        "ResNet-20: 7.20 % test error",
        "8.75 % (CIFAR-10 test, single view, with data augmentation)",
        "other data or length",
    )


def test_the_table_of_ensembles_shows_the_ensemble() -> None:
    made = Record("table5", "Table 5", ("All 6 together make 3.10 % top-5 error, the best of them alone 4.00 %.",))
    made = replace(made, runs=(run("resnet50", 1.0, 20.0).to_json(),))
    (row,) = [row for row in overview({"a": made}, {}).rows if row.anchor]
    assert row.cells[2].startswith("All 6 together make 3.10 % top-5 error")
    assert row.cells[3] == "3.57 % top-5 (ImageNet test, ensemble)"


def test_the_worst_classes_of_a_table_that_is_cut(tmp_path: Path) -> None:
    lines = ["class,images,predicted,right,precision,recall,f1", *(f"c{k},9,9,9,1.0,1.0,{k / 20}" for k in range(12))]
    lines[3] = "c2,9"
    lines[8] = "c7,9,9,0,0,0,5e-05"
    (tmp_path / "per_class.csv").write_text("\n".join(lines))
    (table,) = _classes(tmp_path)
    assert [row[0] for row in table.rows[:3]] == ["c0", "c7", "c1"]
    assert table.title == "The 10 worst of 11 classes"


def test_every_entry_has_a_row_and_its_command() -> None:
    made = {"record-1": record("figure6", DEGRADED)}
    rows = overview(made, {"table6": "about 3 min on this machine"}).rows
    assert [row.cells[0] for row in rows] == [entry.title for entry in ENTRIES]
    assert {row.command for row in rows if not row.anchor} == {
        f"resnetlab reproduce {entry.name}" for entry in missing(made.values())
    }
    (table6,) = [row for row in rows if row.command.endswith(" table6")]
    assert table6.cells[1] == "not run: about 3 min on this machine"


def test_times_are_estimated_where_data_are_there() -> None:
    expected = Expected(Options())
    assert expected(find("figure1")).startswith("about ")
    assert expected(find("cost")) == ""  # measured, not trained
    assert Expected(Options(scale="full"))(find("table6")) == ""  # CIFAR-10 is not on this machine


def test_finished_runs_take_no_time(tmp_path: Path) -> None:
    options, entry = Options(out=tmp_path), find("figure1")
    experiment = experiment_of(entry)
    assert experiment is not None
    for name in experiment.specs(replace(experiment.settled(options), data="digits"), 1297):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").touch()
    assert Expected(options).minutes(entry) == 0
    assert Expected(Options(out=tmp_path / "other")).minutes(entry) > 0  # type: ignore[operator]


def test_the_first_figure_is_that_of_the_most_seeds() -> None:
    one = record("figure6", DEGRADED)
    two = record("figure1", [run(network, 1.0, 2.0, seed) for network in ("cifar_plain20",) for seed in (0, 1)])
    assert lead([one, two]) == (two.figures[0], " ".join(two.sentences))
    assert lead([Record("cost", "t")]) is None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its evaluation."""
    folder = tmp_path_factory.mktemp("made") / "a"
    options = {"network": "cifar_resnet8-narrow4", "iterations": 20, "set": {"report_every": 10}}
    resnetlab.train("digits", out=folder, progress=False, **options)  # type: ignore[arg-type]
    evaluation_of_run(folder, Settings())
    return folder


@pytest.fixture
def trained(command: Command, made: Path, tmp_path: Path) -> Path:
    """Two runs, one of them not finished, and a record."""
    for name in ("a", "b"):
        shutil.copytree(made, tmp_path / "runs" / name)
    (tmp_path / "runs/b/result.json").unlink()
    write_record(record("figure6", DEGRADED), tmp_path / "runs" / "figure6-digits")
    (tmp_path / "runs" / "other.json").write_text('{"networks": 1}')
    (tmp_path / "runs" / "damaged.json").write_text("{")
    return tmp_path / "runs"


def test_records_and_runs_are_found(trained: Path) -> None:
    found = gather([trained])
    assert list(found.runs) == [trained / "a"]
    assert found.unfinished == [trained / "b"]
    assert [record.name for record in found.records.values()] == ["figure6"]
    again = gather([trained / "figure6-digits" / "figure6.json"])
    assert again.records.keys() == found.records.keys()
    with pytest.raises(ResnetlabError, match="not a record"):
        gather([trained / "other.json"])
    with pytest.raises(ResnetlabError, match="nothing does not exist"):
        gather([trained / "nothing"])


def test_a_run_has_its_numbers_pictures_layers_and_command(trained: Path) -> None:
    folder = trained / "a"
    (finished,) = finished_runs([folder]).values()
    section = of_run("run-1", folder, finished)
    numbers, classes, layers = section.record.tables
    said = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert dict(numbers.rows)["test error %"] == f"{said['top1_error']:.2f}"
    assert dict(numbers.rows)["macro-F1"] == f"{said['macro_f1']:.3f}"
    assert [row[0] for row in classes.rows] == [str(k) for k in range(10)]
    assert layers.rows[0][:2] == ("conv1", "8x8")
    assert layers.note.endswith("images of 8x8 pixels")
    assert {picture.file.name for picture in section.pictures} == {
        *("sample.png", "confusion.png", "reliability.png", "mistakes.png", "explained.png")
    }
    assert section.command.startswith("resnetlab")


def test_the_command(command: Command, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("report", str(trained), "--out", "page", "--no-estimate") == 0
    shown = capsys.readouterr().out
    assert f"{trained / 'b'} has not finished" in shown
    text = Path("page/index.html").read_text()
    assert "ResNet-8 on digits, seed 0: a" in text
    assert "Confusion matrix of the test images" in text
    assert "resnetlab reproduce table1" in text
    Path("empty").mkdir()
    assert command("report", "empty") == 2
    assert "no finished run and no record" in capsys.readouterr().err
    assert command("report", str(trained), "--out", "page/index.html") == 2
    assert "is a file" in capsys.readouterr().err


def test_without_an_experiment_the_page_is_about_the_runs() -> None:
    made = page(Gathered(), {})
    assert (made.lead, made.overview, made.title) == (None, None, "Trained networks")


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: run.pop("seed"),
        lambda run: run["config"].pop("network"),
        lambda run: run["result"].pop("test_error"),
        lambda run: run.update(curve=[]),
        lambda run: run["curve"][0].pop("test_error"),
        lambda run: run.update(result=[]),
    ],
)
def test_a_record_with_a_damaged_run_is_named(tmp_path: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    content = record("figure6", DEGRADED).to_json()
    damage(content["runs"][0])
    (tmp_path / "figure6.json").write_text(json.dumps(content))
    with pytest.raises(ResnetlabError, match="figure6.json is damaged"):
        gather([tmp_path / "figure6.json"])
    (tmp_path / "below").mkdir()
    (tmp_path / "figure6.json").rename(tmp_path / "below" / "figure6.json")
    assert len(gather([tmp_path]).problems) == 1


def test_a_record_with_rows_of_another_length_is_named(tmp_path: Path) -> None:
    content = record("figure6", DEGRADED).to_json()
    content["tables"][0]["rows"][0].append("x")
    (tmp_path / "figure6.json").write_text(json.dumps(content))
    with pytest.raises(ResnetlabError, match="figure6.json: no record: a row of 7 cells in a table of 6"):
        gather([tmp_path / "figure6.json"])
