"""The commands and the Python of the documents, run as a reader types them: on small data, with short trainings."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import numpy as np
import PIL.Image
import processes
import pytest
import torch
import torchvision
from PIL import Image

import resnetlab
from resnetlab.data.class_names import imagenet
from resnetlab.models import published
from resnetlab.models.exporting import export_timm
from resnetlab.models.modelfile import Model, save
from resnetlab.networks.resnet import build
from tests.data.test_annotated import A_CAT, voc
from tests.material import ABOUT, make_boxes, make_photos, make_scores
from tests.test_commands_in_documents import CASES, WHOLE

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]
STANDS_FOR = {
    "MODEL": "m.safetensors",
    "FILE": "resnet50.pth",
    "FOLDER": "photos/",
    "IMAGES-or-FOLDER": "new/",
    "A": "runs/a",
    "B": "runs/b",
    "NAME": "table1",
    "cifar10": "cifar10.npz",  # CIFAR-10 cannot be downloaded here
    "CIFAR-10 (JPEG)": "cifar10.npz",
    "resnet50.safetensors": "imported.safetensors",
    "resnet200": "resnet152",  # which the document adds
    "cifar_resnet1202": "cifar_resnet32",  # which takes minutes for two steps
}
"""What a reader puts in place of words of the documents."""
ONCE = ("--threads", "1", "--compile", "no")
JOB = (*ONCE, "--jobs", "1")
TRAIN = ("--iterations", "2", "--batch-size", "4", *ONCE)
SHORT = ("--iterations", "2", "--set", "batch_size=8", *JOB)
STUDIED = ("--iterations", "12", "--images", "110", *JOB)
BOXES = ("--data", "cells/", "--image-size", "64", "--iterations", "2", *JOB)
DEPTHS, WIDTHS = ("cifar_plain8", "cifar_resnet8"), ("resnet18-A", "plain18")
SMALLER: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = (
    {"table1": ((), ()), "cost": (("resnet18",), ("--rounds", "1")), "options": (("cifar_resnet8",), SHORT)}
    | dict.fromkeys(("figure1", "figure6", "table6"), (DEPTHS, SHORT))
    | dict.fromkeys(("table2", "table3", "table4", "table5", "figure4"), (WIDTHS, SHORT))
    | dict.fromkeys(("figure7", "gradients", "lesions", "refinement", "landscape", "overfit"), (DEPTHS, STUDIED))
    | dict.fromkeys((f"table{number}" for number in range(7, 13)), (("resnet18",), BOXES))
)
"""Of each experiment the networks and options that make it small."""
pytestmark = pytest.mark.slow


def make_published(folder: Path) -> tuple[published.Published, ...]:
    """Weights of torchvision's form under published names, random."""
    folder.mkdir(parents=True)
    known = []
    for each in published.PUBLISHED:
        if each.name in ("torchvision/resnet18", "torchvision/resnet50.v2"):
            torch.save(build(each.network).state_dict(), folder / "new.pth")
            digest = sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
            known.append(replace(each, file=f"{each.network}-{digest}.pth"))
            (folder / "new.pth").rename(folder / known[-1].file)
    return tuple(known)


def make_images(folder: Path) -> None:
    """Photographs: `photos` and `seven`, by class; `new`, `new-images`, and some alone; `imagenet`."""
    make_photos(folder / "made")
    for path in sorted((folder / "made" / "photos").rglob("*.jpg")):
        part, label = path.parts[-3:-1]
        for place in ("photos", "seven"):
            (folder / place / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / place / label / f"{part}-{path.name}")
    shutil.copytree(folder / "photos" / "bee", folder / "new")
    shutil.copytree(folder / "photos" / "bee", folder / "new-images")
    for name in ("new/1.jpg", "cat.jpg", "dog.jpg"):
        shutil.copy(folder / "photos" / "ant" / "train-0.jpg", folder / name)
    random = np.random.default_rng(0)
    for name in list(imagenet())[:4]:
        for part in ("train", "val"):
            (folder / "imagenet" / part / name).mkdir(parents=True)
            pixels = random.integers(0, 256, (260, 260, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "imagenet" / part / name / f"{part}.JPEG")
    arrays = {"x": random.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8), "y": np.arange(40) % 10}
    parts = {f"{kind}_{part}": array for part in ("train", "test") for kind, array in arrays.items()}
    np.savez(folder / "cifar10.npz", **parts)  # type: ignore[arg-type]


