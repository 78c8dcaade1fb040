"""Training and evaluation as a user types them: what is printed, and how mistakes are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., int]
SMALL = ("--network", "cifar_resnet8", "--iterations", "12", "--threads", "1")


def test_networks(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("networks") == 0
    text = capsys.readouterr().out
    assert "cifar_resnet1202" in text
    assert "2,829,238,912" in text
    assert command("networks", "resnet50", "--stride-on", "3x3") == 0
    text = capsys.readouterr().out
    assert "4,089,184,256" in text
    assert "[1x1, 64; 3x3, 64; 1x1, 256] x3" in text


def test_train_and_evaluate(
    command: Command, tiny_npz: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path.cwd() / "runs/tiny-cifar_resnet8-short-12-seed0"
    assert command("train", "--data", str(tiny_npz), *SMALL) == 0
    text = capsys.readouterr().out
    assert "runs/tiny-cifar_resnet8-short-12-seed0" in text
    assert "48 training and 16 test images of 8x8 pixels, 3 channels, 4 classes" in text
    result = json.loads((out / "result.json").read_text())
    assert f"{result['test_error']:.2f}" in text
    monkeypatch.chdir("/")
    for model in ((str(out),), (str(out / "model.safetensors"), "--data", str(tiny_npz))):
        assert command("evaluate", *model) == 0
        errors = round(result["test_error"] * 16 / 100)
        text = capsys.readouterr().out
        accuracy = 100 - result["test_error"]
        assert f"test error {result['test_error']:.2f} %, accuracy {accuracy:.2f} % ({errors} error" in text
    assert command("evaluate", str(out / "model.safetensors")) == 2
    assert "was trained on tiny; give the data set" in capsys.readouterr().err
    monkeypatch.chdir(out.parents[1])
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}
    assert command("train", "--data", str(tiny_npz), *SMALL) == 0
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.safetensors")} == before


@pytest.mark.slow
def test_train_on_grey_images_and_on_a_scaled_recipe(command: Command) -> None:
    assert command("train", "--data", "digits", *SMALL, "--set", "batch_size=32", "drops=6,9") == 0
    (folder,) = Path("runs").glob("digits-cifar_resnet8-digits-*-12-seed0")
    config = json.loads((folder / "config.json").read_text())
    assert config["network"]["in_channels"] == 1
    assert (config["recipe"]["drops"], config["recipe"]["batch_size"]) == ([6, 9], 32)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("networks", "resnet51"), "did you mean resnet50"),
        (("networks", "cifar_resnet21"), "the nearest are 20 and 26"),
        (("train", "--data", "digit", *SMALL), "did you mean digits"),
        (("train", "--data", "digits", "--network", "resnet50"), "32 times smaller"),
        (("train", "--data", "digits", *SMALL, "--recipe", "digit"), "did you mean digits"),
        (("train", "--data", "digits", *SMALL, "--set", "rate=1"), "a recipe has no field 'rate'"),
        (("train", "--data", "digits", *SMALL, "--set", "validation=5000"), "1297 training images"),
        (("train", "--data", "digits", *SMALL, "--device", "cuda"), "use --device cpu"),
        (("train", "--data", "digits", "--network", "cifar_resnet8", "--iterations", "0"), "at least 1"),
        (("train", "--data", "digits", *SMALL, "--threads", "0"), "at least 1"),
        (("evaluate", "nowhere"), "nowhere"),
        (("reproduce", "figure5"), "did you mean figure7"),
        (("reproduce", "figure6", "--networks", "resnet50"), "is for ImageNet"),
        (("reproduce", "figure6", "--seeds", "0"), "at least 1"),
        (("reproduce", "figure6", "--jobs", "0"), "at least 1"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(
    command: Command,
    arguments: tuple[str, ...],
    hint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert command(*arguments) == 2
    shown = capsys.readouterr()
    assert hint in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert not any(Path.cwd().rglob("config.json"))


def test_a_run_folder_of_another_recipe(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train", "--data", "digits", *SMALL, "--out", "r") == 0
    config = Path("r/config.json").read_bytes()
    assert command("train", "--data", "digits", *SMALL, "--out", "r", "--set", "learning_rate=0.3") == 2
    assert "recipe.learning_rate is 0.05 there and 0.3 here" in capsys.readouterr().err
    assert Path("r/config.json").read_bytes() == config


def test_evaluate_on_data_of_another_kind(
    command: Command, tiny_npz: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("train", "--data", "digits", *SMALL, "--out", "r") == 0
    assert command("evaluate", "r", "--data", str(tiny_npz)) == 2
    assert "has images of shape (3, 8, 8), the model takes (1, 8, 8)" in capsys.readouterr().err


def test_an_unfinished_run_is_not_evaluated(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train", "--data", "digits", *SMALL, "--out", "r") == 0
    Path("r/model.safetensors").unlink()
    assert command("evaluate", "r") == 2
    assert "has not finished training" in capsys.readouterr().err


def test_divergence_is_no_traceback(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train", "--data", "digits", *SMALL, "--set", "learning_rate=1e30", "warmup_rate=none") == 1
    assert "Try a lower learning rate" in capsys.readouterr().err
