"""Tables 7 to 12: the paper's numbers and schedules, rows, and when a difference is more than noise."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnetlab.cli.terminal import Terminal
from resnetlab.detection.cost import cost
from resnetlab.detection.options import PRESETS, DetectorOptions
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.catalogue import find
from resnetlab.experiments.detection import EXPERIMENTS, make_record
from resnetlab.experiments.detection_rows import Row, judged, rows_of
from resnetlab.experiments.experiment import Experiment
from resnetlab.experiments.options import Options
from resnetlab.networks.architecture import parse
from resnetlab.paper import detection as paper
from resnetlab.runs.finished import FinishedRun
from resnetlab.runs.spec import RunSpec
from resnetlab.training.resolve import RecipeOptions

IMAGES = 40


def specs(name: str, scale: str, **options: object) -> list[RunSpec]:
    found = find(name)
    assert isinstance(found, Experiment)
    return list(found.specs(Options(scale=scale, **options), 1000).values())  # type: ignore[arg-type]


def test_means_over_the_classes_are_the_printed_ones() -> None:
    for row in (*paper.TABLE10, *paper.TABLE11):
        assert len(row.classes) == len(paper.VOC_CLASSES) == 20
        assert mean(row.classes) == pytest.approx(row.map50, abs=0.05)
    for table in paper.TABLES.values():
        assert all(each.table == table[0].table for each in table)


def test_the_gain_of_the_abstract() -> None:
    vgg, residual = (row.ap for row in paper.TABLE8)
    assert vgg is not None
    assert residual is not None
    assert round(residual - vgg, 1) == 6.0
    assert round(100 * (residual - vgg) / vgg) == 28  # percent, relative


def test_schedules_at_full_scale_are_the_papers(tmp_path: Path) -> None:
    for network in ("vgg16", "resnet101"):
        (tmp_path / f"{network}.pth").touch()
    voc, coco = (specs(name, "full", weights=tmp_path) for name in ("table7", "table9"))
    assert [str(spec.architecture) for spec in voc] == ["vgg16", "resnet101"]
    assert [spec.task.options.context for spec in coco] == [False, False, True]
    for spec in voc:
        recipe = spec.recipe
        assert (recipe.iterations, recipe.drops, recipe.learning_rate) == (80_000, (60_000,), 0.001)
        assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)
        assert spec.task.options == DetectorOptions()
    for spec in coco:
        recipe = spec.recipe
        assert (recipe.iterations, recipe.drops, recipe.learning_rate) == (320_000, (240_000,), 0.001)
        assert recipe.batch_size == 8
        assert spec.task.options.anchor_sizes == (64, 128, 256, 512)
    for spec in (*voc, *coco):
        assert (spec.recipe.crop, spec.recipe.crop_size, spec.recipe.longest) == ("whole", 600, 1000)
        assert spec.recipe.batch_norm == "fixed"
        assert spec.start == tmp_path / f"{spec.architecture.name}.pth"
    with pytest.raises(ResnetlabError, match=r"has no resnet50.safetensors or resnet50.pth"):
        specs("table7", "full", weights=tmp_path, networks=("resnet50",))


def test_small_networks_cost_the_same() -> None:
    options = DetectorOptions(**PRESETS["small"])
    vgg, residual = (
        cost(replace(parse(name), num_classes=3), options, 480, 640).multiply_adds
        for name in ("vgg16_bn-narrow4", "resnet18-narrow4")
    )
    assert vgg == pytest.approx(residual, rel=0.005)
    whole = cost(replace(parse("resnet50"), num_classes=80), DetectorOptions(), 600, 800)
    assert whole.head == pytest.approx(220e9, rel=0.01)
    convolution = 9 * 1024 * 1024 * 38 * 50  # of the proposal network
    assert whole.shared == pytest.approx(3.27e9 * 600 * 800 / 224**2 + convolution, rel=0.05)  # conv1 to conv4_x


def test_networks_and_their_options() -> None:
    found = specs("table9", "digits")
    assert [(str(spec.architecture), spec.task.options.context) for spec in found] == [
        ("vgg16_bn-narrow4", False),
        ("resnet18-narrow4", False),
        ("resnet18-narrow4", True),
    ]
    assert len({spec.folder_name for spec in found}) == 3
    (deep,) = specs("table9", "digits", networks=("resnet152-v1.5-narrow8+context",))
    assert (str(deep.architecture), deep.task.options.context) == ("resnet152-v1.5-narrow8", True)
    assert {spec.folder_name for spec in specs("table7", "digits")} < {spec.folder_name for spec in found}
    with pytest.raises(ResnetlabError, match=r"unknown option \+refine"):
        specs("table9", "digits", networks=("resnet18+refine",))
    with pytest.raises(ResnetlabError, match="options? of detectors"):
        specs("table3", "digits", networks=("resnet34+context",))
    with pytest.raises(ResnetlabError, match="is for CIFAR"):
        specs("table9", "digits", networks=("cifar_resnet20",))


def finished(network: str, context: bool, quality: float, seed: int = 0) -> FinishedRun:
    """A run whose detector finds this share of the boxes of each class, at random, with as many false ones."""
    settings: dict[str, Any] = {}
    for name in ("baseline", "refined", *(("scaled",) if context else ())):
        matches, random = [], np.random.default_rng(seed + round(1000 * quality))
        for _ in range(2):
            outcome = (random.random(6 * IMAGES) < quality).astype(int)
            matches.append(
                {
                    "image": np.repeat(np.arange(IMAGES), 6).tolist(),
                    "scores": np.linspace(1, 0, 6 * IMAGES).tolist(),
                    "outcome": outcome.tolist(),
                    "positives": [6] * IMAGES,
                }
            )
        value = quality**2
        settings[name] = {"map50": value, "ap": value, "voc07": value, "voc10": None, "matches": matches}
        settings[name] |= {f"class_{rule}": [value, None] for rule in ("map50", "voc07", "voc10")}
    options = asdict(DetectorOptions(context=context))
    config = {
        "task": {"name": "detection", "metrics": [{"name": "AP50", "unit": "%"}], "options": options},
        "network": {"name": network, "num_classes": 2, "narrow": 4},
        "data": {"name": "made up", "split": "made up", "classes": ["ant", "bee"]},
        "recipe": {"name": "detection", "iterations": 10, "batch_size": 2, "precision": "float32"},
        "seed": seed,
    }
    result = {"test_images": IMAGES, "protocol": "single view", "environment": {"device": "a processor"}}
    measured = {"images": IMAGES, "boxes": 480, "classes": ["ant", "bee"], "scales": [160, 320], "settings": settings}
    return FinishedRun(config, ({"step": 10},), result, None, measured)


def test_rows_are_cumulative_and_judged() -> None:
    runs = [finished("vgg16_bn", False, 0.5, seed) for seed in range(3)]
    runs += [finished("resnet18", False, 0.8, seed) for seed in range(3)]
    runs += [finished("resnet18", True, 0.8, seed) for seed in range(3)]
    (table9,) = (entry for entry in EXPERIMENTS if entry.name == "table9")
    record = make_record(table9, runs, [])
    steps = [row[0] for row in record.tables[0].rows]
    assert steps == [
        "baseline VGG-16 with batch norm of 1/4 width",
        "baseline ResNet-18 B of 1/4 width",
        "+ box refinement ResNet-18 B of 1/4 width",
        "+ context ResNet-18 B of 1/4 width",
        "+ multi-scale testing ResNet-18 B of 1/4 width",
    ]
    changes = [row[3] for row in record.tables[0].rows]
    assert changes[0] == "-"
    assert "within noise" not in changes[1]
    assert "within noise" in changes[2]
    assert record.sentences[0].startswith("ResNet-18 B in place of VGG-16 with batch norm raises AP50: +")
    assert record.sentences[1].startswith("Box refinement does not change AP50 beyond noise")
    assert [row[3] for row in record.tables[-1].rows][:2] == ["41.5", "48.4"]
    assert "matches" not in str(record.runs)


def test_the_standard_error_has_images_and_seeds() -> None:
    one, two = (
        Row(run.architecture, "", tuple(finished("resnet18", False, quality, seed) for seed in range(3)), "baseline")
        for quality, run in ((q, finished("resnet18", False, q)) for q in (0.6, 0.7))
    )
    found = judged(one, two)
    assert found.points == pytest.approx(100 * found.bootstrap.mean.difference)
    assert found.error >= 100 * found.bootstrap.mean.standard_error
    alone = judged(replace(one, runs=one.runs[:1]), replace(two, runs=two.runs[:1]))
    assert alone.error == pytest.approx(100 * alone.bootstrap.mean.standard_error)
    same = judged(one, one)
    assert same.points == same.error == 0
    assert same.within_noise


def test_tables_by_class_name_their_rule() -> None:
    runs = [finished("vgg16", False, 0.5), finished("resnet18", False, 0.8)]
    for name, rule in (("table10", "by 11 points"), ("table11", "by area"), ("table7", "by 101 points")):
        (entry,) = (entry for entry in EXPERIMENTS if entry.name == name)
        (table,) = (table for table in make_record(entry, runs, []).tables if table.title == "By class")
        assert rule in table.note
        assert [row[0] for row in table.rows] == ["ant", "bee"]
    assert len(rows_of(runs, ((paper.BASELINE, False, "baseline"),))) == 2


@pytest.mark.parametrize("embedded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_plan_of_embedded_scenes_and_of_a_folder(
    embedded: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        found = [{"id": k, "image_id": k, "category_id": 1, "bbox": [5, 9, 30, 26]} for k in range(3)]
        images = [{"id": k, "file_name": f"{k}.png", "width": 60, "height": 50} for k in range(3)]
        (tmp_path / part).mkdir()
        for k in range(3):
            Image.new("RGB", (60, 50), (40 * k, 9, 9)).save(tmp_path / part / f"{k}.png")
        said = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "ant"}]}
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(said))
    entry = find("table9")
    networks, recipe = ("resnet18-narrow16+context",), RecipeOptions(image_size=64)
    data = None if embedded else str(tmp_path)
    options = Options(data=data, networks=networks, recipe=recipe, dry_run=True, out=tmp_path / "runs")
    assert entry.make(options, Terminal()).record is None
    assert "ResNet-18 B with context" in capsys.readouterr().out
    with pytest.raises(ResnetlabError, match=r"unknown option \+refine"):
        entry.make(Options(networks=("resnet18+refine",)), Terminal())
