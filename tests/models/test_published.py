"""Published weights: by name, from a local server, from the cache, and what goes wrong."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from servers import Ranges
from torchvision.models import get_model, get_model_weights

from resnetlab.errors import ResnetlabError
from resnetlab.models import published as module
from resnetlab.models.importing import read_model
from resnetlab.models.modelfile import load
from resnetlab.models.published import PUBLISHED, Published, located, of_digest, published
from resnetlab.networks.architecture import parse

Command = Callable[..., int]


@pytest.mark.slow
def test_the_table_is_torchvisions() -> None:
    """Every file, address, accuracy and size of our networks in torchvision's own table."""
    theirs = {}
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg16_bn"):
        found = [each for each in get_model_weights(name) if "FEATURES" not in each.name]
        for each in found:
            suffix = each.name.removeprefix("IMAGENET1K_").lower()
            theirs[f"torchvision/{name}" + f".{suffix}" * (len(found) > 1)] = each
    assert {each.name for each in PUBLISHED} == set(theirs)
    for each in PUBLISHED:
        weights = theirs[each.name]
        assert each.url == weights.url
        metrics = weights.meta["_metrics"]["ImageNet-1K"]
        assert (each.top1, each.top5) == (metrics["acc@1"], metrics["acc@5"])
        assert each.megabytes == pytest.approx(weights.meta["_file_size"], abs=1)
        row, parameters = parse(each.network), weights.meta["num_params"]
        assert sum(p.numel() for p in get_model(row.name).parameters()) == parameters
        assert row.version == "v1.5" or row.block != "bottleneck"
        assert each.digest == "sha256:" + weights.url[-12:-4]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet50", "resnet50-11ad3fa6.pth"),
        ("ResNet50", "resnet50-11ad3fa6.pth"),
        ("torchvision/resnet50", "resnet50-11ad3fa6.pth"),
        ("torchvision/resnet50.v1", "resnet50-0676ba61.pth"),
        ("resnet18", "resnet18-f37072fd.pth"),
        ("vgg16_bn", "vgg16_bn-6c64b313.pth"),
    ],
)
def test_names(name: str, file: str) -> None:
    found = published(name)
    assert found is not None
    assert found.file == file


