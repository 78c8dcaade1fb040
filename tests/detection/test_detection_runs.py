"""Detection through a run: trained, tested, recorded, resumed, in two processes, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import processes
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from resnetlab.data.dataset import Dataset, File, Files
from resnetlab.data.named import DataSource
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.data.sources import digit_scenes
from resnetlab.detection.model import load_detector
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.stream import scenes_of
from resnetlab.errors import Interrupted, ResnetlabError
from resnetlab.evaluation.average_precision import coco_summary
from resnetlab.models.modelfile import Model, load, save, task_of
from resnetlab.networks.architecture import parse
from resnetlab.networks.resnet import build
from resnetlab.runs.finished import finished_runs
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.tasks.detection import detection
from resnetlab.tasks.task import Task
from resnetlab.training.interrupt import Wish
from resnetlab.training.named_recipes import CIFAR, DETECTION
from resnetlab.training.recipe import Recipe

Options = Callable[..., DetectorOptions]
NAME = "resnet18-narrow16"
SETTINGS = Settings(device="cpu", threads=1, workers=1)
RECIPE = replace(
    DETECTION.scaled(4),
    crop_size=64,
    longest=96,
    ramp_up=0,
    report_every=4,
    exact_statistics=False,
)
LOSSES = ("objectness loss", "proposal loss", "class loss", "box loss", "loss")


@pytest.fixture
def task(options: Options) -> Task:
    return detection(options())


def spec(task: Task, recipe: Recipe = RECIPE, start: Path | None = None, name: str = NAME) -> RunSpec:
    return RunSpec(parse(name), DataSource("squares"), recipe, task=task, start=start)


def go(spec: RunSpec, folder: Path, squares: Dataset, until: int = 0) -> list[str]:
    """Run, or stop after a step; the messages."""
    wish, messages = Wish(), []
    try:
        for progress in run(spec, folder, SETTINGS, squares, wish):
            wish.to_stop = progress.step == until > 0
            messages.append(progress.message)
    except Interrupted:
        assert until
    return [message for message in messages if message]


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A network for classification, with batch normalisation far from its initial state."""
    network = build(NAME, num_classes=3)
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
            torch.nn.init.normal_(norm.running_mean, std=0.1)
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    usual = Preprocessing.by_channel(Fit.square(64), IMAGENET_MEAN, IMAGENET_STD)
    path = tmp_path / "classifier.safetensors"
    save(Model(network, usual, ("x", "y", "z"), {}), path)
    return path


