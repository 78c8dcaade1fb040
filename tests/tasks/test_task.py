"""A second task, whole in this file, goes through the loop, the run, its tests, resuming and the record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resnetlab.data.dataset import Dataset, Pixels
from resnetlab.data.named import DataSource
from resnetlab.errors import Interrupted, ResnetlabError
from resnetlab.experiments.depth import error_table
from resnetlab.experiments.learning_curves import run_figure
from resnetlab.models.modelfile import load
from resnetlab.networks.architecture import parse
from resnetlab.runs.finished import finished_runs
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.tasks.task import Metric, Task
from resnetlab.training.interrupt import Wish
from resnetlab.training.loop import Loss
from resnetlab.training.named_recipes import CIFAR
from resnetlab.training.recipe import Recipe

# The task: which of four properties an image has, several at a time


def _outputs(dataset: Dataset) -> tuple[str, ...]:
    return ("bright", "red", "left", "top")


def _loss(recipe: Recipe, dataset: Dataset, device: torch.device) -> Loss:
    return F.binary_cross_entropy_with_logits


def _test_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / targets.shape[1]


def _sums(logits: Tensor, targets: Tensor) -> Tensor:
    right = (logits > 0) == (targets > 0.5)
    images = torch.full((), len(targets), dtype=torch.float64, device=logits.device)
    return torch.stack([right.double().mean(1).sum(), right.all(1).double().sum(), images])


PROPERTIES = Task(
    name="properties",
    metrics=(Metric("accuracy", "%", 100.0, best="highest"), Metric("all right", "%", 100.0, best="highest")),
    outputs=_outputs,
    loss=_loss,
    test_loss=_test_loss,
    sums=_sums,
)

# What becomes of it

RECIPE = replace(CIFAR.scaled(30), batch_size=16, padding=0, flip=False, report_every=10, validation=8, keep="best")
SPEC = RunSpec(parse("cifar_resnet8-narrow2"), DataSource("made here"), RECIPE, task=PROPERTIES)
SETTINGS = Settings(device="cpu", threads=1)


@pytest.fixture
def properties() -> Dataset:
    """Images of noise, some brighter, some redder, some brighter at the left or at the top."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Pixels:
        targets = torch.randint(0, 2, (count, 4), generator=generator)
        noise = torch.randint(0, 40, (count, 8, 8, 3), generator=generator)
        noise += 60 * targets[:, 0, None, None, None]
        noise[..., 0] += 50 * targets[:, 1, None, None]
        noise[:, :, :4] += 50 * targets[:, 2, None, None, None]
        noise[:, :4] += 50 * targets[:, 3, None, None, None]
        return Pixels(noise.to(torch.uint8), targets.float())

    return Dataset("made here", ("bright", "red", "left", "top"), split(64), split(24), note="made by seed 0")


def test_it_trains_is_tested_and_recorded(properties: Dataset, tmp_path: Path) -> None:
    shown = [progress.numbers for progress in run(SPEC, tmp_path / "r", SETTINGS, properties)]
    assert shown[0] == "not yet tested"
    assert shown[-1].startswith("training accuracy ")
    assert "%, test " in shown[-1]
    lines = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    names = ("accuracy", "all right", "loss")
    splits = ("train", "test", "validation")
    assert list(lines[0]) == ["step", "learning_rate", *(f"{split}_{name}" for split in splits for name in names)]
    assert lines[-1]["train_accuracy"] > 70
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    best = max(line["validation_accuracy"] for line in lines)
    assert result["best_on_validation"]["validation_accuracy"] == best  # the highest, not the lowest
    assert result["test_images"] == 24
    model = load(tmp_path / "r")
    assert model.classes == ("bright", "red", "left", "top")
    test = properties.test
    assert isinstance(test, Pixels)
    tested = PROPERTIES.test(model.network, [(model.preprocessing(test.pixels), test.labels)])
    assert tested.metrics["accuracy"] == result["test_accuracy"]
    assert tested.images == 24
    (finished,) = finished_runs([tmp_path / "r"]).values()
    table = error_table([finished])
    assert table.header[2:] == ("training accuracy %", "test accuracy %")
    assert table.rows[0][3] == f"{result['test_accuracy']:.2f}"
    assert run_figure(finished).panels[0].y == "accuracy (%)"


def test_it_resumes_bit_for_bit(properties: Dataset, tmp_path: Path) -> None:
    list(run(SPEC, tmp_path / "whole", SETTINGS, properties))
    wish, steps = Wish(), 0
    try:
        for progress in run(SPEC, tmp_path / "parts", SETTINGS, properties, wish):
            wish.to_stop, steps = progress.step == 13, progress.step
    except Interrupted:
        assert steps == 13
    list(run(SPEC, tmp_path / "parts", SETTINGS, properties))
    for name in ("metrics.jsonl",):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, two = (load(tmp_path / name).network.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_field_that_it_does_not_heed_is_refused(properties: Dataset, tmp_path: Path) -> None:
    spec = replace(SPEC, recipe=replace(RECIPE, label_smoothing=0.1))
    with pytest.raises(ResnetlabError, match="label_smoothing takes no effect with the task properties"):
        list(run(spec, tmp_path / "r", SETTINGS, properties))
    assert not (tmp_path / "r").exists()


def test_runs_of_tasks_have_folders_of_their_own() -> None:
    assert SPEC.folder_name.startswith("properties-made here-cifar_resnet8-narrow2-")
