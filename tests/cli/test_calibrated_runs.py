"""A run with validation images says how sure it is, and marks images unlike its training images."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.evaluation.calibration import expected_calibration_error
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import load
from resnetlab.models.trust import fit_temperature

Command = Callable[..., int]
TRAIN = ("train", "colours", "--network", "cifar_resnet8-narrow4", "--recipe", "short", "--image-size", "16")
TRAIN += ("--iterations", "30", "--batch-size", "32", "--out", "run")


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Noisy pictures of three colours."""
    random = np.random.default_rng(0)
    for number, label in enumerate(("red", "green", "blue")):
        (tmp_path / "colours" / label).mkdir(parents=True)
        for k in range(60):
            pixels = random.normal(90, 40, (16, 16, 3))
            pixels[..., number] += 25
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "colours" / label / f"{k}.png")
    (tmp_path / "other").mkdir()
    for k in range(10):
        Image.fromarray((np.indices((16, 16)).sum(0) // (1 + k % 4) % 2 * 255).astype(np.uint8)).save(
            tmp_path / "other" / f"{k}.png"
        )
    return tmp_path / "colours"


def test_trust(command: Command, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*TRAIN, "--validation", "0.25") == 0
    model = load(Path("run"))
    assert model.trust is not None
    assert model.trust.validation == 40  # of 162
    assert model.trust.known is not None
    assert len(model.trust.known) == 122
    capsys.readouterr()
    assert command("evaluate", "run", "--out", "e") == 0
    printed = capsys.readouterr().out
    assert f"before the temperature of {model.temperature:.2f})" in printed
    assert "trained on" not in printed  # the images are those of the training
    numbers, scored = json.loads(Path("e/metrics.json").read_text()), Scored.load(Path("e"))
    assert scored.temperature == numbers["temperature"] == model.temperature
    before = numbers["expected_calibration_error_before_temperature"]
    assert before == expected_calibration_error(scored.answers(calibrated=False))
    assert numbers["expected_calibration_error"] == expected_calibration_error(scored.answers())
    assert scored.answers().errors == scored.answers(calibrated=False).errors
    shown = (scored.logits / model.temperature).softmax(1).max(1).values
    np.testing.assert_allclose(scored.answers().probabilities[:, 0], shown, atol=1e-6)

    assert command("predict", "run", "other", "--out", "p.csv") == 0
    assert "10 unlike the training images in " in capsys.readouterr().out
    with Path("p.csv").open() as file:
        assert {row["unfamiliar"] for row in csv.DictReader(file)} == {"yes"}
    assert command("predict", "run", "colours/red") == 0
    printed = capsys.readouterr().out
    assert printed.count("unlike the training images: ") < 12

    assert command("evaluate", "run", "--protocol", "ten-crop", "--out", "t") == 0  # fitted to one view
    assert "temperature" not in json.loads(Path("t/metrics.json").read_text())


@pytest.mark.slow
def test_the_temperature_is_that_of_the_validation_images(command: Command, colours: Path) -> None:
    for part, numbers in (("train", range(40)), ("val", range(40, 50)), ("test", range(50, 60))):
        for label in ("red", "green", "blue"):
            (Path("own") / part / label).mkdir(parents=True)
            for k in numbers:
                (colours / label / f"{k}.png").rename(Path("own") / part / label / f"{k}.png")
    assert command("train", "own", *TRAIN[2:]) == 0
    assert command("evaluate", "run", "--split", "validation", "--out", "v") == 0
    scored = Scored.load(Path("v"))
    assert load(Path("run")).temperature == pytest.approx(fit_temperature(scored.logits, scored.labels), rel=1e-4)


@pytest.mark.slow
def test_held_out_images_are_a_split(command: Command, colours: Path) -> None:
    assert command(*TRAIN, "--validation", "0.25") == 0
    names = {}
    for split in ("train", "validation", "test"):
        assert command("evaluate", "run", "--split", split, "--out", split) == 0
        names[split] = set(Scored.load(Path(split)).names)
    assert [len(names[split]) for split in names] == [122, 40, 18]
    assert len(set().union(*names.values())) == 180
    held = Scored.load(Path("validation"))
    assert load(Path("run")).temperature == pytest.approx(fit_temperature(held.logits, held.labels), rel=1e-4)


def test_images_are_held_out_unless_told_otherwise(command: Command, colours: Path) -> None:
    assert command(*TRAIN) == 0
    trust = load(Path("run")).trust
    assert trust is not None
    assert trust.validation == 16  # a tenth of 162
    assert command(*TRAIN[:-1], "all", "--validation", "0") == 0
    assert load(Path("all")).trust is None