def test_it_trains_is_tested_and_recorded(task: Task, squares: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shown = [progress.numbers for progress in run(spec(task), folder, SETTINGS, squares)]
    assert shown[0] == "not yet tested"
    assert shown[-1].startswith("training loss ")
    assert "test AP50 " in shown[-1]
    found = lines(folder)
    assert [line["step"] for line in found] == [4]
    tested = ["test_AP50", "test_AP"]
    assert list(found[0]) == ["step", "learning_rate", *(f"train_{name}" for name in LOSSES), *tested]
    assert all(0 <= line[name] <= 100 for line in found for name in tested)
    result = json.loads((folder / "result.json").read_text())
    assert {"test_AP50", "test_AP", "train_loss", "train_box loss"} <= result.keys()
    assert (result["protocol"], result["test_images"]) == ("single view, last iteration", 4)
    config = json.loads((folder / "config.json").read_text())
    assert (config["task"]["name"], config["task"]["options"]["anchor_sizes"]) == ("detection", [16, 32, 64])
    assert (folder / "sample.png").stat().st_size > 1000
    assert task_of(folder) == "detection"
    model = load_detector(folder)
    assert model.classes == ("red", "green")
    assert model.preprocessing.fit == Fit.uncropped(64, 96)
    test = squares.test
    assert isinstance(test, Files)
    assert test.boxes is not None
    detections = [
        each
        for _, images in scenes_of(test, model.preprocessing, torch.device("cpu"), workers=1)
        for each in model.network(images)
    ]
    summary = coco_summary(test.boxes, detections, 2)
    assert 100 * (summary.ap50 or 0) == result["test_AP50"]
    assert 100 * (summary.ap or 0) == result["test_AP"]
    (finished,) = finished_runs([folder]).values()
    assert finished.result["test_AP"] == result["test_AP"]
    with pytest.raises(ResnetlabError, match="model for detection; expected one for classification"):
        load(folder)


def test_it_resumes_bit_for_bit(task: Task, squares: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, ema=0.9)
    go(spec(task, recipe), tmp_path / "whole", squares)
    go(spec(task, recipe), tmp_path / "parts", squares, until=2)
    assert not (tmp_path / "parts" / "result.json").exists()
    messages = go(spec(task, recipe), tmp_path / "parts", squares)
    assert messages[0] == "continues from step 3"
    one, two = (weights(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert (tmp_path / "parts/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_the_best_network_is_the_one_of_the_highest_precision(task: Task, squares: Dataset, tmp_path: Path) -> None:
    go(spec(task, replace(RECIPE, keep="best", validation=3, report_every=1)), tmp_path / "r", squares)
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    best = max(line["validation_AP50"] for line in lines(tmp_path / "r"))
    assert result["best_on_validation"]["validation_AP50"] == result["validation_AP50"] == best


def test_exact_statistics(task: Task, squares: Dataset, tmp_path: Path) -> None:
    """They change those, in the shared part and in the head, and nothing else."""
    go(spec(task), tmp_path / "running", squares)
    messages = go(spec(task, replace(RECIPE, exact_statistics=True)), tmp_path / "exact", squares)
    assert messages[-1].startswith("with exact batch-norm statistics the test AP50 is ")
    one, two = (weights(tmp_path / name) for name in ("running", "exact"))
    for key in one:
        assert torch.equal(one[key], two[key]) == (not key.endswith(("running_mean", "running_var"))), key
    result = json.loads((tmp_path / "exact/result.json").read_text())
    assert result["protocol"].endswith("exact batch-norm statistics")


def test_the_end_of_a_run_can_be_stopped(task: Task, squares: Dataset, tmp_path: Path) -> None:
    """While statistics are computed, too; the same command goes on from the last step to the same weights."""
    asked = spec(task, replace(RECIPE, exact_statistics=True))
    go(asked, tmp_path / "whole", squares)
    wish = Wish()

    def stopped() -> None:
        for progress in run(asked, tmp_path / "stopped", SETTINGS, squares, wish):
            wish.to_stop = progress.message.startswith("computing exact batch-norm statistics")

    with pytest.raises(Interrupted, match="stopped at step 4 and saved; the same command continues"):
        stopped()
    assert not (tmp_path / "stopped/result.json").exists()
    go(asked, tmp_path / "stopped", squares)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_exact_statistics_without_unreadable_images(task: Task, squares: Dataset, tmp_path: Path) -> None:
    """A file that cannot be read is skipped there, too."""
    (tmp_path / "bad.jpg").write_text("no image")
    assert isinstance(squares.train, Files)
    files = (*squares.train.files[:2], File("bad", str(tmp_path / "bad.jpg")), *squares.train.files[3:])
    damaged = replace(squares, train=replace(squares.train, files=files))
    asked = spec(task, replace(RECIPE, exact_statistics=True))
    messages = go(replace(asked, data=replace(asked.data, on_bad="skip")), tmp_path / "r", damaged)
    assert messages[-2].startswith("with exact batch-norm statistics the test AP50 is ")
    assert messages[-1] == f"1 unreadable file skipped, {tmp_path / 'bad.jpg'}"
    with pytest.raises(ResnetlabError, match=r"bad\.jpg"):
        go(replace(asked, seed=1), tmp_path / "s", damaged)


def test_fixed_batch_normalisation(task: Task, squares: Dataset, tmp_path: Path, classifier: Path) -> None:
    """Statistics, scales and offsets of the starting weights, bit for bit; all else is trained."""
    fixed = replace(RECIPE, batch_norm="fixed")
    with pytest.raises(ResnetlabError, match="batch_norm=fixed needs weights to start from; without them take"):
        go(spec(task, fixed), tmp_path / "r", squares)
    assert not (tmp_path / "r").exists()
    messages = go(spec(task, fixed, classifier), tmp_path / "r", squares)
    assert "starts from" in messages[0]
    assert "batch normalisation is fixed to the statistics of the starting weights" in messages[0]
    before, after = load(classifier).network, weights(tmp_path / "r")
    norms = {name for name, module in before.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert len(norms) == 20
    for key, value in before.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(after[f"body.network.{key}"], value) == (key.rpartition(".")[0] in norms), key
    with pytest.raises(ResnetlabError, match="exact_statistics is True; it must be false where batch_norm is fixed"):
        replace(fixed, exact_statistics=True)


def test_frozen_stages(task: Task, squares: Dataset, tmp_path: Path, classifier: Path) -> None:
    """Their weights and statistics stay; the later ones and the layers of detection are trained."""
    messages = go(spec(task, replace(RECIPE, freeze="layer1"), classifier), tmp_path / "r", squares)
    assert "frozen up to layer1" in messages[0]
    before, after = load(classifier).network.state_dict(), weights(tmp_path / "r")
    for key, value in before.items():
        if not key.startswith("fc."):
            frozen = key.startswith(("conv1", "bn1", "layer1"))
            assert torch.equal(after[f"body.network.{key}"], value) == frozen, key
    with pytest.raises(ResnetlabError, match="cannot freeze up to 'layer4'; choose one of conv1, bn1, layer1"):
        go(spec(task, replace(RECIPE, freeze="layer4"), classifier), tmp_path / "x", squares)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"precision": "bfloat16"}, {"recompute": True}, {"batch_size": 1}], ids=str)
def test_other_ways_to_train(options: Options, squares: Dataset, tmp_path: Path, fields: dict[str, object]) -> None:
    """With the same losses up to rounding at the first step, where the batch is the same."""
    recompute = fields.pop("recompute", False)
    recipe = replace(RECIPE, iterations=1, report_every=1, **fields)  # type: ignore[arg-type]
    settings = replace(SETTINGS, recompute="yes" if recompute else "no")
    task = detection(options())
    list(run(spec(task, recipe), tmp_path / "r", settings, squares))
    go(spec(task, replace(RECIPE, iterations=1, report_every=1)), tmp_path / "usual", squares)
    one, two = (lines(tmp_path / name)[0] for name in ("r", "usual"))
    if "batch_size" not in fields:
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=0.03 if fields else 1e-5)


def test_other_data_and_recipes(task: Task, squares: Dataset, tiny: Dataset, tmp_path: Path) -> None:
    for asked, dataset, said in (
        (spec(task), tiny, "tiny has no boxes, and the task detection needs boxes"),
        (
            replace(spec(task), task=CLASSIFICATION),
            squares,
            "squares has boxes, and the task classification needs one",
        ),
        (replace(spec(task, CIFAR), task=CLASSIFICATION), squares, "squares has boxes, and the task classification"),
        (spec(task, replace(RECIPE, crop="area", crop_size=32)), squares, "crop=area, which is not for detection"),
        (replace(spec(task), task=CLASSIFICATION), tiny, "crop=whole, which is not for classification"),
        (spec(task, replace(RECIPE, label_smoothing=0.1)), squares, "label_smoothing takes no effect with the task"),
        (spec(task, replace(RECIPE, balance="loss")), squares, "balance takes no effect with the task detection"),
        (spec(task, replace(RECIPE, label_noise=0.5)), squares, "label_noise=0.5 needs one of several classes"),
        (spec(task, replace(RECIPE, warmup_rate=0.01)), squares, "set warmup_rate=none"),
    ):
        with pytest.raises(ResnetlabError, match=said):
            go(asked, tmp_path / "r", dataset)
    assert not (tmp_path / "r").exists()
    with pytest.raises(ResnetlabError, match="cifar_resnet8 is for small images; for detection take e.g. resnet18"):
        go(spec(task, name="cifar_resnet8"), tmp_path / "c", squares)
    (tmp_path / "there").mkdir()
    with pytest.raises(ResnetlabError, match="cannot freeze up to 'layer9'"):
        go(spec(task, replace(RECIPE, freeze="layer9")), tmp_path / "there", squares)
    assert list((tmp_path / "there").iterdir()) == []  # nothing is left of what was refused
    assert not (tmp_path / "c").exists()


def test_a_run_is_one_with_its_options(options: Options, squares: Dataset, tmp_path: Path) -> None:
    """The detector's options are in the folder's name and in its configuration."""
    one, other = spec(detection(options())), spec(detection(options(refine=True)))
    assert one.folder_name != other.folder_name
    assert one.folder_name.startswith("detection-")
    assert one.folder_name == spec(detection(options())).folder_name
    go(replace(one, recipe=replace(RECIPE, iterations=1)), tmp_path / "r", squares)
    with pytest.raises(
        ResnetlabError, match=r"task.options.refine is False there and True here. Give another folder"
    ):
        go(replace(other, recipe=replace(RECIPE, iterations=1)), tmp_path / "r", squares)


# Several processes, which make the data themselves: pixels in memory do not travel


def scenes() -> Dataset:
    """8 + 5 of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digit_scenes, "TRAIN", 8)
        patch.setattr(digit_scenes, "TEST", 5)
        return digit_scenes.digit_scenes()


def train_scenes(out: Path, recipe: Recipe) -> None:
    """What each process does."""
    small = {"anchor_sizes": (16, 32, 64), "train_proposals": 60, "test_proposals": 40, "border": "keep"}
    task = detection(DetectorOptions(**small))  # type: ignore[arg-type]
    try:
        list(run(spec(task, recipe), out, SETTINGS, scenes()))
    except ResnetlabError as error:
        raise SystemExit(f"error: {error}") from None


@pytest.mark.slow
def test_two_processes_train_as_one_does_in_two_chunks(tmp_path: Path) -> None:
    """The same images, anchors and proposals; batch statistics are those of each chunk, and the tests are shared."""
    recipe = replace(RECIPE, batch_size=4, learning_rate=0.01)
    children = processes.in_two(train_scenes, tmp_path / "two", recipe, folder=tmp_path)
    assert [child.wait() for child in children] == [0, 0], [child.text() for child in children]
    train_scenes(tmp_path / "one", replace(recipe, accumulate=2))
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for key in one:
        if "running" not in key and "num_batches" not in key:
            assert torch.allclose(one[key], two[key], rtol=1e-3, atol=1e-5), key
    for a, b in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert [a[f"train_{name}"] for name in LOSSES] == pytest.approx(
            [b[f"train_{name}"] for name in LOSSES], rel=1e-3
        )
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert results[0]["test_images"] == results[1]["test_images"] == 5


@pytest.mark.slow
def test_exact_statistics_of_two_processes(tmp_path: Path) -> None:
    """Each runs some of the training images; the statistics are those of all of them, in both."""
    recipe = replace(RECIPE, batch_size=2, exact_statistics=True)
    children = processes.in_two(train_scenes, tmp_path / "two", recipe, folder=tmp_path)
    assert [child.wait() for child in children] == [0, 0], [child.text() for child in children]
    train_scenes(tmp_path / "one", replace(recipe, accumulate=2))
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key in one:
        if key.endswith(("running_mean", "running_var")):
            assert torch.allclose(one[key], two[key], rtol=0.02, atol=1e-3), key


@pytest.mark.slow
def test_batch_statistics_over_processes_are_refused(tmp_path: Path) -> None:
    """Their layers count on parts of equal size, and regions and padded images are not."""
    children = processes.in_two(train_scenes, tmp_path / "x", replace(RECIPE, synchronised=True), folder=tmp_path)
    assert all(child.wait() != 0 for child in children)
    assert "take synchronised=no" in "".join(child.text() for child in children)
