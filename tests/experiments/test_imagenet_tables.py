"""Tables 2 to 5 and Figure 4: the paper's experiments to the letter, and in miniature from start to table."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.scores import Scored
from resnetlab.experiments import plan
from resnetlab.experiments.definitions import EXPERIMENTS, cells, experiment, protocol_of
from resnetlab.networks.measure import multiply_adds, on_meta
from resnetlab.networks.resnet import architecture
from resnetlab.paper.tables import TABLE2, TABLE3, TABLE4, printed

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]
IMAGENET = ("figure4", "table2", "table3", "table4", "table5")
MAIN = [sys.executable, "-c", "from resnetlab.cli import main; main()"]
SMALL = ("--iterations", "6", "--set", "batch_size=8", "--workers", "1")


@pytest.mark.parametrize("name", IMAGENET)
def test_full_scale_is_the_papers_experiment(name: str) -> None:
    for cell in cells(experiment(name), "full", images=1_281_167).values():
        recipe = cell.recipe
        assert (recipe.iterations, recipe.drops, recipe.batch_size) == (600_000, (150_000, 300_000), 256)
        assert (recipe.statistics_over, recipe.exact_statistics) == (32, True)
        assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
        assert (recipe.crop, recipe.sides, recipe.crop_size, recipe.colour) == ("shorter-side", (256, 480), 224, 0.1)
        assert cell.network.narrow == 1
    assert EXPERIMENTS[name].protocol == {"figure4": "center", "table2": "ten-crop", "table3": "ten-crop"}.get(
        name, "dense"
    )


def test_the_networks_are_those_of_the_tables() -> None:
    for name, rows, protocol in (
        ("table2", TABLE2, "ten-crop"),
        ("table3", TABLE3, "ten-crop"),
        ("table4", TABLE4, "dense"),
    ):
        theirs = {(row.network, row.shortcut) for row in rows if row.network}
        networks = [cell.network for cell in cells(experiment(name), "full").values()]
        assert {(row.name, row.shortcut) for row in networks} == theirs
        assert len(networks) == len(theirs)
        for row in networks:
            assert printed(row.name, row.shortcut, protocol) is not None
    six = cells(experiment("table5"), "full")
    assert Counter(cell.network.depth for cell in six.values()) == {34: 2, 50: 1, 101: 1, 152: 2}
    assert sorted(cell.seed for cell in six.values() if cell.network.depth == 152) == [0, 1]
    assert {cell.seed for cell in cells(experiment("table5"), "full", seeds=2).values()} == {0, 1, 2, 3}


def test_the_schedule_of_figure_4_can_end_where_it_is_drawn() -> None:
    changes = ("drops=150000,300000",)
    (cell,) = cells(
        experiment("figure4"), "full", networks=("plain18",), iterations=550_000, changes=changes
    ).values()
    assert (cell.recipe.iterations, cell.recipe.drops) == (550_000, (150_000, 300_000))


def test_runs_are_shared() -> None:
    table3, table4 = (cells(experiment(name), "digits") for name in ("table3", "table4"))
    assert table4.items() <= table3.items()
    assert cells(experiment("table2"), "digits") == cells(experiment("figure4"), "digits")
    assert all(cell.network.narrow == 8 for cell in table3.values())


def test_small_crops_are_not_tested_fully_convolutionally() -> None:
    ways = {(name, size): protocol_of(experiment(name), size) for name in IMAGENET for size in (32, 224)}
    assert ways["table4", 224] == ways["table5", 224] == "dense"
    assert {way for (name, size), way in ways.items() if size == 32 and name != "figure4"} == {"ten-crop"}
    assert ways["figure4", 32] == ways["figure4", 224] == "center"
    assert protocol_of(experiment("table6"), 224) is None


def test_options_are_named() -> None:
    found = cells(experiment("options"), "digits")
    assert [(c.network.name, c.network.shortcut) for c in found.values()][:3] == [
        ("cifar_resnet20", option) for option in "ABC"
    ]
    with pytest.raises(ResnetlabError, match="the shortcut's option"):
        cells(experiment("table3"), "digits", networks=("resnet34-D",))
    with pytest.raises(ResnetlabError, match="is for CIFAR"):
        cells(experiment("table3"), "digits", networks=("cifar_resnet20",))
    with pytest.raises(ResnetlabError, match="cannot have shortcut"):
        cells(experiment("table3"), "digits", networks=("plain34-A",))


def resnetlab(folder: Path, *arguments: str) -> str:
    """What the command prints, from a folder; its runs have processes of their own."""
    done = subprocess.run([*MAIN, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_start_to_tables(tmp_path: Path) -> None:
    text = resnetlab(tmp_path, "reproduce", "table5", *SMALL, "--networks", "resnet18-A", "resnet18-A", "plain18")
    assert "all 3" in text
    assert "1/8 of the paper's widths" in " ".join(text.split())
    assert "Errors: 10-crop, shorter side 37, softmax averaged" in " ".join(text.split())
    assert "is not for crops as small as these" in " ".join(text.split())
    runs = tmp_path / "runs"
    record = json.loads((runs / "table5-digits/table5.json").read_text())
    assert [(run["network"], run["seed"]) for run in record["runs"]] == [
        ("resnet18", 0),
        ("resnet18", 1),
        ("plain18", 0),
    ]
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")}
    assert len(stamps) == 3
    assert len(list(runs.glob("*/scores-ten-crop.safetensors"))) == 3
    resnetlab(tmp_path, "reproduce", "table2", *SMALL, "--networks", "resnet18-A", "plain18")
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")} == stamps
    assert {path.suffix for path in (runs / "table2-digits").iterdir()} == {".md", ".json", ".png", ".svg"}
    page = (runs / "table2-digits/table2.md").read_text()
    (row,) = [line for line in page.splitlines() if "ResNet-18 A" in line and "27.88" in line]
    kept = next(runs.glob("*resnet18-A*seed0*/scores-ten-crop.safetensors"))
    assert f"{Scored.load(kept).answers().error:.2f}" in row
    text = resnetlab(tmp_path, "evaluate", str(kept.parent), "--protocol", "ten-crop")  # the same, by hand
    assert f"test error {Scored.load(kept).answers().error:.2f} %" in text


def test_a_folder_in_two_processes(photos: Path, tmp_path: Path) -> None:
    arguments = ["reproduce", "table2", "--data", "photos", *SMALL, "--networks", "resnet18-A", "plain18"]
    arguments += ["--image-size", "32", "--narrow", "8", "--threads", "1", "--out", "two"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "resnetlab"]
    done = subprocess.run(
        [sys.executable, *launch, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "two/table2-photos/table2.json").read_text())
    assert [run["network"] for run in record["runs"]] == ["resnet18", "plain18"]
    for run in record["runs"]:
        assert run["tested"]["images"] == 12
        assert run["result"]["environment"]["processes"] == 2
    assert "ResNet-18 A" in done.stdout
    folder = next((tmp_path / "two").glob("*resnet18*"))
    alone = resnetlab(tmp_path, "evaluate", str(folder), "--protocol", "ten-crop", "--out", "e")
    assert "of 12 test images" in alone
    scores = [Scored.load(path) for path in (tmp_path / "e", folder / "scores-ten-crop.safetensors")]
    torch.testing.assert_close(scores[0].scores, scores[1].scores, rtol=1e-4, atol=1e-6)
    assert scores[0].names == scores[1].names


def test_plans(command: Command, capsys: Captured, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    monkeypatch.setattr(plan, "SECONDS", 0.01)
    assert command("reproduce", "table3", "--scale", "full", "--dry-run", "--networks", "resnet34-B", "plain18") == 0
    text = capsys.readouterr().out
    assert "153,600,000" in text  # 256 images in 600,000 steps
    assert "1,281,167 training and 50,000 test images" in text
    assert "without reading of files" in text
    assert command("reproduce", "figure6", "--dry-run", "--networks", "plain20") == 0
    assert "128,000" in capsys.readouterr().out
    assert command("reproduce", "table4", "--data", "photos", "--dry-run", "--image-size", "32", "--epochs", "2") == 0
    text = capsys.readouterr().out
    assert "with reading of files" in text
    assert not Path("runs").exists()


def test_views_cost_what_they_are_planned_to() -> None:
    """Against multiply-adds of each view of a photograph of 4:3."""
    network = on_meta(architecture("resnet34"))
    once = multiply_adds(network, (3, 224, 224))
    sides = (224, 256, 384, 480, 640)
    dense = sum(2 * multiply_adds(network, (3, side, round(side * 4 / 3))) for side in sides)
    assert plan.views("dense") == pytest.approx(dense / once, rel=0.03)
    assert plan.views("ten-crop") == 10


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("table3", "--scale", "full"), "data/imagenet is not there"),
        (("table3", "--scale", "folder"), "with --data FOLDER"),
        (("table6", "--scale", "folder"), "has the scales digits, full"),
        (("table6", "--narrow", "2"), "are for Tables 2 to 5"),
        (("table3", "--narrow", "5"), "its first 64 filters must divide"),
        (("table3", "--rounds", "2"), "are for cost"),
        (("table7",), "did you mean table"),
        (("table2", "--networks", "resnet19"), "did you mean resnet18"),
    ],
)
def test_mistakes(command: Command, arguments: tuple[str, ...], hint: str, capsys: Captured) -> None:
    assert command("reproduce", *arguments) == 2
    shown = capsys.readouterr().err
    assert hint in " ".join(shown.split())
    assert not Path("runs").exists()