def make_with_boxes(folder: Path) -> None:
    """`cells`, with boxes, and two years of `VOCdevkit`."""
    make_boxes(folder / "made")
    shutil.copytree(folder / "made" / "scenes", folder / "cells")
    for year in ("VOC2007", "VOC2012"):
        scenes = dict.fromkeys((f"{year}a", f"{year}b"), A_CAT)
        voc(folder / "VOCdevkit" / year, scenes, {"trainval": f"{year}a\n", "test": f"{year}b\n"})


def make_trained(folder: Path) -> None:
    """Runs, models, scores, and weights of others."""
    torch.manual_seed(0)
    network = build("resnet18", num_classes=3)
    model = Model(network, ABOUT, ("ant", "bee", "cow"), {})
    save(model, folder / "m.safetensors")
    export_timm(model, folder / "hub")
    few = {"iterations": 2, "batch_size": 4, "compile": "no", "threads": 1, "progress": False}
    given = few | {"from_": "scratch", "network": "resnet18", "image_size": 64}
    for seed, name in enumerate(("photos", "a", "b")):
        resnetlab.train(folder / "photos", out=folder / "runs" / name, seed=seed, **given)  # type: ignore[arg-type]
    for name in ("plain", "residual"):
        network_name = f"cifar_{name.replace('residual', 'resnet')}8"
        resnetlab.train("digits", network=network_name, out=folder / "runs" / name, **few)  # type: ignore[arg-type]
    boxes = ("--network", "resnet18-narrow16", "--image-size", "64", "--iterations", "2", "--threads", "1")
    for typed in (
        ("train", "--data", "cells/", "--out", "runs/cells", *boxes),
        ("import", "resnet50.pth", "--out", "imported.safetensors"),
    ):
        child = processes.resnetlab(*typed, folder=folder)
        assert child.wait() == 0, child.text()
    made = folder / "made"
    make_scores(made)
    for number, name in enumerate(("e1", "e2", "e3", "e4", "ten-crop", "dense", "other-network")):
        (folder / name).mkdir()
        shutil.copy(made / f"{'ab'[number % 2]}.safetensors", folder / name / "scores.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[published.Published, ...]]:
    """The folder of a reader who has followed the documents so far, and the published weights in the cache."""
    folder = tmp_path_factory.mktemp("reader")
    known = make_published(folder / "home" / "weights")
    (folder / "weights").mkdir()
    for each, place in zip(known, ("weights/resnet18.pth", "resnet50.pth"), strict=True):
        os.link(folder / "home" / "weights" / each.file, folder / place)
    make_images(folder)
    make_with_boxes(folder)
    make_trained(folder)
    return folder, known


@pytest.fixture
def reader(
    made: tuple[Path, tuple[published.Published, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The same in the folder of the test."""
    folder, known = made
    for path in folder.iterdir():
        place = tmp_path / path.name
        if path.is_dir():
            shutil.copytree(path, place, copy_function=os.link)
        else:
            os.link(path, place)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESNETLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(published, "PUBLISHED", known)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *names, **options: str(tmp_path / "hub"))
    return tmp_path


def small(words: list[str]) -> list[str]:
    """The command with what a reader puts in place of its words, and with options that make it small."""
    words = [STANDS_FOR.get(word, word) for word in words]
    name = words[0]
    boxes = name == "detect" or "--detector" in words
    run = "runs/cells" if boxes else "runs/plain" if name == "analyse" else "runs/photos"
    words = [run if word in ("runs/x", "runs/...", "x") else word for word in words]
    if name in ("train", "reproduce") and "--epochs" in words:
        place = words.index("--epochs")
        words = [*words[:place], *words[place + 2 :]]
    if name == "train":
        if words[1:] == ["runs/photos"]:  # `train …`
            words = ["train", "--data", "digits", "--network", "cifar_resnet8"]
        pixels = {"digits", "cifar10.npz"} & set(words)
        words += [*TRAIN, *("--image-size", "64") * (not pixels and not {"--image-size", "--task"} & set(words))]
    elif name == "reproduce":
        few, smaller = SMALLER[words[1]]
        words += ("--networks", *few) if few and "--networks" not in words else ()
        words += ("--data", "cifar10.npz") if few == DEPTHS and "full" in words and "--data" not in words else ()
        words += ("--dry-run",) if "full" in words and "--dry-run" not in words else ()
        words += smaller if "full" not in words else ()
    elif name == "analyse":
        words += ["--images", "110", "--threads", "1"]
    return words


ALONE = ("networks", "recipes", "report", "runs", "watch", "weights")  # commands that say something without words
COMMANDS = {
    tuple(words): pytest.param(words, id=" ".join(words))
    for words in (case.values[0] for case in CASES)
    if len(words) > 1 or words[0] in ALONE
}
ELSEWHERE = ("serve", "demo")  # below, and in tests/cli/test_looking.py


@pytest.mark.parametrize("words", [case for words, case in COMMANDS.items() if words[0] not in ELSEWHERE])
def test_a_command(
    words: list[str], reader: Path, command: Command, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnetlab.analysis.loss_landscape.POINTS", 5)
    monkeypatch.setattr("resnetlab.analysis.loss_landscape.AT_MOST", 3)
    monkeypatch.setattr("resnetlab.experiments.overview.Expected.__call__", lambda self, entry: "a while")
    if words[0] == "train":
        shutil.rmtree("runs")
    typed = small(words)
    status = command(*typed)
    shown = capsys.readouterr()
    assert status == 0, (typed, shown.out[-500:], shown.err[-2000:])
    assert shown.out.strip()
    for option in ("--out", "--explain", "--sort-into"):
        for place in (typed[k + 1] for k, word in enumerate(typed) if word == option):
            assert (reader / place).exists(), place


def test_a_server_as_in_the_documents(reader: Path) -> None:
    """The first command of the page on serving, and the one that asks it."""
    child = processes.resnetlab("serve", "runs/photos", "--port", "0", "--threads", "1", folder=reader)
    processes.wait_until(lambda: "curl" in child.text(), child)
    found = re.search(r"curl -F file=@cat.jpg (\S+)", child.text())
    assert found is not None
    with (reader / "cat.jpg").open("rb") as file:
        answer = httpx.post(found[1], files={"file": file}).json()
    assert {each["class"] for each in answer["predictions"][0]["classes"]} == {"ant", "bee", "cow"}
    child.send(signal.SIGINT)
    assert child.wait() == 0
    assert "The server has ended" in child.text()


BLOCKS = [
    pytest.param(block, id=f"{path.name} {number}")
    for path in WHOLE
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python(block: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names of blocks before it: a network, a model, images."""
    few: dict[str, Any] = {"iterations": 2, "batch_size": 4, "image_size": 64, "threads": 1, "progress": False}
    train = resnetlab.train

    def small_training(data: Path | str, *, epochs: int = 0, **options: Any) -> resnetlab.Run:
        return train(data, **options | few)

    untrained = partial(torchvision.models.resnet50, weights=None)
    monkeypatch.setattr(resnetlab, "train", small_training)
    monkeypatch.setattr(torchvision.models, "resnet50", lambda weights: untrained())
    if "resnetlab.train(" in block:
        shutil.rmtree("runs")
    sizes = {f"images_{side}": torch.rand(1, 3, side, side) for side in (224, 256, 384)}
    known = {"network": resnetlab.build("resnet18").eval(), "images": torch.rand(2, 3, 256, 256)}
    packages = {"resnetlab": resnetlab, "torch": torch, "torchvision": torchvision, "PIL": PIL}
    exec(compile(block, "document", "exec"), packages | known | sizes)
