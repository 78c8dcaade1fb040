"""One function reads whatever holds a network: ours, and other people's."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import resnetlab
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.models.exporting import export_timm
from resnetlab.models.importing import read_model
from resnetlab.models.modelfile import Model, save
from resnetlab.models.starting import architecture_of
from resnetlab.networks.resnet import build


def made(name: str = "resnet18-narrow8") -> Model:
    network = build(name, num_classes=3).eval()
    fit = Fit.square(40, 32)
    preprocessing = Preprocessing.by_channel(fit, (0.5,) * 3, (0.2,) * 3)
    return Model(network, preprocessing, ("ant", "bee", "cat"), {})


def test_ours_and_other_peoples(tmp_path: Path) -> None:
    model, wide = made(), made("resnet18")
    run, hub = tmp_path / "run", tmp_path / "hub"
    run.mkdir()
    for name in ("config.json", "execution.json"):
        (run / name).write_text("{}")
    save(model, run / "model.safetensors")
    save(model, tmp_path / "ours.safetensors")
    save(model, tmp_path / "no suffix")
    export_timm(wide, hub)
    torch.save(wide.network.state_dict(), tmp_path / "theirs.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for path in (run, hub, *(tmp_path / name for name in ("ours.safetensors", "no suffix", "theirs.pth"))):
        found, expected = read_model(path), wide if path in (hub, tmp_path / "theirs.pth") else model
        weights = expected.network.state_dict()
        assert all(torch.equal(weights[key], value) for key, value in found.network.state_dict().items())
        engine = resnetlab.open_engine(path, precision="float32", threads=1)
        assert engine.classes == (("0", "1", "2") if path.suffix == ".pth" else model.classes)
        if path.suffix != ".pth":
            logits = expected.network(expected.preprocessing(torch.from_numpy(pixels))).detach().numpy()
            np.testing.assert_allclose(engine.run(pixels), logits, atol=1e-4 * np.abs(logits).max())
    assert read_model(str(run)).classes == model.classes


def test_what_holds_no_network(tmp_path: Path) -> None:
    def refused(path: Path, hint: str) -> None:
        with pytest.raises(ResnetlabError, match=hint) as caught:
            read_model(path)
        assert str(path) in str(caught.value)

    refused(tmp_path / "absent", "does not exist; expected a model file, a run folder, a file of weights, or a")
    refused(tmp_path, "is neither a finished run nor a folder with .*; name the file of weights")
    (tmp_path / "m.onnx").write_bytes(b"x")
    refused(tmp_path / "m.onnx", "is an ONNX file")
    (tmp_path / "a.txt").write_text("hello")
    refused(tmp_path / "a.txt", "is no file of weights")
    save(made(), tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-9])
    refused(tmp_path / "cut.safetensors", "is cut short or damaged")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "execution.json"):
        (run / name).write_text("{}")
    refused(run, "has not finished training; give the command that started it again")
    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), tmp_path / "r.pth")
    assert read_model(tmp_path / "r.pth").network.architecture.num_classes == 10
    torch.save(build("cifar_resnet20", shortcut="B").state_dict(), tmp_path / "c.pth")
    refused(tmp_path / "c.pth", "say `mean` and `std`.* `resnetlab import` takes it, and writes a model file")


def test_torchvisions_vgg_is_known_as_a_start(tmp_path: Path) -> None:
    weights = {"features.0.weight": torch.zeros(64, 3, 3, 3), "classifier.0.weight": torch.zeros(8, 8)}
    torch.save(weights, tmp_path / "vgg.pth")
    assert str(architecture_of(tmp_path / "vgg.pth")) == "vgg16"
    torch.save(weights | {"features.1.running_mean": torch.zeros(64)}, tmp_path / "bn.pth")
    assert str(architecture_of(tmp_path / "bn.pth")) == "vgg16_bn"
    torch.save({"a.weight": torch.zeros(8, 8)}, tmp_path / "other.pth")
    with pytest.raises(ResnetlabError, match="other.pth"):
        architecture_of(tmp_path / "other.pth")
