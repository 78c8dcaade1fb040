"""Protocols, ensembles and what is printed of them, as a user types them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import resnetlab
from resnetlab.cli.evaluation import beside
from resnetlab.data.class_names import imagenet
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.evaluation.scores import Scored

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]
TRAIN = ("--network", "cifar_resnet8", "--recipe", "modern-short", "--image-size", "32", "--iterations", "12")
TRAIN += ("--batch-size", "8", "--threads", "1", "--set", "ema=0.0")


def untrained(path: Path, name: str = "resnet18", narrow: int = 8) -> resnetlab.Model:
    """A network for ImageNet's classes that knows nothing, as a model file of weights from elsewhere."""
    torch.manual_seed(0)
    network = resnetlab.build(name, narrow=narrow)
    about = Preprocessing.by_channel(Fit.square(37, 32), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    model = resnetlab.Model(network, about, tuple(imagenet()), {"imported": {"file": "x.pth"}})
    resnetlab.save(model, path)
    return model


def test_every_protocol_on_a_run(command: Command, photos: Path, capsys: Captured) -> None:
    for seed in ("0", "1"):
        assert command("train", "--data", "photos", *TRAIN, "--seed", seed, "--out", f"run{seed}") == 0
    capsys.readouterr()
    said = {"center": "1 centre crop, 32x32 of shorter side 37", "ten-crop": "10-crop, shorter side 37"}
    said["dense"] = "fully convolutional, shorter sides 32, 37, 55, 69, 91, and mirrored"
    for protocol, words in said.items():
        assert command("evaluate", "run0", "--protocol", protocol, "--out", f"e-{protocol}") == 0
        text = capsys.readouterr().out
        line = next(line for line in text.splitlines() if "test error" in line)
        assert words in line
        assert "images/s" in text
        metrics = json.loads(Path(f"e-{protocol}/metrics.json").read_text())
        assert f"test error {metrics['top1_error']:.2f} %, accuracy {metrics['accuracy']:.2f} %" in line
        assert re.search(rf"\({metrics['errors']} errors? of 12 test images; 95 % interval [0-9]", line)
        assert words in metrics["protocol"]
        assert Scored.load(Path(f"e-{protocol}")).answers().errors == metrics["errors"]
    assert command("evaluate", "run0", "--protocol", "dense", "--scales", "32", "40") == 0
    assert "shorter sides 32, 40, and mirrored" in capsys.readouterr().out
    assert command("evaluate", "run0", "--protocol", "ten-crop", "--precision", "bfloat16") == 0
    assert "10-crop, shorter side 37, softmax averaged, bfloat16; trained" in capsys.readouterr().out
    assert command("evaluate", "run0", "--protocol", "dense", "--scales", "20") == 2
    assert "squares of 32 pixels" in capsys.readouterr().err
    assert command("evaluate", "run1", "--protocol", "dense", "--out", "e1") == 0
    capsys.readouterr()
    assert command("ensemble", "e-dense", "e1", "e-center/scores.safetensors", "--out", "all.safetensors") == 0
    text = capsys.readouterr().out
    assert "all 3" in text
    assert "test: 12 images" in text
    assert f"{Scored.load(Path('all.safetensors')).answers().error:.2f}" in text
    assert command("ensemble", "e-dense", "e1", "e-center", "--choose", "2", "--out", "two.safetensors") == 0
    assert "The best 3 of 3 ensembles of 2, by top-5 error on these same images." in capsys.readouterr().out
    assert len(Scored.load(Path("two.safetensors")).about["members"]) == 2


@pytest.mark.slow
def test_what_is_computed_is_reproduced_too(command: Command, capsys: Captured) -> None:
    assert command("reproduce", "table1") == 0
    text = capsys.readouterr().out
    assert "30 of 30 rows of Table 1 are as built here" in text
    assert "cut, not rounded" in text
    assert Path("runs/table1/table1.md").exists()
    small = ("--image-size", "32", "--batch-size", "2", "--rounds", "1", "--threads", "1")
    assert command("reproduce", "cost", "--networks", "cifar_resnet8", "cifar_plain8", *small) == 0
    assert "times ResNet-8's multiply-adds" in capsys.readouterr().out
    assert {path.suffix for path in Path("runs/cost").iterdir()} == {".md", ".json", ".png", ".svg"}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("ensemble", "a"), "at least two models"),
        (("ensemble", "a", "b"), "a holds no scores"),
        (("ensemble", "a", "b", "--out", "x.npz"), "ends in .safetensors"),
        (("ensemble", "a", "b", "--choose", "0"), "at least 1"),
    ],
)
def test_mistakes(command: Command, arguments: tuple[str, ...], hint: str, capsys: Captured) -> None:
    assert command(*arguments) == 2
    shown = capsys.readouterr().err
    assert hint in shown
    assert "Traceback" not in shown


@pytest.mark.slow
def test_weights_from_elsewhere_are_tested_on_all_of_a_tar_file(
    command: Command, shared: Path, capsys: Captured
) -> None:
    untrained(Path("m.safetensors"))
    assert command("evaluate", "m.safetensors", "--data", str(shared / "photos-300.tar"), "--out", "e") == 0
    shown = capsys.readouterr()
    assert "of 300 images; 95 % interval" in shown.out
    assert "the 10 worst of 300 classes" in shown.out
    assert "700 other classes of the model have no images here" in " ".join(shown.out.split())
    assert "Guessing gives the same error" in shown.err
    assert len(Scored.load(Path("e")).names) == 300


def test_the_papers_row_stands_beside(tmp_path: Path) -> None:
    model = untrained(tmp_path / "m.safetensors", "resnet50", narrow=1)
    assert beside(model, "ten-crop") == (
        "The paper's ResNet-50: error 22.85 %, top-5 error 6.71 % (Table 3: ImageNet val, 10-crop)"
    )
    assert "20.74 %, top-5 error 5.25 % (Table 4" in beside(model, "dense")
    assert "24.70 %, top-5 error 7.80 % (the authors' release" in beside(model, "center")
    for name, options, protocol, expected in (
        ("resnet34", "A", "ten-crop", "25.03 %, top-5 error 7.76 % (Table 3"),
        ("resnet18", "A", "ten-crop", "27.88 % (Table 2"),
        ("plain18", None, "ten-crop", "27.94 % (Table 2"),
        ("resnet34", "C", "dense", "21.53 %, top-5 error 5.60 % (Table 4"),
        ("plain34", None, "center", "32.3 % at the end of Figure 4"),
        ("resnet34", "A", "center", "28.2 % at the end of Figure 4"),
    ):
        network = resnetlab.build(name, shortcut=options)  # type: ignore[arg-type]
        other = resnetlab.Model(network, model.preprocessing, model.classes, {})
        assert expected in beside(other, protocol)  # type: ignore[arg-type]
    assert beside(untrained(tmp_path / "n.safetensors"), "ten-crop") == ""  # narrower is another network
    few = resnetlab.Model(resnetlab.build("resnet50", num_classes=2), model.preprocessing, ("a", "b"), {})
    assert beside(few, "ten-crop") == ""
