"""Experiments: which cells, run side by side, not run twice, and what they say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnetlab.errors import ResnetlabError
from resnetlab.experiments.definitions import EXPERIMENTS, cells, default_recipe, experiment
from resnetlab.networks import architecture
from resnetlab.paper.tables import TABLE6

RUN = [sys.executable, "-c", "from resnetlab.cli import main; main()", "reproduce", "figure6"]
SMALL = ["--networks", "cifar_plain8", "cifar_resnet8", "--iterations", "40", "--seeds", "2"]


def test_full_scale_is_the_papers_experiment() -> None:
    found = cells(experiment("figure6"), "full", seeds=2)
    assert len(found) == 20
    for cell in found.values():
        assert (cell.source, cell.recipe.iterations, cell.recipe.drops) == ("cifar10", 64_000, (32_000, 48_000))
        assert (cell.recipe.warmup_rate == 0.01) == (cell.network.depth >= 110)
    assert set(EXPERIMENTS["table6"].full) == {row.network for row in TABLE6 if row.network}


def test_recipes_of_cells_are_changed() -> None:
    changes = ("validation=5000", "precision=bfloat16", "decayed=weights", "exact_statistics=true")
    found = cells(experiment("table6"), "full", networks=("resnet20", "resnet110"), changes=changes)
    for cell in found.values():
        recipe = cell.recipe
        assert (recipe.validation, recipe.precision, recipe.decayed) == (5000, "bfloat16", "weights")
        assert recipe.exact_statistics
        assert recipe.iterations == 64_000
    assert [cell.recipe.warmup_rate for cell in found.values()] == [None, 0.01]
    assert not found.keys() & cells(experiment("table6"), "full").keys()
    with pytest.raises(ResnetlabError, match="no field 'speed'"):
        cells(experiment("table6"), "full", changes=("speed=1",))


def test_cells_are_narrowed_and_named_apart() -> None:
    found = cells(experiment("figure6"), "digits", networks=("plain20", "cifar_resnet110"), iterations=64)
    assert list(found) == ["digits-cifar_plain20-digits-64-seed0", "digits-cifar_resnet110-digits-64-seed0"]
    with pytest.raises(ResnetlabError, match="for ImageNet"):
        cells(experiment("figure6"), "digits", networks=("resnet50",))
    with pytest.raises(ResnetlabError, match="did you mean figure6"):
        experiment("figure66")


def test_the_same_cell_serves_figure_1_and_figure_6() -> None:
    assert cells(experiment("figure1"), "digits").items() <= cells(experiment("figure6"), "digits").items()


def test_every_data_set_has_its_recipe() -> None:
    shallow, deep = architecture("cifar_resnet20"), architecture("cifar_resnet110")
    assert [default_recipe(data, shallow) for data in ("digits", "cifar10", "cifar100", "x/y")] == [
        "digits",
        "cifar",
        "cifar",
        "short",
    ]
    assert default_recipe("cifar100", deep) == "cifar-warmup"


def test_reproduce_runs_reports_and_does_not_run_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = subprocess.run([*RUN, *SMALL, "--out", str(out)], capture_output=True, text=True, check=True)
    report = out / "figure6-digits"
    assert {p.name for p in report.iterdir()} == {f"figure6.{kind}" for kind in ("png", "svg", "md", "json")}
    assert "plain-8" in first.stdout
    assert "One depth alone shows nothing about depth." in first.stdout
    record = json.loads((report / "figure6.json").read_text())
    assert [(run["network"], run["seed"]) for run in record["runs"]] == [
        ("cifar_plain8", 0),
        ("cifar_resnet8", 0),
        ("cifar_plain8", 1),
        ("cifar_resnet8", 1),
    ]
    assert all(run["curve"][-1]["test_error"] == run["result"]["test_error"] for run in record["runs"])
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*/model.safetensors")}
    assert len(stamps) == 4
    again = subprocess.run([*RUN, *SMALL, "--out", str(out)], capture_output=True, text=True, check=True)
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/model.safetensors")} == stamps
    assert again.stdout.splitlines()[-11:] == first.stdout.splitlines()[-11:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_experiment_leaves_no_process_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    arguments = [*RUN, "--networks", "cifar_plain8", "cifar_resnet8", "--iterations", "600", "--out", str(out)]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as parent:
        deadline = time.monotonic() + 60
        while len(list(out.glob("*/metrics.jsonl"))) < 2 or any(
            not p.read_text() for p in out.glob("*/metrics.jsonl")
        ):
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.05)
        (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)
        text, _ = parent.communicate(timeout=60)
    if number == signal.SIGINT:  # as a terminal sends it: to every process of the group
        assert parent.returncode == 130
        assert text.count("and saved; the same command goes on") == 2
        assert "Traceback" not in text
    while len(list(out.glob("*/checkpoints/step-*"))) < 2:  # the orphans notice, save and end
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert len(list(out.glob("*/result.json"))) == 2
