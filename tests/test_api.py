"""Training and use from Python: the same as the command line, in names, results and errors."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

import resnetlab
from resnetlab.api import RECIPE, TrainOptions
from resnetlab.cli.command import OTHER_NAMES
from resnetlab.cli.train import train as command_train
from resnetlab.evaluation.scores import Scored
from resnetlab.runs.stored import read_result
from resnetlab.training.resolve import RecipeOptions

Command = Callable[..., int]
OPTIONS: dict[str, Any] = {"network": "cifar_resnet8-narrow4", "recipe": "modern-short", "image_size": 32}
OPTIONS |= {"batch_size": 8, "iterations": 3, "lr": 0.02, "set": {"label_smoothing": 0.2, "flip": False}}
WORDS = ("--network", "cifar_resnet8-narrow4", "--recipe", "modern-short", "--image-size", "32", "--batch-size", "8")
WORDS += ("--iterations", "3", "--lr", "0.02", "--set", "label_smoothing=0.2", "flip=no")
NOT_HERE = {"data", "folds", "task", "detector", "tensorboard"}
"""Options of the command for what is not in Python, or is a parameter of its own."""


def names_of_command() -> set[str]:
    found: set[str] = set()
    for name, kind in get_type_hints(command_train).items():
        if name in inspect.signature(command_train).parameters and name != "folder":
            for field in get_type_hints(kind, include_extras=False):
                if field in kind.__dataclass_fields__:
                    typed = OTHER_NAMES.get((kind, field), {}).get("name", field)
                    found.add("from_" if field == "from_" else typed)
    return found


def test_the_options_are_those_of_the_command() -> None:
    assert set(TrainOptions.__annotations__) | NOT_HERE == names_of_command() - {"jobs"}
    assert set(RECIPE.values()) | {"fields"} == set(RecipeOptions.__dataclass_fields__)


def test_the_same_weights_as_by_the_command(command: Command, photos: Path) -> None:
    run = resnetlab.train(photos, out="by-python", progress=False, **OPTIONS)
    assert command("train", "photos", "--out", "by-command", *WORDS) == 0
    one, other = (resnetlab.load(Path(name)).network.state_dict() for name in ("by-python", "by-command"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert run.curve[-1]["step"] == 3
    assert command("evaluate", "by-command", "--out", "e", "--protocol", "ten-crop") == 0
    found = run.evaluate(protocol="ten-crop", progress=False)
    torch.testing.assert_close(found.scored.logits, Scored.load(Path("e")).logits)
    assert found.error == 100 - found.accuracy == Scored.load(Path("e")).answers().error
    assert found.interval.low < found.error < found.interval.high
    again = resnetlab.evaluate(run.model, "photos", protocol="ten-crop", progress=False)
    torch.testing.assert_close(again.scored.logits, found.scored.logits)
    both = (list(resnetlab.predict(model, "photos")) for model in (run, run.folder))
    assert next(both) == next(both)
    assert "95 % interval" in str(found)
    assert "10-crop" in str(found)


def test_predictions(command: Command, photos: Path) -> None:
    run = resnetlab.train("photos", out="run", progress=False, **OPTIONS)
    path = next((photos / "test" / "bee").iterdir())
    one = run.predict(path)
    assert isinstance(one, resnetlab.Prediction)
    assert one.path == path
    assert len(one.classes) == 3
    several = run.predict([str(path), "missing.jpg", np.asarray(Image.open(path).convert("RGB"))], top=1)
    assert isinstance(several[0], resnetlab.Prediction)
    assert several[0].classes == one.classes[:1]
    assert isinstance(several[1], resnetlab.Unreadable)
    assert isinstance(several[2], resnetlab.Prediction)
    assert several[2].probabilities == several[0].probabilities
    with pytest.raises(resnetlab.ResnetlabError, match="missing.jpg does not exist"):
        run.predict("missing.jpg")
    assert repr(resnetlab.Run("run")) == "Run('run')"
    inside = run.predict(photos / "test" / "bee")
    assert isinstance(inside, list)
    assert [each.path for each in inside] == sorted((photos / "test" / "bee").iterdir())
    assert repr(run.evaluate(progress=False)).startswith("Evaluation(error ")


def test_progress_is_printed(command: Command, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resnetlab.train("photos", out="run", **OPTIONS)
    printed = capsys.readouterr().out
    assert "photos: 30 training and 12 test images" in printed
    assert "step 3 of 3" in printed
    resnetlab.train("photos", out="run", progress=False, **OPTIONS)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"netwrk": "resnet18"}, "train has no option 'netwrk': did you mean network"),
        ({"epochs": 2, **OPTIONS}, "both epochs and iterations are given"),
        ({**OPTIONS, "device": "gpu"}, "it must be one of auto, cpu, cuda"),
        ({**OPTIONS, "stride_on": "2x2"}, "it must be one of 1x1, 3x3"),
        ({**OPTIONS, "threads": 1.5}, "it must be int"),
        ({**OPTIONS, "threads": 0}, "it must be at least 1"),
        ({**OPTIONS, "lr": 0.0}, "learning_rate is 0.0; it must be more than 0"),
        ({**OPTIONS, "set": {"label_smoothin": 0.1}}, "did you mean label_smoothing"),
        ({**OPTIONS, "group_by": "[0-9]+"}, "takes no effect"),
    ],
)
def test_errors_are_those_of_the_command(
    command: Command, photos: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(resnetlab.ResnetlabError, match=message):
        resnetlab.train("photos", out="run", progress=False, **options)
    assert not Path("run").exists()


def test_a_run_that_is_none(command: Command, tmp_path: Path) -> None:
    with pytest.raises(resnetlab.ResnetlabError, match="nothing does not exist"):
        resnetlab.Run("nothing")
    with pytest.raises(resnetlab.ResnetlabError, match="has no finished run"):
        resnetlab.Run(tmp_path)
    assert read_result(tmp_path) is None
