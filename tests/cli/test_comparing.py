"""`resnetlab compare`: models and evaluations against counts by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab.data.preprocessing import Preprocessing
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import Model, save
from resnetlab.networks.resnet import build

CLASSES = ("a", "b", "c", "d")


def evaluation(folder: str, right: list[bool], names: list[str] | None = None) -> None:
    """An evaluation that is right on these images."""
    labels = torch.arange(len(right)) % 4
    taken = torch.where(torch.tensor(right), labels, (labels + 1) % 4)
    logits = torch.nn.functional.one_hot(taken, 4).float()
    Path(folder).mkdir()
    about = {"data": "tiny", "split": "test"}
    names = names or [f"{k}.png" for k in range(len(right))]
    Scored(logits, labels, tuple(names), CLASSES, about).save(Path(folder) / "scores.safetensors")


def test_evaluations(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    evaluation("one", [True] * 30 + [False] * 20)
    evaluation("two", [True] * 28 + [False] * 2 + [True] * 15 + [False] * 5)
    assert command("compare", "one", "two", "--out", "numbers.json") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "two is better than one beyond chance" in text
    assert "both 28, only the first 2, only the second 15, neither 5" in text
    found = json.loads(Path("numbers.json").read_text())
    assert found["difference"] == pytest.approx(-26.0)
    assert found["p_value"] == pytest.approx(2 * sum([1, 17, 136]) / 2**17)  # 2 or fewer of 17
    assert command("compare", "two", "one") == 0
    assert "two is better than one beyond chance" in " ".join(capsys.readouterr().out.split())


def test_images_in_another_order_are_the_same(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    right = [True, False, True, True, False, True, True, True]
    evaluation("one", right)
    scored = Scored.load(Path("one"))
    Path("two").mkdir()
    scored.ordered([4, 5, 6, 7, 0, 1, 2, 3]).save(Path("two/scores.safetensors"))
    assert command("compare", "one", "two") == 0
    assert "one and two are right and wrong on the same images." in " ".join(capsys.readouterr().out.split())


def test_models(command: Callable[..., int], tiny_npz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of files, and the counts of what each of them is right on."""
    with np.load(tiny_npz) as arrays:
        mean = torch.from_numpy(arrays["x_train"]).float().div(255).mean(0).permute(2, 0, 1)
    about = Preprocessing.of_mean_image(mean)
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save(Model(build("cifar_resnet8", num_classes=4), about, CLASSES, {}), Path(f"{name}.safetensors"))
    words = ("one.safetensors", "two.safetensors", "--data", str(tiny_npz), "--threads", "1")
    assert command("compare", *words) == 0
    assert "tiny, test: 16 images" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("one", "other"), "one and other have different images; test both on the same data with --data"),
        (("one", "two", "--data", "digits"), "--data takes no effect: one and two are finished evaluations"),
        (("one", "two", "--protocol", "dense"), "--protocol dense takes no effect"),
        (("one", "nowhere"), "nowhere does not exist"),
        (("one", "two", "--out", "a.csv"), "expected a file name that ends in .json"),
    ],
)
def test_mistakes(
    command: Callable[..., int], words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation("one", [True] * 8)
    evaluation("two", [True] * 8)
    evaluation("other", [True] * 8, [f"x{k}.png" for k in range(8)])
    assert command("compare", *words) == 2
    assert said in capsys.readouterr().err
