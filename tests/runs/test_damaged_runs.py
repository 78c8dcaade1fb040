"""Damaged files of a run: a message and the checkpoint before, or one error that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import resnetlab
from resnetlab.models.modelfile import load

Command = Callable[..., int]
TRAIN = ("train", "--data", "digits", "--network", "cifar_resnet8-narrow4", "--iterations", "20", "--out", "run")
TRAIN += ("--set", "report_every=10")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = {"network": "cifar_resnet8-narrow4", "iterations": 20, "set": {"report_every": 10}}
    resnetlab.train("digits", out=folder, progress=False, **options)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def run(command: Command, trained: Path) -> Path:
    shutil.copytree(trained, "run")
    return Path("run")


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_lost_model_file_is_made_again(
    command: Command, run: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {key: value.clone() for key, value in load(run).network.state_dict().items()}
    file = run / "model.safetensors"
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:50])
    assert command(*TRAIN) == 0
    assert (
        "the model file is missing or damaged; it is made again from the last checkpoint" in capsys.readouterr().out
    )
    after = load(run).network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert command(*TRAIN) == 0
    assert "made again" not in capsys.readouterr().out


def test_lost_points_of_the_curves_are_told(command: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    for kept in (lines[0], lines[1] + lines[0], lines[0] + "{\n"):
        (run / "result.json").unlink(missing_ok=True)
        (run / "metrics.jsonl").write_text(kept)
        assert command(*TRAIN) == 0
        assert "the curves lack" in capsys.readouterr().out
        result, after = (run / "result.json").read_text(), (run / "metrics.jsonl").read_text().splitlines()
        assert json.loads(result)["test_error"] == json.loads(lines[-1])["test_error"]  # tested again
        assert json.loads(after[-1])["step"] == json.loads(lines[-1])["step"]
        assert command("evaluate", "run") == 0
        capsys.readouterr()


def test_a_damaged_checkpoint_is_told(command: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "result.json").unlink()
    newest, *older = sorted((run / "checkpoints").iterdir(), reverse=True)
    data = bytearray((newest / "tensors.safetensors").read_bytes())
    data[-50] ^= 4
    (newest / "tensors.safetensors").write_bytes(data)
    status = command(*TRAIN)
    shown = capsys.readouterr()
    if older:
        assert status == 0
        assert "tensors.safetensors was changed" in shown.out
    else:
        assert status == 2
        assert "no checkpoint can be read" in shown.err


@pytest.mark.parametrize("name", ["config.json", "execution.json", "result.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", [b"{\n", b"[]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_damaged_files_end_in_one_error(
    command: Command, run: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).write_bytes(content)
    for words in (TRAIN, ("evaluate", "run")):
        status = command(*words)
        error = capsys.readouterr().err
        assert status in (0, 2)
        if status:
            assert error.startswith("error: ")
            assert name in error


@pytest.mark.parametrize("change", [{"source": None}, {"threads": "x"}, {"compiled": 1}])
def test_how_a_run_was_executed_is_checked(
    command: Command, run: Path, change: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing or of another type is named; the file can be removed, and the command writes it again."""
    said = json.loads((run / "execution.json").read_text()) | change
    name = next(iter(change))
    (run / "execution.json").write_text(json.dumps({key: value for key, value in said.items() if value is not None}))
    for words in (("analyse", "run", "--only", "figure7"), ("evaluate", "run"), TRAIN):
        assert command(*words) == 2
        assert f"execution.json is damaged: {name} is" in capsys.readouterr().err
    (run / "execution.json").unlink()
    assert command(*TRAIN) == 0
    assert command("evaluate", "run") == 0


def test_a_configuration_that_lacks_parts(command: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads((run / "config.json").read_text())
    for changed, expected in (
        ({}, "Object missing required field 'data'"),
        (
            whole | {"data": whole["data"] | {"fingerprint": ["x"]}},
            "Expected 'str', got 'array' - at '$.data.fingerprint'",
        ),
        (whole | {"recipe": whole["recipe"] | {"padding": "x"}}, "Expected 'int', got 'str' - at '$.recipe.padding'"),
        (whole | {"network": whole["network"] | {"blocks": 3}}, "at '$.network.blocks'"),
        (whole | {"recipe": whole["recipe"] | {"exact_statistics": "\ud800"}}, "surrogates not allowed"),
        (whole | {"task": {"name": "classification", "metrics": [7]}}, "at '$.task.metrics[0]'"),
    ):
        (run / "config.json").write_text(json.dumps(changed))
        for words in (TRAIN, ("analyse", "run", "--only", "figure7"), ("report", "run", "--no-estimate")):
            assert command(*words) == 2
            error = capsys.readouterr().err
            assert "config.json is damaged: " in error
            assert expected in error


def test_a_changed_result_is_refused(command: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"test_error": 0.5}))
    assert command(*TRAIN) == 2
    assert "result.json was changed: its checksum is another" in capsys.readouterr().err
    (run / "result.json").unlink()
    assert command(*TRAIN) == 0
    assert json.loads((run / "result.json").read_text())["test_error"] == result["test_error"]
    del result["checksum"]  # as earlier versions wrote it
    (run / "result.json").write_text(json.dumps(result))
    assert command(*TRAIN) == 0
    assert "nothing is trained again" in capsys.readouterr().out


def test_a_run_and_a_misspelt_folder_are_no_data(
    command: Command, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("train", "run", "--out", "other") == 2
    assert "run is a run, and no data; --from run starts from its weights" in capsys.readouterr().err
    for name in ("phots", "cifar11"):
        assert command("train", name, "--out", "other") == 2
        assert f"there is no data set, file or folder '{name}'" in capsys.readouterr().err
    assert not Path("other").exists()
