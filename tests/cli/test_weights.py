"""Import, export and predict as a user types them: what is printed and written, and how mistakes are refused."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torchvision
from PIL import Image

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.models.importing import import_weights
from resnetlab.models.modelfile import Model, load, save
from resnetlab.networks.resnet import build

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("harm"),)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return make_theirs(tmp_path)


def make_pictures(folder: Path) -> Path:
    """Five pictures of random colours in two folders."""
    random = np.random.default_rng(0)
    for k in range(5):
        path = folder / "pictures" / f"kind{k % 2}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((60, 50)).save(path)
    return folder / "pictures"


def make_theirs(folder: Path) -> Path:
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), folder / "theirs.pth")
    return folder / "theirs.pth"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, good and bad, that no mistake may change."""
    folder = tmp_path_factory.mktemp("prepared")
    theirs = make_theirs(folder)
    make_pictures(folder)
    (folder / "empty").mkdir()
    (folder / "text.pth").write_text("hello")
    torch.save({"conv1.weight": Evil()}, folder / "evil.pth")
    (folder / "cut.pth").write_bytes(theirs.read_bytes()[:100_000])
    save(import_weights(theirs).model, folder / "t.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "t.safetensors").read_bytes()[:100_000])
    about = Preprocessing.by_channel(Fit.square(8), (0.5,), (1.0,))
    grey = Preprocessing(replace(about.fit, mode="L"), about.mean, about.std)
    network = build("cifar_plain8", in_channels=1)
    save(Model(network, grey, tuple("0123456789"), {}), folder / "ours.safetensors")
    return folder


def test_peers_weights_make_their_known_errors(command: Command, capsys: Captured, shared: Path) -> None:
    peer = str(shared / "peer-weights" / "resnet56-4bfd9763.th")
    assert command("import", peer, "--out", "m.safetensors") == 0
    said = capsys.readouterr().out
    for part in (": cifar_resnet56 (", "shortcut A, zero channels both)", "10 classes", "names of akamaster"):
        assert part in said
    assert command("evaluate", "m.safetensors", "--data", str(shared / "cifar10-lossless-5k.npz")) == 0
    assert "(74 errors of 1,000 test images; 95 % interval 5.9 to 9.2 %, Wilson)" in capsys.readouterr().out


def test_from_torchvision_and_back(command: Command, capsys: Captured, theirs: Path, pictures: Path) -> None:
    Path("names.txt").write_text("cat\ndog\ncow\n")
    assert command("import", "theirs.pth", "--classes", "names.txt", "--resize", "64", "--crop", "48") == 0
    assert "resnet18 (shortcut B), 3 classes, names of torchvision" in capsys.readouterr().out
    model = load("theirs.safetensors")
    assert model.classes == ("cat", "dog", "cow")
    assert (model.preprocessing.fit.resize, model.preprocessing.fit.crop) == ((64, 64), (48, 48))

    assert command("export", "theirs.safetensors", "--to", "torchvision", "--out", "back.pth") == 0
    assert "torchvision.models.resnet18(num_classes=3)" in capsys.readouterr().out
    back = torch.load("back.pth", weights_only=True)
    for key, value in torch.load(theirs, weights_only=True).items():
        assert torch.equal(back[key], value)

    assert command("export", "theirs.safetensors", "--to", "timm") == 0
    assert 'timm.create_model("local-dir:theirs-timm", pretrained=True)' in capsys.readouterr().out
    timm.create_model("local-dir:theirs-timm", pretrained=True)

    assert command("export", "theirs.safetensors", "--to", "onnx") == 0
    assert "uint8 (batch, 48, 48, 3)" in capsys.readouterr().out
    onnxruntime.InferenceSession("theirs.onnx", providers=["CPUExecutionProvider"])

    assert command("export", "theirs.safetensors", "--to", "onnx", "--int8", str(pictures)) == 0
    assert "of 2 other images" in capsys.readouterr().out
    answers = []
    for model_path, about in (
        ("theirs.safetensors", "torch, float32"),
        ("theirs.onnx", "onnxruntime, float32"),
        ("theirs-int8.onnx", "onnxruntime, int8"),
    ):
        precision = () if "int8" in model_path else ("--precision", "float32")
        assert command("predict", model_path, str(pictures), "--top", "2", *precision) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line.split(": ")[0] for line in said[:5]] == [str(p) for p in sorted(pictures.rglob("*.png"))]
        assert about in said[5]
        assert "5 images in" in said[5]
        answers.append([line.split()[1] for line in said[:5]])
    assert answers[0] == answers[1]


