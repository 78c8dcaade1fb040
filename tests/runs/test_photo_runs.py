"""Training on folders of image files: weights to start from, validation, faults."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from resnetlab.choices import OnBad
from resnetlab.data.dataset import Files
from resnetlab.data.named import DataSource
from resnetlab.data.preprocessing import read_image
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import DivergedError, Interrupted, ResnetlabError
from resnetlab.models.modelfile import load
from resnetlab.networks.architecture import architecture
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import read_curve
from resnetlab.tasks.classification import class_weights
from resnetlab.training.interrupt import Wish
from resnetlab.training.loop import average
from resnetlab.training.named_recipes import FINETUNE, MODERN, MODERN_SHORT, PAPER_IMAGENET
from resnetlab.training.recipe import Recipe

SMALL = replace(
    MODERN_SHORT.for_crop_size(32), precision="float32", iterations=6, batch_size=8, ramp_up=2, report_every=3
)
ROW = architecture("cifar_resnet8")


def trained(
    photos: Path, out: Path, recipe: Recipe = SMALL, start: Path | None = None, on_bad: OnBad = "stop"
) -> dict[str, Tensor]:
    list(run(RunSpec(ROW, DataSource(str(photos), on_bad=on_bad), recipe, start=start), out, Settings(threads=1)))
    return load_file(out / "model.safetensors")


def result(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "result.json").read_text()))


@pytest.mark.parametrize("base", [PAPER_IMAGENET, MODERN, MODERN_SHORT, FINETUNE], ids=lambda recipe: recipe.name)
def test_every_recipe_trains(photos: Path, tmp_path: Path, base: Recipe) -> None:
    recipe = replace(base.for_crop_size(32), iterations=6, ramp_up=0, drops=(4,), report_every=3)
    recipe = replace(recipe, batch_size=8, statistics_over=min(recipe.statistics_over, 4))
    trained(photos, tmp_path / "run", recipe)
    model = load(tmp_path / "run")
    assert model.classes == ("ant", "bee", "cow")
    side, scaled = (41, 42) if base is MODERN else (32, 37)
    assert model.preprocessing.image_shape == (3, side, side)
    assert model.preprocessing.fit.resize == (scaled, scaled)
    assert (tmp_path / "run" / "sample.png").stat().st_size > 1000
    assert result(tmp_path / "run")["test_images"] == 12
    if base is PAPER_IMAGENET:  # the mean image
        assert model.preprocessing.mean.shape == (3, 32, 32)
        split = list_images(photos).train
        assert isinstance(split, Files)
        pixels = [model.preprocessing.fit(read_image(Path(file.path))) for file in split.files]
        mean = torch.from_numpy(np.mean(pixels, 0) / 255).permute(2, 0, 1).float()
        assert torch.allclose(model.preprocessing.mean, mean, atol=1e-6)


def test_weights_to_start_from(photos: Path, tmp_path: Path) -> None:
    first = trained(photos, tmp_path / "first", replace(SMALL, normalise="mean-image"))
    still = replace(SMALL, learning_rate=1e-12, iterations=1, ema=0.0)
    same = trained(photos, tmp_path / "same", still, start=tmp_path / "first")
    assert all(torch.allclose(same[key], first[key], atol=1e-6) for key in first if key.endswith(("weight", "bias")))
    started = load(tmp_path / "same")
    assert torch.equal(started.preprocessing.mean, load(tmp_path / "first").preprocessing.mean)  # what they expect
    assert started.provenance["start"]["file"] == "model.safetensors"
    (photos / "train" / "ant").rename(photos / "train" / "asp")
    (photos / "test" / "ant").rename(photos / "test" / "asp")
    other = trained(photos, tmp_path / "other", still, start=tmp_path / "first" / "model.safetensors")
    assert torch.allclose(other["conv1.weight"], first["conv1.weight"], atol=1e-6)
    assert not torch.allclose(other["fc.weight"], first["fc.weight"], atol=1e-3)
    spec = RunSpec(architecture("cifar_resnet14"), DataSource(str(photos)), still, start=tmp_path / "first")
    with pytest.raises(ResnetlabError, match="is cifar_resnet8, not cifar_resnet14"):
        list(run(spec, tmp_path / "deeper", Settings(threads=1)))
    with pytest.raises(ResnetlabError, match="none.pth does not exist; expected a file of weights"):
        list(run(replace(spec, start=tmp_path / "none.pth"), tmp_path / "none", Settings(threads=1)))


def test_a_new_last_layer_learns_faster_and_a_kept_one_not(photos: Path, tmp_path: Path) -> None:
    trained(photos, tmp_path / "first")
    still = replace(SMALL, learning_rate=1e-12, iterations=1, ema=0.0, head_rate=1e10)
    with pytest.raises(ResnetlabError, match="head_rate is for a new last layer, and that of .* is kept"):
        trained(photos, tmp_path / "kept", still, start=tmp_path / "first")
    with pytest.raises(ResnetlabError, match="head_rate needs weights to start from"):
        trained(photos, tmp_path / "kept", still)
    assert not (tmp_path / "kept").exists()
    for split in ("train", "test"):
        (photos / split / "ant").rename(photos / split / "asp")
    usual = trained(photos, tmp_path / "usual", replace(still, head_rate=1.0), start=tmp_path / "first")
    faster = trained(photos, tmp_path / "faster", still, start=tmp_path / "first")
    for key in usual:
        assert torch.allclose(usual[key], faster[key], atol=1e-6) == (not key.startswith("fc.")), key


def test_mixed_and_augmented_images_in_a_run(photos: Path, tmp_path: Path) -> None:
    """With class weights, in chunks, and resumed, the same bits."""
    recipe = replace(SMALL, mixup=0.2, cutmix=1.0, erasing=0.2, augment="trivial", repeats=2)
    recipe = replace(recipe, balance="loss", accumulate=2)
    whole = trained(photos, tmp_path / "whole", recipe)
    spec, wish = RunSpec(ROW, DataSource(str(photos)), recipe), Wish()
    with suppress(Interrupted):
        for progress in run(spec, tmp_path / "parts", Settings(threads=1), None, wish):
            wish.to_stop = progress.step == 3
    assert not (tmp_path / "parts" / "result.json").exists()
    parts = trained(photos, tmp_path / "parts", recipe)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert not torch.equal(whole["conv1.weight"], trained(photos, tmp_path / "plain")["conv1.weight"])


def test_frozen_parts_stay_as_they_were(photos: Path, tmp_path: Path) -> None:
    first = trained(photos, tmp_path / "first")
    after = trained(photos, tmp_path / "after", replace(SMALL, freeze="layer2"), start=tmp_path / "first")
    for key in first:
        frozen = key.startswith(("conv1", "bn1", "layer1", "layer2", "preprocessing"))
        assert torch.equal(first[key], after[key]) == frozen, key
    with pytest.raises(ResnetlabError, match="choose one of conv1, bn1, layer1, layer2, layer3$"):
        trained(photos, tmp_path / "wrong", replace(SMALL, freeze="layer9"))


def test_the_best_on_validation_is_kept_and_patience_ends(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ResnetlabError, match="no validation images; hold some out, e.g. `validation=3`"):
        trained(photos, tmp_path / "none", replace(SMALL, keep="best"))
    assert not (tmp_path / "none").exists()
    recipe = replace(SMALL, iterations=60, report_every=2, validation=9, keep="best", patience=3)
    trained(photos, tmp_path / "run", recipe)
    points = read_curve(tmp_path / "run")
    errors = [point["validation_error"] for point in points]
    best = errors.index(min(errors))
    assert len(points) == best + 4 < 30
    found = result(tmp_path / "run")
    assert found["ended_at"] == points[-1]["step"]
    assert found["protocol"] == "single view, best on validation"
    assert found["validation_error"] == errors[best]
    assert found["test_error"] == points[best]["test_error"]
    assert load(tmp_path / "run").provenance["step"] == points[best]["step"]


def test_validation_folders_are_for_validation(photos: Path, tmp_path: Path) -> None:
    (photos / "test").rename(photos / "val")
    (photos / "test").mkdir()
    for name in ("ant", "bee", "cow"):
        (photos / "test" / name).mkdir()
        (photos / "val" / name / "003.jpg").rename(photos / "test" / name / "003.jpg")
    trained(photos, tmp_path / "run", replace(SMALL, keep="best"))
    assert result(tmp_path / "run")["test_images"] == 3
    with pytest.raises(ResnetlabError, match="its own validation images"):
        trained(photos, tmp_path / "two", replace(SMALL, validation=5))


def test_weights_of_classes_make_up_for_their_sizes(photos: Path) -> None:
    for path in sorted((photos / "train" / "ant").iterdir())[5:]:
        path.unlink()
    weights = class_weights(list_images(photos).train.labels, 3)
    assert torch.allclose(weights * torch.tensor([5.0, 10.0, 10.0]), torch.full((3,), 25 / 3))


def test_the_average_of_weights() -> None:
    network, averaged = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = averaged.weight * 0.9 + network.weight * 0.1
    average(averaged, network, 0.9)
    assert torch.allclose(averaged.weight, expected)


def test_a_file_that_cannot_be_read(photos: Path, tmp_path: Path) -> None:
    bad = photos / "train" / "bee" / "004.jpg"
    bad.write_bytes(b"damaged")
    with pytest.raises(ResnetlabError, match=r"train/bee/004\.jpg is not a readable image"):
        trained(photos, tmp_path / "run", replace(SMALL, iterations=8))
    trained(photos, tmp_path / "skipping", replace(SMALL, iterations=8), on_bad="skip")
    assert result(tmp_path / "skipping")["unreadable"] == [str(bad)]


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnetlab.runs.folder.SAVE_EVERY_SECONDS", 0.0)
    recipe = replace(SMALL, iterations=40, learning_rate=1e30, ramp_up=0, report_every=40, ema=0.0)
    with pytest.raises(DivergedError, match=r"not finite at step \d+, learning rate 9\.\d+e\+29"):
        trained(photos, tmp_path / "run", recipe)
    for path in (tmp_path / "run" / "checkpoints").glob("step-*/tensors.safetensors"):
        assert all(bool(torch.isfinite(value).all()) for value in load_file(path).values())


def test_memory_that_is_not_enough(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr("resnetlab.training.loop.descend", fails)
    with pytest.raises(ResnetlabError, match="batch size of 8: CUDA out .*Try `batch_size=4`, or `accumulate=2`"):
        trained(photos, tmp_path / "run")
