"""What is written for torchvision and timm, loaded by torchvision and timm."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.models import exporting
from resnetlab.models.exporting import export_timm, export_torchvision
from resnetlab.models.importing import Hints, import_weights
from resnetlab.models.modelfile import Model, load, save
from resnetlab.networks.resnet import build

Perturb = Callable[[nn.Module], nn.Module]
NETWORKS = [  # tests/networks has the smallest; the others have more blocks
    "resnet50",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "resnet34", "resnet101", "resnet152")),
]
RESIZE_AND_CROP = [
    (resize, crop)
    for crop in (32, 224, 225, 299)
    for resize in (crop, crop + 1, crop + 7, crop * 256 // 224, crop * 2)
]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def made(name: str, fit: Fit | None = None, **options: object) -> Model:
    network = build(name, **options).eval()
    row = network.architecture
    preprocessing = Preprocessing.by_channel(
        fit or Fit.square(256, 224), MEAN[: row.in_channels], STD[: row.in_channels]
    )
    return Model(network, preprocessing, tuple(f"kind {k}" for k in range(row.num_classes)), {})


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvision_and_back_is_bit_identical(perturb: Perturb, tmp_path: Path, name: str) -> None:
    theirs = perturb(torchvision.models.get_model(name))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    save(import_weights(tmp_path / "theirs.pth").model, tmp_path / "ours.safetensors")
    model = load(tmp_path / "ours.safetensors")
    for file in ("back.pth", "back.safetensors"):
        export_torchvision(model, tmp_path / file)
        path = tmp_path / file
        back = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        if path.suffix == ".pth":
            assert list(back) == list(theirs.state_dict())
        for key, value in theirs.state_dict().items():
            assert back[key].dtype == value.dtype
            assert torch.equal(back[key], value), key
    again = torchvision.models.get_model(name)
    again.load_state_dict(back, strict=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_timm_loads_the_folder(perturb: Perturb, tmp_path: Path, name: str) -> None:
    row = build(name).architecture
    model = made(name, Fit.square(80, 64), num_classes=7, version="v1.5" if row.block == "bottleneck" else "v1")
    perturb(model.network)
    export_timm(model, tmp_path / "folder")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    assert theirs.pretrained_cfg["num_classes"] == 7
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), model.network(images))
    back = import_weights(tmp_path / "folder").model
    assert back.classes == model.classes
    assert back.preprocessing.fit == model.preprocessing.fit
    assert back.network.architecture == model.network.architecture
    for key, value in model.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[key], value)


def test_timm_prepares_images_as_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_write_weights", lambda model, path: path.parent.mkdir(exist_ok=True))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 411, 3), dtype=np.uint8))
    network = made("resnet18", num_classes=2)
    for resize, crop in RESIZE_AND_CROP:
        fit = Fit.square(resize, crop, "bicubic")
        model = replace(network, preprocessing=replace(network.preprocessing, fit=fit))
        export_timm(model, tmp_path)
        with torch.device("meta"):
            theirs = timm.create_model(f"local-dir:{tmp_path}")
        config = timm.data.resolve_data_config(model=theirs)
        expected = timm.data.create_transform(**config)(image)
        found = model.preprocessing(torch.from_numpy(model.preprocessing.fit(image))[None])[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_grey_images(tmp_path: Path) -> None:
    model = made("resnet18", Fit((40, 40), (32, 32), mode="L"), in_channels=1, num_classes=3)
    export_timm(model, tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), model.network(images))
    with pytest.raises(ResnetlabError, match="take 3 channels"):
        export_torchvision(model, tmp_path / "grey.pth")


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("plain18", {}, "plain networks"),
        ("cifar_resnet20", {}, "networks for CIFAR"),
        ("resnet18", {"shortcut": "A"}, "shortcut of option A"),
        ("resnet34", {"shortcut": "C"}, "shortcut of option C"),
        ("resnet50", {"version": "v1"}, r"first 1x1 \(version v1\)"),
    ],
)
@pytest.mark.parametrize("export", [export_torchvision, export_timm])
def test_networks_that_they_have_not(tmp_path: Path, export, name: str, options: dict[str, str], hint: str) -> None:
    with pytest.raises(ResnetlabError, match=f"it has no .*{hint}.*export to onnx"):
        export(made(name, narrow=8, **options), tmp_path / "out.safetensors")
    assert not any(tmp_path.iterdir())


def test_preprocessing_that_timm_has_not(tmp_path: Path) -> None:
    oblong = made("resnet18", Fit((64, 80), (32, 64)))
    with pytest.raises(ResnetlabError, match="not square"):
        export_timm(oblong, tmp_path / "a")
    mean_image = Model(oblong.network, Preprocessing.of_mean_image(torch.rand(3, 64, 64)), oblong.classes, {})
    with pytest.raises(ResnetlabError, match="subtracts a mean image"):
        export_timm(mean_image, tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResnetlabError, match="is a file or holds other files"):
        export_timm(made("resnet18"), tmp_path / "file")
    with pytest.raises(ResnetlabError, match=r"ends in \.safetensors or \.pth"):
        export_torchvision(made("resnet18"), tmp_path / "model.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_imported_timm_model_with_asked_classes(tmp_path: Path) -> None:
    export_timm(made("resnet18", num_classes=2), tmp_path)
    assert import_weights(tmp_path, Hints(classes=("no", "yes"))).model.classes == ("no", "yes")