def test_what_is_no_name() -> None:
    assert published("resnet19") is None
    assert located("resnet19") == Path("resnet19")  # a path that does not exist, which its reader refuses
    with pytest.raises(ResnetlabError, match=r"no published weights 'torchvision/resnet51': did you mean resnet5"):
        located("torchvision/resnet51")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> Published:
    """A published file on the local server, ResNet-18 with 1,000 classes, and an empty cache."""
    torch.manual_seed(0)
    folder = tmp_path / "theirs"
    folder.mkdir()
    torch.save(torchvision.models.resnet18().state_dict(), folder / "new.pth")
    digest = sha256((folder / "new.pth").read_bytes()).hexdigest()
    file = f"resnet18-{digest[:8]}.pth"
    (folder / "new.pth").rename(folder / file)
    known = replace(PUBLISHED[0], file=file)
    monkeypatch.setattr(module, "PUBLISHED", (known, *PUBLISHED[1:]))
    monkeypatch.setattr(module, "TORCHVISION", f"{server}theirs/")
    for name in (module.HOME, "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return known


def test_downloaded_once_and_then_found_without_a_network(small: Published, tmp_path: Path) -> None:
    path = located("resnet18")
    assert path == tmp_path / module.HOME / "weights" / small.file
    assert [each.name for each in path.parent.iterdir()] == [small.file]
    (tmp_path / "theirs" / small.file).unlink()
    assert located("torchvision/resnet18") == path
    assert Ranges.seen == [None]
    model = read_model("resnet18")
    assert model.network.architecture == parse("resnet18")
    said = model.provenance["imported"]
    assert said["published"] == {
        "url": small.url,
        "name": "torchvision/resnet18",
        "licence": "BSD-3-Clause",
        "top1": 69.758,
        "top5": 89.078,
    }
    found = of_digest(said["sha256"])
    assert found == small


def test_what_is_put_there_by_hand_or_by_pytorch_is_found(small: Published, tmp_path: Path) -> None:
    theirs = tmp_path / "TORCH_HOME/hub/checkpoints"
    theirs.mkdir(parents=True)
    (tmp_path / "theirs" / small.file).rename(theirs / small.file)
    assert located("resnet18") == theirs / small.file
    (theirs / small.file).rename(tmp_path / "kept")
    small.place.parent.mkdir(parents=True)
    (tmp_path / "kept").rename(small.place)
    assert located("resnet18") == small.place
    assert Ranges.seen == []


def test_a_download_that_breaks_off_goes_on(small: Published) -> None:
    Ranges.cut = 1_000_000
    with pytest.raises(ResnetlabError, match=r"the connection ended [\d,]+ bytes early; what came is kept"):
        located("resnet18")
    assert small.place.with_name(f"{small.file}.part").stat().st_size == 1_000_000
    Ranges.cut = None
    assert located("resnet18").is_file()
    assert Ranges.seen == [None, "bytes=1000000-"]
    assert [each.name for each in small.place.parent.iterdir()] == [small.file]


def test_damaged_files_are_never_used(small: Published, tmp_path: Path) -> None:
    part = small.place.with_name(f"{small.file}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of another file")
    with pytest.raises(ResnetlabError, match=r"part is damaged: its SHA256 is [0-9a-f]{8}, expected"):
        located("resnet18")
    assert not part.exists()
    small.place.write_bytes(b"damaged")
    with pytest.raises(ResnetlabError, match=r"is damaged: its SHA256 is .*; delete it and try again"):
        located("resnet18")
    small.place.unlink()
    (tmp_path / "theirs" / small.file).write_bytes(b"another file")
    with pytest.raises(ResnetlabError, match="is damaged"):
        located("resnet18")
    assert not list(small.place.parent.iterdir())


def test_neither_here_nor_there(small: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs" / small.file).unlink()
    with pytest.raises(
        ResnetlabError, match=r"cannot download .*\(Not Found\).*put the file into .*weights yourself"
    ):
        located("resnet18")
    monkeypatch.setattr(module, "TORCHVISION", "http://127.0.0.1:9/")
    with pytest.raises(ResnetlabError, match="cannot download http://127.0.0.1:9/resnet18-"):
        located("resnet18")


def test_the_hub_without_a_network(small: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ResnetlabError, match=r"cannot download timm/resnet50.a1_in1k from Hugging Face's hub \("):
        located("timm/resnet50.a1_in1k")


def photos(folder: Path) -> None:
    random = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 180)):
        (folder / label).mkdir(parents=True)
        for k in range(12):
            pixels = base + random.integers(0, 60, (48, 64, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{k}.png")


def test_the_line_that_everyone_types(small: Published, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """`train photos/`: ResNet-18 from published weights, fine-tuned; then what people do with it."""
    photos(Path("photos"))
    few = ("--iterations", "2", "--batch-size", "4", "--image-size", "32", "--threads", "1", "--out", "run")
    assert command("train", "photos", *few) == 0
    said = capsys.readouterr().out
    assert "Network and weights are not given: resnet18's published weights" in said
    assert "ResNet-18 B, recipe finetune" in said
    assert "its last layer is new, because the classes differ" in said
    assert said.splitlines()[-1] == "Next: resnetlab predict run IMAGES, or resnetlab export run --to onnx"
    model = load(Path("run"))
    assert model.classes == ("dark", "light")
    assert model.provenance["start"]["file"] == small.file
    assert command("predict", "run", "photos/dark/0.png") == 0
    assert command("export", "run", "--to", "torchvision") == 0


def test_without_weights_it_says_the_ways_on(
    small: Published, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(Path("photos"))
    (tmp_path / "theirs" / small.file).unlink()
    assert command("train", "photos", "--iterations", "2") == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "error: cannot download" in shown
    assert f"put the file into {small.place.parent} yourself" in shown
    assert "Or train without them: --from scratch and --network resnet18" in shown
    assert not Path("runs").exists()
    few = ("--iterations", "1", "--batch-size", "4", "--image-size", "32", "--threads", "1", "--out", "run")
    assert command("train", "photos", "--from", "scratch", "--network", "ResNet-50-narrow16", *few) == 0
    assert "ResNet-50 v1.5" in capsys.readouterr().out
    assert load(Path("run")).network.architecture.version == "v1.5"
    assert command("train", "photos", "--data", "photos") == 2
    assert "the data is given twice" in capsys.readouterr().err


def test_names_are_models_in_every_command(
    small: Published, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(Path("photos"))
    assert command("predict", "resnet18", "photos/dark/0.png") == 0
    assert command("embed", "resnet18", "photos/dark", "--out", "features.npz") == 0
    assert command("export", "resnet18", "--to", "timm") == 0
    assert Path("resnet18-" + small.digest[-8:] + "-timm").is_dir()
    assert command("import", "resnet18") == 0
    assert command("evaluate", "resnet18", "--data", "photos") == 2  # other classes
    assert Ranges.seen == [None]
    capsys.readouterr()
    assert command("weights") == 0
    text = capsys.readouterr().out
    assert "resnet50.v2" in text
    assert "80.86" in text
    assert command("weights", "resnet18") == 0
    assert str(small.place) in capsys.readouterr().out
    assert command("weights", "resnet-51") == 2
    assert "there are no published weights 'resnet-51': did you mean" in capsys.readouterr().err
