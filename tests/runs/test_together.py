"""Runs that take turns in one process against the same runs alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnetlab.data.dataset import Pixels
from resnetlab.data.named import DataSource
from resnetlab.models.modelfile import load
from resnetlab.networks.architecture import architecture
from resnetlab.networks.resnet import build
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.several import default_jobs, together
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import read_curve, read_result
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.interrupt import Wish
from resnetlab.training.loop import start
from resnetlab.training.named_recipes import CIFAR

ALONE = Settings(device="cpu", threads=1)


@pytest.fixture
def specs(tiny_npz: Path) -> dict[str, RunSpec]:
    recipe = replace(CIFAR.scaled(12), batch_size=16, padding=1, report_every=4)
    rows = {"plain": architecture("cifar_plain8"), "residual": architecture("cifar_resnet8")}
    return {
        f"{name}-{seed}": RunSpec(row, DataSource(str(tiny_npz)), recipe, seed)
        for name, row in rows.items()
        for seed in range(2)
    }


@pytest.mark.parametrize("settings", [ALONE, replace(ALONE, capture="yes")])
@pytest.mark.parametrize("at_once", [1, 3, 9])
def test_each_runs_numbers_are_as_if_it_ran_alone(specs, tmp_path: Path, settings: Settings, at_once: int) -> None:
    updates = list(together(specs, tmp_path / "together", settings, at_once, Wish()))
    assert sorted(update.name for update in updates if update.ended == "finished") == sorted(specs)
    order = [update.name for update in updates if update.progress and update.progress.step == 6]
    last = max(k for k, update in enumerate(updates) if update.name == order[0])
    assert (updates.index(next(u for u in updates if u.name == order[1])) < last) == (at_once > 1)  # they take turns
    for name, spec in specs.items():
        list(run(spec, tmp_path / "alone" / name, settings))
        found, expected = (tmp_path / place / name / "metrics.jsonl" for place in ("together", "alone"))
        assert found.read_bytes() == expected.read_bytes()
        assert (tmp_path / "together" / name / "result.json").exists()


def test_images_are_read_once(specs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    read = DataSource.load
    monkeypatch.setattr(DataSource, "load", lambda *place: asked.append(place) or read(*place))
    list(together(specs, tmp_path, ALONE, 4, Wish()))
    assert len(asked) == 1


def test_a_run_that_fails_does_not_stop_the_others(specs, tmp_path: Path) -> None:
    specs["plain-0"] = replace(specs["plain-0"], data=DataSource("nowhere"))
    specs["plain-1"] = replace(specs["plain-1"], recipe=replace(specs["plain-1"].recipe, learning_rate=1e30))
    ended = {update.name: update for update in together(specs, tmp_path, ALONE, 4, Wish()) if update.ended}
    kinds = {name: update.ended for name, update in ended.items()}
    assert kinds == {"plain-0": "failed", "plain-1": "failed", "residual-0": "finished", "residual-1": "finished"}
    assert "nowhere" in ended["plain-0"].message
    assert "loss" in ended["plain-1"].message


def test_a_wish_to_stop_saves_all(specs, tmp_path: Path) -> None:
    wish, ended = Wish(), {}
    for update in together(specs, tmp_path / "t", ALONE, 3, wish):
        if update.ended:
            ended[update.name] = update.ended
        wish.to_stop = wish.to_stop or (update.progress is not None and update.progress.step == 5)
    assert set(ended.values()) == {"interrupted"}
    assert len(ended) == 4  # the one that had not started too
    list(together(specs, tmp_path / "t", ALONE, 3, Wish()))
    for name, spec in specs.items():
        list(run(spec, tmp_path / "alone" / name, ALONE))
        found, expected = (tmp_path / place / name / "metrics.jsonl" for place in ("t", "alone"))
        assert found.read_bytes() == expected.read_bytes()


def test_how_many_at_a_time(specs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [default_jobs(specs, side_by_side, cpu) for side_by_side in (False, True)] == [1, 2]
    assert default_jobs(specs, False, gpu) == 4


def test_validation_and_exact_statistics(specs, tmp_path: Path) -> None:
    spec = specs["residual-0"]
    spec = replace(spec, recipe=replace(spec.recipe, validation=8, exact_statistics=True))
    list(run(spec, tmp_path / "r", ALONE))
    result, points = read_result(tmp_path / "r"), read_curve(tmp_path / "r")
    assert result is not None
    assert result["protocol"] == "single view, last iteration, exact batch-norm statistics"
    best = min(points, key=lambda point: point["validation_error"])
    assert result["best_on_validation"] == {key: best[key] for key in ("step", "validation_error", "test_error")}
    assert result["test_loss"] != points[-1]["test_loss"]  # with other statistics
    model = load(tmp_path / "r")
    test = spec.load().test
    assert isinstance(test, Pixels)
    found = CLASSIFICATION.test(model.network, [(model.preprocessing(test.pixels), test.labels)]).metrics
    assert found["error"] == result["test_error"]
    assert found["loss"] == pytest.approx(result["test_loss"])


def test_decay_of_weights_alone(specs) -> None:
    recipe = specs["plain-0"].recipe
    for decayed, count in (("all", 1), ("weights", 2)):
        state = start(build("cifar_resnet8"), replace(recipe, decayed=decayed), torch.device("cpu"))
        groups = state.optimizer.param_groups
        assert len(groups) == count
        assert groups[0]["weight_decay"] == 1e-4
        free = {id(p) for group in groups[1:] for p in group["params"]}
        assert all(group["weight_decay"] == 0 for group in groups[1:])
        assert free == {id(p) for p in state.network.parameters() if p.ndim <= 1 and decayed == "weights"}
