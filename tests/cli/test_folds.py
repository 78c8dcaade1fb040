"""`resnetlab train --folds` and `--group-by`: no image is tested by a network that was trained on it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.evaluation.cross_validation import CrossValidated
from resnetlab.evaluation.evaluate import images_for
from resnetlab.evaluation.scores import SCORES, Scored
from resnetlab.models.modelfile import load

Command = Callable[..., int]
TRAIN = ("train", "insects", "--network", "cifar_resnet8-narrow4", "--recipe", "short", "--image-size", "8")
TRAIN += ("--iterations", "2", "--group-by", r"(s\d)_", "--out", "run")


@pytest.fixture
def insects(tmp_path: Path) -> Path:
    """Two classes of 12 images from six scenes."""
    random = np.random.default_rng(0)
    for label in ("ant", "bee"):
        (tmp_path / "insects" / label).mkdir(parents=True)
        for k in range(12):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "insects" / label / f"s{k % 6}_{k}.png")
    return tmp_path / "insects"


def test_folds(command: Command, insects: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*TRAIN, "--folds", "3") == 0
    printed = capsys.readouterr().out
    assert "3 folds: mean error " in printed
    assert " errors of 24 images; 95 % interval " in printed
    scored = [Scored.load(Path(f"run/fold{k}/evaluation") / SCORES) for k in (1, 2, 3)]
    found = json.loads(Path("run/evaluation/metrics.json").read_text())
    assert found["images"] == 24
    assert found["errors"] == sum(each.answers().errors for each in scored)
    assert found["errors_of_folds"] == [each.answers().error for each in scored]
    assert len(np.unique([name for each in scored for name in each.names])) == 24
    scenes = [{Path(name).name[:2] for name in each.names} for each in scored]
    assert sum(map(len, scenes)) == 6
    assert {path.name for path in Path("run/evaluation").iterdir()} >= {"confusion.png", "mistakes.png", SCORES}
    pooled = Scored.load(Path("run/evaluation"))
    assert pooled.names == tuple(name for each in scored for name in each.names)
    assert command(*TRAIN[:-1], "single") == 0
    assert command(*TRAIN[:-1], "single", "--folds", "3") == 2
    assert "single holds a single run" in capsys.readouterr().err
    (Path("run/fold2/evaluation") / SCORES).unlink()  # as if it had been interrupted
    again = len(list(Path("run").rglob("*")))
    assert command(*TRAIN, "--folds", "3") == 0  # finished runs are not run again
    assert len(list(Path("run").rglob("*"))) == again + 1


def test_a_model_is_tested_on_the_images_that_were_held_out(command: Command, insects: Path) -> None:
    assert command(*TRAIN) == 0
    insects = insects.rename("moved")
    assert command("evaluate", "run/model.safetensors", "--data", "moved", "--out", "e") == 0
    tested = {Path(name).name[:2] for name in Scored.load(Path("e")).names}
    model = load(Path("run"))
    trained = {Path(name).name[:2] for name in images_for(model, "moved", split="train").names}
    assert tested | trained == {f"s{k}" for k in range(6)}
    assert not tested & trained
    assert model.provenance["data"]["group_by"] == r"(s\d)_"
    other = images_for(model, "other").names if Path("other").exists() else ()
    assert not other
    (insects / "ant" / "s0_0.png").rename(insects / "ant" / "x.png")
    insects.rename("insects")
    assert command("evaluate", "run/model.safetensors", "--data", "insects") == 2  # its group is not known


@pytest.mark.slow
def test_arrays_have_names_by_fold(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--network", "cifar_resnet8-narrow4", "--iterations", "2", "--out", "run", "--folds", "2")
    assert command("train", "--data", "digits", *options) == 0
    folds = [Scored.load(Path(f"run/fold{k}/evaluation") / SCORES) for k in (1, 2)]
    pooled = CrossValidated(tuple(folds)).pooled
    assert len(set(pooled.names)) == len(pooled.names) == 1297
    assert pooled.names[0] == "fold 1, test 0"
    assert pooled.about["protocol"] == "2-fold cross-validation, single view"
