"""The studies on small trained networks: through the command line, from nothing and for a run of one's own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab.errors import ResnetlabError
from resnetlab.experiments.catalogue import CATALOGUE, find, inspections
from resnetlab.experiments.earlier import read_record
from resnetlab.experiments.experiment import Experiment
from resnetlab.experiments.options import Options
from resnetlab.experiments.study import Joined
from resnetlab.experiments.why.claims import Claim, claim_tables, colour, style
from resnetlab.experiments.why.initialisation import initialisation_record
from resnetlab.experiments.why.landscape import bumps
from resnetlab.networks.architecture import parse
from resnetlab.report.record import Record
from resnetlab.runs.finished import FinishedRun
from resnetlab.training.resolve import RecipeOptions

NAMES = ("figure7", "gradients", "lesions", "refinement", "landscape", "overfit")
SMALL = ("--networks", "cifar_plain8", "cifar_resnet8", "--iterations", "12", "--images", "110")
ONCE = ("--jobs", "1", "--compile", "no", "--threads", "1")
Command = Callable[..., int]


def read(path: Path) -> Record:
    return Record.from_json(json.loads(path.read_text()))


def test_every_study_is_in_the_catalogue() -> None:
    assert tuple(inspections()) == NAMES
    for name in NAMES:
        entry = find(name)
        experiment = entry.experiment if isinstance(entry, Joined) else entry
        assert isinstance(experiment, Experiment)
        assert {"digits", "short"} <= set(experiment.scales)
        assert entry.folder(Options()) == f"{name}-digits"
        assert "images" in entry.options
    assert isinstance(CATALOGUE["gradients"], Joined)


def test_studies_share_their_runs() -> None:
    figure7 = inspections()["figure7"].specs(Options())
    for name in ("lesions", "refinement", "landscape", "gradients"):
        assert set(inspections()[name].specs(Options())) <= set(figure7)
    grid = inspections()["overfit"].specs(Options())
    assert len(grid) == 18
    assert len({spec.recipe for spec in grid.values()}) == 6
    assert len(set(grid) & set(figure7)) == 3  # all images, no noise
    with pytest.raises(ResnetlabError, match="overfit varies images itself"):
        inspections()["overfit"].specs(Options(recipe=RecipeOptions(fields=("images=100",))))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name", ["figure7", *(pytest.param(name, marks=SLOW) for name in ("lesions", "refinement", "landscape"))]
)
def test_a_study_from_nothing(
    command: Command,
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resnetlab.analysis.loss_landscape.POINTS", 5)
    monkeypatch.setattr("resnetlab.analysis.loss_landscape.AT_MOST", 3)
    assert command("reproduce", name, *SMALL, *ONCE) == 0, capsys.readouterr()
    record = read(tmp_path / "runs" / f"{name}-digits" / f"{name}.json")
    titles = [table.title for table in record.tables]
    assert titles[-1] == "Claims and measurements"
    assert {row[3] for row in record.tables[-1].rows} <= {"holds", "does not hold", "cannot be told from these runs"}
    assert record.sentences
    assert len(record.runs) == 2
    assert all(run["measured"]["images"] == 110 for run in record.runs)
    for number, figure in enumerate(record.figures):
        assert "Claim: " in figure.title
        assert "digits, 12 iterations" in figure.title
        assert all(panel.x and panel.y for panel in figure.panels)
        assert (tmp_path / "runs" / f"{name}-digits" / f"{record.picture(number)}.png").stat().st_size > 1000
    again = tmp_path / "runs" / f"{name}-digits" / "again.json"
    again.write_text(json.dumps(record.to_json()))
    assert read_record(again) == record
    capsys.readouterr()
    assert command("reproduce", name, *SMALL, *ONCE) == 0
    assert "measuring" not in capsys.readouterr().out  # kept in the run folders
    assert command("reproduce", name, *SMALL[:-1], "120", *ONCE) == 0
    assert "measuring" in capsys.readouterr().out


@pytest.mark.slow
def test_the_grid_of_overfit(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnetlab.experiments.plan.SECONDS", 0.01)
    few = ("--networks", "cifar_resnet8-narrow4", "cifar_resnet14-narrow4", "--iterations", "4", "--images", "100")
    assert command("reproduce", "overfit", *few, *ONCE) == 0
    assert "ResNet-14" in capsys.readouterr().out.split("measuring overfit")[0]  # the expected time comes first
    record = read(tmp_path / "runs" / "overfit-digits" / "overfit.json")
    assert len(record.runs) == 12
    cells = [row[1:3] for row in record.tables[0].rows[:6]]
    assert cells == [("all", "0 %"), ("all", "20 %"), ("all", "50 %"), ("648", "0 %"), ("324", "0 %"), ("162", "0 %")]
    trained_on = {run["measured"]["trained_on"] for run in record.runs}
    assert trained_on == {1297, 648, 324, 162}


def test_analyse_runs_of_ones_own_photographs(
    command: Command, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ("train", "--data", str(photos), "--recipe", "modern-short", "--image-size", "32", "--batch-size", "8")
    train += ("--iterations", "2", "--threads", "1", "--workers", "1")
    assert command(*train, "--network", "resnet18-narrow16", "--out", "run") == 0
    capsys.readouterr()
    assert command("analyse", "run", "--only", "gradients") == 2
    error = capsys.readouterr().err
    assert "30 training images for this; the norm of gradients needs at least 32" in error


@pytest.mark.slow
@pytest.mark.parametrize("only", [("figure7", "landscape"), NAMES], ids=len)
def test_analyse_a_run_alone_and_two_together(
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    only: tuple[str, ...],
) -> None:
    monkeypatch.setattr("resnetlab.analysis.loss_landscape.POINTS", 5)
    monkeypatch.setattr("resnetlab.analysis.loss_landscape.AT_MOST", 3)
    random = np.random.default_rng(0)
    arrays = {f"x_{split}": random.integers(0, 255, (120, 32, 32, 3)).astype(np.uint8) for split in ("train", "test")}
    np.savez("own.npz", **arrays, **{f"y_{split}": np.arange(120) % 3 for split in ("train", "test")})
    for network in ("resnet18-narrow16", "plain18-narrow16"):
        words = ("--recipe", "short", "--iterations", "3", "--threads", "1", "--out", network)
        assert command("train", "--data", "own.npz", "--network", network, *words) == 0
    chosen = () if only == NAMES else ("--only", *only)
    options = ("--images", "110", "--surface", "3", "--threads", "1")
    assert command("analyse", "resnet18-narrow16", *options, *chosen) == 0
    folder = tmp_path / "resnet18-narrow16" / "analysis"
    assert {path.stem for path in folder.glob("*.json")} == set(only)
    surface = read(folder / "landscape.json").figures[1].panels[0]
    assert len(surface.grid) == len(surface.grid[0]) == 3
    capsys.readouterr()
    both = ("analyse", "plain18-narrow16", "resnet18-narrow16", "--only", "lesions", "--images", "110")
    assert command(*both, "--out", "both") == 0
    assert len(read(tmp_path / "both" / "lesions.json").runs) == 2
    assert "plain-18" in capsys.readouterr().out
    assert (tmp_path / "both" / "lesions.png").exists()


def test_what_cannot_be_analysed_is_refused(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        capsys.readouterr()
        assert command("analyse", *words) == 2
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "is not a run folder" in refused("empty")
    words = ("--recipe", "short", "--iterations", "3", "--threads", "1", "--out", "run")
    assert command("train", "--data", "digits", "--network", "cifar_resnet8-narrow4", *words) == 0
    assert "unknown study 'lesion': did you mean lesions" in refused("run", "--only", "lesion")
    assert "--surface takes no effect without landscape" in refused("run", "--only", "lesions", "--surface", "5")
    assert "--images 0: it must be at least 1" in refused("run", "--images", "0")
    assert "--images 50: a stable estimate needs at least 100" in refused("run", "--images", "50")
    (tmp_path / "run" / "result.json").unlink()
    assert "run has not finished" in refused("run")


def test_claims_and_colours() -> None:
    claims = [Claim("a", "b", "c", holds) for holds in (True, False, None)]
    verdicts = [row[3] for row in claim_tables(claims, "")[0].rows]
    assert claim_tables([], "") == ()
    assert verdicts == ["holds", "does not hold", "cannot be told from these runs"]
    rows = [parse(f"cifar_{kind}{depth}") for kind in ("plain", "resnet") for depth in (20, 56)]
    assert len({(colour(row), style(row)) for row in rows}) == 4
    assert bumps([3.0, 1.0, 2.0, 0.0, 4.0]) == 1
    assert bumps([2.0, 1.0, 0.5, 3.0]) == 0


def test_the_initial_part_is_made_again_from_its_data() -> None:
    path = Path(__file__).parents[2] / "results" / "why-digits" / "gradients.json"
    record = read_record(path)
    made = initialisation_record(record.data)
    assert made.tables == record.tables[: len(made.tables)]
    growth = {(e["network"], e["batch_norm"]): e["growth"] for e in record.data["initialisation"]}
    assert 1.1 < growth["cifar_plain110", True] < 1.22
    assert growth["cifar_resnet1202", True] < 1.01


def test_values_that_no_study_can_use_are_refused_before_training(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, hint in (
        (("landscape", "--surface", "1"), "--surface 1: give an odd number of at least 3"),
        (("landscape", "--surface", "4"), "--surface 4: give an odd number of at least 3"),
        (("figure7", "--images", "5"), "--images 5: a stable estimate needs at least 100"),
    ):
        assert command("reproduce", *words) == 2
        assert hint in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    (tmp_path / "model.safetensors").write_text("")
    assert command("analyse", "model.safetensors") == 2
    assert "is a file; give the folder of a finished run" in capsys.readouterr().err


def made_up(network: str, test: float, images: int = 0, noise: float = 0.0) -> FinishedRun:
    recipe = {"name": "digits", "iterations": 1000, "batch_size": 128, "precision": "float32", "report_every": 25}
    recipe |= {"images": images, "label_noise": noise}
    config = {"recipe": recipe, "data": {"name": "digits", "classes": list("0123456789")}, "seed": 0}
    block = {"rank_in": 3.0, "rank_function": 2.0, "distance": 60 / parse(network).depth, "branch": 0.1}
    result = {"train_error": test / 2, "test_error": test, "environment": {"device": "a processor"}}
    measured = {"blocks": [block, block], "images": 500, "trained_on": images or 1297}
    return FinishedRun(config | {"network": {"name": network}}, ({"step": 1000},), result, measured=measured)


def test_verdicts_need_networks_that_learned_and_differ_in_depth() -> None:
    overfit = inspections()["overfit"]

    def verdicts(*runs: FinishedRun) -> dict[str, str]:
        record = overfit.record(overfit, runs, [])
        return {row[0]: row[3] for table in record.tables for row in table.rows if len(row) == 4}

    shallow, deep = made_up("cifar_resnet20", 1.0), made_up("cifar_resnet56", 3.0)
    found = verdicts(shallow, deep)
    assert found["the deepest network overfits: its test error is higher"] == "holds"
    assert found["each block of the deeper network is closer to the identity"] == "holds"
    assert not verdicts(made_up("cifar_plain20", 1.0), made_up("cifar_resnet20", 3.0))  # neither is deeper
    untrained = verdicts(shallow, made_up("cifar_resnet56", 82.0))
    assert set(untrained.values()) == {"cannot be told from these runs"}
    record = overfit.record(overfit, [shallow, made_up("cifar_resnet56", 82.0)], [])
    assert "ResNet-56 hardly learned anything, so no claim is judged" in record.sentences[0]


def test_on_a_busy_machine_one_thread_measures(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("train", "--data", "digits", "--network", "cifar_resnet8", "--iterations", "2", "--out", "a") == 0
    torch.set_num_threads(2)
    monkeypatch.setattr("resnetlab.runs.settings.others_busy", lambda: 2.0)
    monkeypatch.setattr("resnetlab.runs.settings.os.cpu_count", lambda: 2)
    said = "one thread measures"
    assert command("analyse", "a", "--images", "110", "--only", "figure7", "gradients", "--threads", "2") == 0
    assert said not in capsys.readouterr().out
    assert command("analyse", "a", "--images", "111", "--only", "figure7", "gradients") == 0
    assert capsys.readouterr().out.count(said) == 1
    assert torch.get_num_threads() == 1
