"""Images in memory and image files: what a recipe says, and what weights expect, holds for both."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.data.dataset import Dataset, Pixels
from resnetlab.data.named import DataSource
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import Model, load, save
from resnetlab.networks.architecture import parse
from resnetlab.networks.resnet import build
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import read_curve, read_result
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.batches import Batches, choose_preprocessing, prepare
from resnetlab.training.named_recipes import CIFAR, MODERN_SHORT
from resnetlab.training.recipe import Recipe

CPU = torch.device("cpu")
RESIDENT = replace(CIFAR.scaled(2), batch_size=16, padding=1, report_every=1)
FILES = replace(
    MODERN_SHORT.for_crop_size(8),
    precision="float32",
    iterations=2,
    batch_size=16,
    ramp_up=0,
    report_every=1,
    ema=0.0,
    test_resize=8,
)
FILES = replace(FILES, label_smoothing=0.0)
STORAGES = pytest.mark.parametrize("recipe", [RESIDENT, FILES], ids=["memory", "files"])
SETTINGS = Settings(device="cpu", threads=1)
EARLIER = Path(__file__).parent / "earlier"


def stored(dataset: Dataset, recipe: Recipe) -> Dataset:
    return dataset if recipe.resident else dataset.as_files()


def prepared(dataset: Dataset, recipe: Recipe, given: Preprocessing | None = None) -> Batches:
    dataset = stored(dataset, recipe)
    return prepare(dataset, recipe, 0, CPU, choose_preprocessing(dataset, recipe, given))


@STORAGES
def test_images_are_normalised_as_weights_to_start_from_expect(tiny: Dataset, tmp_path: Path, recipe: Recipe) -> None:
    """Once they were not, in memory: 97 errors of 200 in place of 15 at the first step."""
    about = Preprocessing.by_channel(Fit.square(8), (0.9, 0.1, 0.5), (0.3, 0.2, 0.1))
    torch.manual_seed(0)
    model = Model(build("cifar_resnet8", num_classes=4), about, tiny.classes, {})
    save(model, tmp_path / "m.safetensors")
    test = tiny.test
    assert isinstance(test, Pixels)
    expected = CLASSIFICATION.test(model.network, [(about(test.pixels), test.labels)]).metrics
    still = replace(recipe, learning_rate=1e-12, iterations=1)
    spec = RunSpec(parse("cifar_resnet8"), DataSource("tiny"), still, start=tmp_path / "m.safetensors")
    still_network = replace(spec, recipe=replace(still, freeze="layer3"))  # its statistics too
    list(run(still_network, tmp_path / "r", SETTINGS, stored(tiny, recipe)))
    (point,) = read_curve(tmp_path / "r")
    assert point["test_error"] == expected["error"]
    assert point["test_loss"] == pytest.approx(expected["loss"], rel=1e-4)
    kept = load(tmp_path / "r").preprocessing
    assert torch.equal(kept.mean, about.mean)
    assert torch.equal(kept.std, about.std)


def test_a_mean_image_is_taken_per_channel_where_training_and_tests_have_other_sizes(tiny: Dataset) -> None:
    mean = Preprocessing.of_mean_image(torch.rand(3, 8, 8))
    recipe = replace(FILES, crop_size=6, test_crop=8, normalise="imagenet")
    batches = prepared(tiny, recipe, mean)
    assert batches.preprocessing.mean.shape == (3, 1, 1)
    assert batches.training.batch(0)[0].shape == (16, 3, 6, 6)
    assert next(iter(batches.tests["test"]()))[0].shape == (16, 3, 8, 8)
    batches.training.close()


@STORAGES
def test_normalisation_is_the_recipes(tiny: Dataset, recipe: Recipe) -> None:
    batches = prepared(tiny, replace(recipe, normalise="imagenet"))
    assert batches.preprocessing.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert batches.preprocessing.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    images, _ = next(iter(batches.tests["test"]()))
    assert isinstance(tiny.test, Pixels)
    expected = batches.preprocessing(tiny.test.pixels)
    torch.testing.assert_close(images, expected)


def test_grey_images_have_no_mean_colour() -> None:
    digits = DataSource("digits").load()
    with pytest.raises(ResnetlabError, match="grey images; normalise=imagenet is for RGB"):
        choose_preprocessing(digits, replace(RESIDENT, normalise="imagenet"))


@STORAGES
def test_classes_are_drawn_equally_often(tiny: Dataset, recipe: Recipe) -> None:
    train = tiny.train
    assert isinstance(train, Pixels)
    few = torch.cat([torch.nonzero(train.labels == 0)[:2, 0], torch.nonzero(train.labels)[:, 0]]).sort().values
    unequal = replace(tiny, train=train[few])  # 2 of the first class, 12 of each other
    batches = prepared(unequal, replace(recipe, balance="sampling"))
    labels = torch.cat([batches.training.batch(step)[1] for step in range(40)])
    shares = torch.bincount(labels, minlength=4) / len(labels)
    assert (shares - 0.25).abs().max() < 0.05
    usual = torch.cat([prepared(unequal, recipe).training.batch(step)[1] for step in range(10)])
    assert (usual == 0).double().mean() < 0.1


@STORAGES
def test_validation_images_are_the_same_ones(tiny: Dataset, recipe: Recipe) -> None:
    dataset = stored(tiny, recipe).with_validation(9)
    assert dataset.validation is not None
    assert isinstance(tiny.train, Pixels)
    shown = [np.asarray(dataset.validation.open(k)) for k in range(9)]
    expected = tiny.with_validation(9).validation
    assert isinstance(expected, Pixels)
    assert all(np.array_equal(a, b) for a, b in zip(shown, expected.pixels.numpy(), strict=True))


@pytest.mark.parametrize("resident", [True, False])
def test_unreadable_files_are_counted_and_named(photos: Path, tmp_path: Path, resident: bool) -> None:
    for path in photos.rglob("*.jpg"):
        Image.open(path).convert("RGB").resize((8, 8)).save(path)
    bad = [photos / "train" / "bee" / "004.jpg", photos / "test" / "ant" / "001.jpg"]
    for path in bad:
        path.write_bytes(b"<html>not an image</html>")
    recipe = replace(RESIDENT if resident else FILES, iterations=4)
    source = DataSource(str(photos), on_bad="skip")
    messages = [p.message for p in run(RunSpec(parse("cifar_resnet8"), source, recipe), tmp_path / "r", SETTINGS)]
    result = read_result(tmp_path / "r")
    assert result is not None
    assert result["unreadable"] == sorted(map(str, bad))
    assert result["test_images"] == 11
    assert messages[-1] == f"2 unreadable files skipped, {min(map(str, bad))} among them"
    with pytest.raises(ResnetlabError, match="is not a readable image"):
        list(run(RunSpec(parse("cifar_resnet8"), DataSource(str(photos)), recipe), tmp_path / "s", SETTINGS))


@STORAGES
def test_exact_statistics_are_of_all_training_images(tiny: Dataset, tmp_path: Path, recipe: Recipe) -> None:
    """48 images in batches of 20: none is left out, and the variance is that of all of them."""
    recipe = replace(recipe, batch_size=20, exact_statistics=True, iterations=3, freeze="none")
    spec = RunSpec(parse("cifar_resnet8"), DataSource("tiny"), recipe)
    list(run(spec, tmp_path / "r", SETTINGS, stored(tiny, recipe)))
    model = load(tmp_path / "r")
    assert isinstance(tiny.train, Pixels)
    with torch.no_grad():
        maps = model.network.conv1(model.preprocessing(tiny.train.pixels)).double()
    variance, mean = torch.var_mean(maps, (0, 2, 3))
    torch.testing.assert_close(model.network.bn1.running_mean.double(), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.network.bn1.running_var.double(), variance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("images", [3, 16])
def test_exact_statistics_of_fewer_images_than_a_batch(tiny: Dataset, tmp_path: Path, images: int) -> None:
    """Once they were all reset to 0 and 1, and the error with them was that of guessing."""
    recipe = replace(RESIDENT, batch_size=64, exact_statistics=True, iterations=2)
    few = replace(tiny, train=tiny.train[:images])
    list(run(RunSpec(parse("cifar_resnet8"), DataSource("tiny"), recipe), tmp_path / "r", SETTINGS, few))
    norm = load(tmp_path / "r").network.bn1
    assert norm.running_mean is not None
    assert norm.running_mean.abs().max() > 0


def test_frozen_layers_keep_their_statistics(tiny: Dataset, tmp_path: Path) -> None:
    recipe = replace(RESIDENT, exact_statistics=True, freeze="layer1")
    spec = RunSpec(parse("cifar_resnet8"), DataSource("tiny"), recipe)
    list(run(spec, tmp_path / "r", SETTINGS, tiny))
    network = load(tmp_path / "r").network
    assert network.bn1.running_mean is not None
    assert network.bn1.running_mean.abs().max() == 0  # as it was initialised
    assert network.get_submodule("layer2.0.bn1").running_mean.abs().max() > 0  # type: ignore[union-attr, operator]


def test_a_run_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Written before tasks and with softmax scores: as finished, resumed from its checkpoint, and evaluated."""
    folder = tmp_path / "run"
    shutil.copytree(EARLIER, folder)
    config = json.loads((folder / "config.json").read_text())
    assert "task" not in config
    recipe = Recipe(**{**config["recipe"], "drops": tuple(config["recipe"]["drops"]), "sides": (256, 480)})
    spec = RunSpec(parse("cifar_resnet8-narrow8"), DataSource("digits"), recipe)
    (progress,) = run(spec, folder, SETTINGS)
    assert (progress.step, progress.test) == (20, 85.6)
    model = load(folder)
    assert str(model.network.architecture) == "cifar_resnet8-narrow8"
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    (folder / "result.json").unlink()
    (folder / "model.safetensors").unlink()
    list(run(spec, folder, SETTINGS))  # from the last checkpoint
    again = load(folder).network.state_dict()
    assert all(torch.equal(again[key], before[key]) for key in before)
    answers = Scored.load(EARLIER / "scores-format-1.safetensors").answers()
    assert answers.error == 85.6
