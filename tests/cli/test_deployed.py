"""Exported models are tested as they will be deployed; a schedule that has ended is not continued silently."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import Model, save
from resnetlab.models.trust import Trust
from resnetlab.networks.resnet import build

Command = Callable[..., int]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    torch.manual_seed(0)
    network = build("resnet18-narrow8", num_classes=3).eval()
    about = Preprocessing.by_channel(Fit.square(40, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    made = Model(network, about, ("cow", "ant", "bee"), {}, Trust(1.7, 20, torch.randn(12, 64).half(), 0.9))
    save(made, tmp_path / "m.safetensors")
    return made


def test_an_onnx_file_is_tested(
    command: Command, photos: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("export", "m.safetensors", "--to", "onnx") == 0
    assert "logits are calibrated, and distance is the second output" in capsys.readouterr().out.replace("`", "")
    assert command("evaluate", "m.safetensors", "--data", "photos", "--out", "a") == 0
    assert command("evaluate", "m.onnx", "--data", "photos", "--out", "b", "--batch-size", "3") == 0
    printed = capsys.readouterr().out
    assert "onnxruntime, float32" in printed
    own, deployed = Scored.load(Path("a")), Scored.load(Path("b"))
    assert own.names == deployed.names
    assert torch.equal(own.labels, deployed.labels)
    torch.testing.assert_close(own.logits / 1.7, deployed.logits, atol=1e-4, rtol=1e-4)
    numbers = [json.loads(Path(f"{name}/metrics.json").read_text()) for name in "ab"]
    assert numbers[0]["errors"] == numbers[1]["errors"]
    assert numbers[0]["expected_calibration_error"] == pytest.approx(
        numbers[1]["expected_calibration_error"], abs=0.1
    )
    assert command("compare", "m.safetensors", "m.onnx", "--data", "photos") == 0
    assert not Path("b/explained.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol", "ten-crop"), "an ONNX file takes single views"),
        (("--precision", "bfloat16"), "takes no effect with an ONNX file"),
        (("--device", "cuda"), "ONNX files run on the CPU"),
        ((), "give the data set to test on with --data"),
    ],
)
def test_what_an_onnx_file_cannot_do(
    command: Command, model: Model, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("export", "m.safetensors", "--to", "onnx") == 0
    assert command("evaluate", "m.onnx", *words, *(("--data", "photos") if words else ())) == 2
    assert message in capsys.readouterr().err


def test_a_program_of_torch_export(command: Command, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("export", "m.safetensors", "--to", "torchexport") == 0
    assert 'm.pt2: for torch.export.load("m.pt2").module()' in capsys.readouterr().out
    with zipfile.ZipFile("m.pt2") as archive:
        assert not any(b"resnetlab/networks" in archive.read(name) for name in archive.namelist())  # of this machine
    said = {"resnetlab.json": ""}
    program = torch.export.load("m.pt2", extra_files=said).module()
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    logits, distance = program(pixels)
    images = model.preprocessing(pixels)
    torch.testing.assert_close(logits, model.network(images) / 1.7, atol=1e-4, rtol=1e-4)
    assert model.trust is not None
    features = model.network.avgpool(model.network.features(images)).flatten(1)
    torch.testing.assert_close(distance, model.trust.distance(features), atol=1e-4, rtol=1e-4)
    assert json.loads(said["resnetlab.json"])["classes"] == ["cow", "ant", "bee"]
    save(replace(model, trust=None), Path("plain.safetensors"))
    assert command("export", "plain.safetensors", "--to", "torchexport", "--out", "p.pt2") == 0
    (only,) = torch.export.load("p.pt2").module()(pixels)
    torch.testing.assert_close(only, model.network(images), atol=1e-4, rtol=1e-4)
    assert command("export", "plain.safetensors", "--to", "torchexport", "--out", "p.pt") == 2
    assert "expected a name that ends in .pt2" in capsys.readouterr().err


@pytest.mark.slow
def test_an_ended_schedule_is_not_continued(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "--data", "digits", "--network", "cifar_resnet8-narrow4")
    assert command(*words, "--iterations", "2") == 0
    capsys.readouterr()
    assert command(*words, "--iterations", "4") == 0
    first, second = sorted(path.name for path in Path("runs").iterdir())
    assert f"runs/{first} is finished, and a schedule of the learning rate that has ended" in capsys.readouterr().out
    assert command(*words, "--iterations", "4", "--seed", "1") == 0
    assert "is finished" not in capsys.readouterr().out
    assert command(*words, "--iterations", "6", "--out", f"runs/{second}") == 2
    assert f"--from runs/{second} starts from its weights" in capsys.readouterr().err