def test_csv(command: Command, capsys: Captured, theirs: Path, pictures: Path) -> None:
    assert command("import", "theirs.pth") == 0
    assert "classes: numbered" in capsys.readouterr().out
    assert command("predict", "theirs.safetensors", str(pictures), "--out", "out/p.csv", "--top", "3") == 0
    assert "out/p.csv" in capsys.readouterr().out
    with Path("out/p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]) for row in rows] == sorted(pictures.rglob("*.png"))
    for row in rows:
        assert sum(float(row[f"probability_{k}"]) for k in (1, 2, 3)) == pytest.approx(1, abs=1e-5)
        assert {row[f"class_{k}"] for k in (1, 2, 3)} == {"0", "1", "2"}


def test_imagenet_classes_have_their_english_names(command: Command, capsys: Captured, pictures: Path) -> None:
    torch.save(build("resnet18").state_dict(), "w.pth")
    assert command("import", "w.pth") == 0
    said = capsys.readouterr().out
    assert "classes: ImageNet's, because there are 1000" in said
    assert "shorter side to 256, centre crop of 224" in said
    assert command("predict", "w.safetensors", str(pictures), "--out", "p.csv", "--top", "1") == 0
    with Path("p.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["class_1"].startswith("n0")
    assert row["name_1"][0].isalpha()


def test_files_that_are_no_images(command: Command, capsys: Captured, theirs: Path, pictures: Path) -> None:
    assert command("import", "theirs.pth") == 0
    (pictures / "broken.png").write_bytes(b"no image")
    capsys.readouterr()
    asked = (str(pictures), "missing.jpg")
    assert command("predict", "theirs.safetensors", *asked) == 2
    shown = capsys.readouterr()
    assert shown.out.count("kind") == 5
    assert "broken.png is not a readable image" in shown.err
    assert "missing.jpg does not exist" in shown.err
    assert "2 of 7 files could not be read" in shown.err
    assert command("predict", "theirs.safetensors", *asked, "--out", "p.csv") == 2
    assert len(Path("p.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("import", "none.pth"), "none.pth does not exist"),
        (("import", "evil.pth"), "evil.pth is refused: opening it would run code ("),
        (("import", "cut.pth"), "cut.pth is cut short"),
        (("import", "cut.safetensors", "--out", "m.safetensors"), "cut.safetensors is cut short"),
        (("import", "text.pth"), "text.pth is no file of weights"),
        (("import", "theirs.pth", "--as", "resnet34"), "missing: layer1.2.conv1.weight"),
        (("import", "theirs.pth", "--as", "resnet19"), "did you mean resnet18"),
        (("import", "theirs.pth", "--classes", "cifar10"), "10 names of classes for 3 outputs"),
        (("import", "theirs.pth", "--out", "m.pth"), "model files end in .safetensors"),
        (("import", "theirs.pth", "--mean", "a", "b"), "expected numbers or a file"),
        (("import", "theirs.pth", "--std", "0", "1", "1"), "expected numbers for pixels from 0 to 1"),
        (("import", "theirs.pth", "--crop", "0"), "at least 1"),
        (("import", "theirs.pth", "--mean", "0.5", "0.5", "0.5"), "say --std too"),
        (("import", "theirs.pth", "--std", "1", "--mean", "123", "116", "103"), "mean 123 116 103: expected numbers"),
        (("import", "theirs.pth", "--std", "1", "1"), "std 1 1: expected 3 numbers"),
        (("import", "ours.safetensors", "--out", "again.safetensors"), "is a model file of resnetlab already"),
        (("import", "ours.safetensors"), "would replace the file it is made from"),
        (("export", "text.pth", "--to", "onnx"), "text.pth is no file of weights"),
        (("export", "ours.safetensors", "--to", "timm", "--int8", "."), "--int8 is for --to onnx"),
        (("export", "ours.safetensors", "--to", "timm"), "timm has no network that computes the same"),
        (("export", "ours.safetensors", "--to", "onnx", "--int8", "empty"), "has no images"),
        (("predict", "ours.safetensors", "empty"), "has no images"),
        (("predict", "ours.safetensors", "pictures", "--top", "0"), "at least 1"),
        (("predict", "ours.safetensors", "pictures", "--device", "cuda"), "use --device cpu"),
        (("predict", "ours.safetensors", "pictures", "--out", "theirs.pth"), "ends in .csv"),
        (("predict", "none.onnx", "pictures"), "none.onnx does not exist"),
        (("predict", "empty", "pictures"), "neither a finished run nor a folder with model.safetensors"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(
    command: Command,
    prepared: Path,
    arguments: tuple[str, ...],
    hint: str,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(prepared)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert command(*arguments) == 2
    shown = capsys.readouterr()
    assert hint in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_run_folder_is_exported_beside_its_model(command: Command, capsys: Captured) -> None:
    assert command("train", "--data", "digits", "--network", "cifar_plain8", "--iterations", "1", "--out", "r") == 0
    assert command("export", "r", "--to", "onnx") == 0
    assert "r/model.onnx" in capsys.readouterr().out
    assert json.loads(Path("r/config.json").read_text())["network"]["name"] == "cifar_plain8"


@pytest.mark.slow
def test_other_peoples_weights_are_a_model_everywhere(
    command: Command, capsys: Captured, theirs: Path, pictures: Path
) -> None:
    for path in sorted(pictures.rglob("*.png")):  # two classes of their three, by number
        (pictures / str(int(path.parent.name[-1])) / path.name).parent.mkdir(exist_ok=True)
        path.rename(pictures / path.parent.name[-1] / path.name)
    for empty in ("kind0", "kind1"):
        (pictures / empty).rmdir()
    small = ("--batch-size", "2")
    assert command("evaluate", "theirs.pth", "--data", "pictures", *small) == 0
    assert "of 5 images" in capsys.readouterr().out
    assert command("predict", "theirs.pth", "pictures", "--out", "p.csv", *small) == 0
    assert command("embed", "theirs.pth", "pictures", "--out", "f.npz", *small) == 0
    assert np.load("f.npz")["features"].shape == (5, 512)
    assert command("export", "theirs.pth", "--to", "timm", "--out", "timm") == 0
    assert Path("timm/model.safetensors").exists()
    words = ("--from", "theirs.pth", "--image-size", "32", "--iterations", "1", "--set", "batch_size=2", "--out", "r")
    assert command("train", "--data", "pictures", *words) == 0
    assert load("r").classes == ("0", "1")
