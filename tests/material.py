"""Data and models of every kind that a command takes, small."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnetlab.data.named import DataSource
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.detection.model import save_detector
from resnetlab.detection.network import detector
from resnetlab.detection.options import PRESETS, DetectorOptions
from resnetlab.evaluation.scores import Scored
from resnetlab.models.modelfile import Model, save
from resnetlab.networks.architecture import parse
from resnetlab.networks.resnet import build
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.training.named_recipes import RECIPES

ABOUT = Preprocessing.by_channel(Fit.square(40, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))


def make_photos(folder: Path) -> None:
    """`photos` with a split; `broken`, `other` and `unsplit` are made of it."""
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 3)):
        for number, label in enumerate(("ant", "bee", "cow")):
            (folder / "photos" / part / label).mkdir(parents=True)
            for k in range(count + number * (part == "train")):
                pixels = random.integers(0, 120, (50, 60, 3))
                pixels[..., number] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / part / label / f"{k}.jpg")
    shutil.copytree(folder / "photos", folder / "broken")
    (folder / "broken" / "test" / "ant" / "0.jpg").write_bytes(b"x")
    shutil.copytree(folder / "photos" / "test", folder / "other")
    shutil.copytree(folder / "photos" / "train", folder / "unsplit")


def make_arrays(folder: Path) -> None:
    """`tiny.npz`."""
    random = np.random.default_rng(1)
    arrays = {f"{kind}_{part}": array for part, n in (("train", 40), ("test", 10)) for kind, array in {
        "x": random.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), "y": np.arange(n) % 4}.items()}  # fmt: skip
    np.savez(folder / "tiny.npz", **arrays)  # type: ignore[arg-type]


def make_models(folder: Path) -> None:
    """`model.safetensors` and `narrow.safetensors`."""
    torch.manual_seed(0)
    for name, network in (("model", "cifar_resnet8"), ("narrow", "cifar_resnet8-narrow4")):
        save(Model(build(network, num_classes=3), ABOUT, ("ant", "bee", "cow"), {}), folder / f"{name}.safetensors")


def make_boxes(folder: Path) -> None:
    """`boxes.json` and `scenes`, of `photos`."""
    boxes = {"images": [{"id": 1, "file_name": "photos/train/ant/0.jpg", "width": 60, "height": 50}]}
    boxes |= {"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 9, 12, 16]}]}
    (folder / "boxes.json").write_text(json.dumps(boxes | {"categories": [{"id": 1, "name": "ant"}]}))
    for part in ("train", "test"):
        images = [{"id": k, "file_name": f"{k}.jpg", "width": 60, "height": 50} for k in range(3)]
        found = [{"id": k, "image_id": k, "category_id": 1, "bbox": [5, 9, 30, 26]} for k in range(3)]
        (folder / "scenes" / part).mkdir(parents=True)
        for k in range(3):
            shutil.copy(folder / "photos" / part / "ant" / f"{k}.jpg", folder / "scenes" / part / f"{k}.jpg")
        said = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "ant"}]}
        (folder / "scenes" / part / "_annotations.coco.json").write_text(json.dumps(said))


def make_detectors(folder: Path) -> None:
    """`detector.safetensors` and `other.safetensors`."""
    few = DetectorOptions(**{**PRESETS["few-objects"], "score": 0.01})
    row = replace(parse("resnet18-narrow16"), num_classes=1)
    fitted = Preprocessing(Fit.uncropped(64, 107), ABOUT.mean, ABOUT.std)
    for seed, name in enumerate(("detector", "other")):
        network = detector(few, row, seed)
        torch.nn.init.normal_(network.regions.cls_score.weight, std=0.1)
        save_detector(network, fitted, ("ant",), {}, folder / f"{name}.safetensors")


def make_scores(folder: Path) -> None:
    """`a.safetensors` and `b.safetensors`, of the same images."""
    for seed, name in enumerate(("a", "b")):
        logits = torch.randn(30, 7, generator=torch.Generator().manual_seed(seed))
        names, classes = tuple(map(str, range(30))), tuple("abcdefg")
        Scored(logits, torch.arange(30) % 7, names, classes, {"model": name}).save(folder / f"{name}.safetensors")


def make_run(folder: Path) -> None:
    """`run`, finished, on digits."""
    recipe = RECIPES["digits"].scaled(2)
    spec = RunSpec(parse("cifar_resnet8-narrow4"), DataSource("digits"), recipe)
    list(run(spec, folder / "run", Settings(threads=1, compile="no")))


def make_weights(folder: Path) -> None:
    """`theirs.pth`, `several.pth` and `names.txt`."""
    torch.manual_seed(0)
    theirs = build("resnet18", num_classes=3)
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    torch.save({"model": theirs.state_dict(), "model_ema": theirs.state_dict()}, folder / "several.pth")
    (folder / "names.txt").write_text("ant\nbee\ncow\n")


MAKERS = (make_photos, make_arrays, make_models, make_weights, make_boxes, make_detectors, make_run, make_scores)


def make_all(folder: Path) -> None:
    """Everything, in one folder."""
    for make in MAKERS:
        make(folder)
