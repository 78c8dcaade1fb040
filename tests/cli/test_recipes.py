"""`resnetlab recipes`, `--version`, and names of networks as people type them."""

from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version

import pytest

from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import parse
from resnetlab.training.named_recipes import RECIPES
from resnetlab.training.recipe import Recipe, meanings


def test_all_recipes_are_listed(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("recipes") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_one(name: str, command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("recipes", name) == 0
    text = capsys.readouterr().out
    assert all(field.name in text for field in fields(Recipe) if field.name != "name")


def test_what_differs_from_the_papers_is_shown(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("recipes", "finetune") == 0
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.count("│") > 3}
    assert [cell.strip() for cell in lines["learning_rate"].split("│")[2:4]] == ["0.03", "0.1"]
    assert [cell.strip() for cell in lines["momentum"].split("│")[2:4]] == ["0.9", ""]
    assert "Training images held out for validation" in lines["validation"]


def test_mistakes(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("recipes", "finetun") == 2
    assert "unknown recipe 'finetun': did you mean finetune" in capsys.readouterr().err


def test_meanings_are_those_of_fields() -> None:
    found = meanings()
    assert set(found) < {field.name for field in fields(Recipe)}
    assert found["drops"] == "Steps after which the learning rate is divided by 10."


def test_version(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--version") == 0
    assert capsys.readouterr().out.startswith(f"resnetlab {version('resnetlab')}, Python ")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("ResNet50", "resnet50"),
        ("resnet-50", "resnet50"),
        ("RESNET-18-narrow4", "resnet18-narrow4"),
        ("ResNet-50-v1.5", "resnet50-v1.5"),
        ("CIFAR_ResNet-56", "cifar_resnet56"),
        ("VGG16_BN", "vgg16_bn"),
        ("plain-34", "plain34"),
    ],
)
def test_names_as_people_type_them(typed: str, name: str) -> None:
    assert parse(typed) == parse(name)


def test_other_names_are_still_refused() -> None:
    for name in ("resnet-51", "resnet--50", "Res-Net50"):
        with pytest.raises(ResnetlabError, match="unknown network"):
            parse(name)
