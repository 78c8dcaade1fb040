"""Detectors start from networks for classification, from detectors, and from torchvision's VGG-16."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.detection.model import load_detector, save_detector, start_detector
from resnetlab.detection.network import FasterRCNN, detector
from resnetlab.detection.options import DetectorOptions
from resnetlab.errors import ResnetlabError
from resnetlab.models.modelfile import Model, save
from resnetlab.models.starting import architecture_of
from resnetlab.networks.architecture import parse
from resnetlab.networks.resnet import build

Make = Callable[..., FasterRCNN]
Options = Callable[..., DetectorOptions]
NAME = "resnet18-narrow16"
USUAL = Preprocessing.by_channel(Fit.uncropped(64, 96), IMAGENET_MEAN, IMAGENET_STD)
LAST = ("regions.cls_score.", "regions.bbox_pred.")


def fresh(options: DetectorOptions, name: str = NAME, classes: int = 3) -> FasterRCNN:
    return detector(options, replace(parse(name), num_classes=classes), 7)


def saved(network: FasterRCNN, path: Path, classes: tuple[str, ...] = ("a", "b", "c")) -> Path:
    save_detector(network, USUAL, classes, {}, path)
    return path


def changed(before: dict[str, Tensor], network: FasterRCNN) -> set[str]:
    return {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}


def test_from_a_network_for_classification(options: Options, tmp_path: Path) -> None:
    """All of it but the last layer; the layers of detection are those that the seed gives."""
    classifier = build(NAME, num_classes=5)
    save(Model(classifier, USUAL, tuple("vwxyz"), {}), tmp_path / "c.safetensors")
    network = fresh(options())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    started = start_detector(tmp_path / "c.safetensors", network, ("a", "b", "c"))
    assert "a network for classification" in started.message
    weights = classifier.state_dict()
    for key, value in network.trunk.state_dict().items():
        assert torch.equal(value, weights[key])
    assert all(key.startswith("body.") for key in changed(before, network))
    assert torch.equal(started.preprocessing.mean, USUAL.mean)
    with pytest.raises(ResnetlabError, match="c.safetensors is resnet18, not resnet34"):
        start_detector(tmp_path / "c.safetensors", fresh(options(), "resnet34-narrow16"), ("a", "b", "c"))
    with pytest.raises(ResnetlabError, match="narrow 16 there, 8 here"):
        start_detector(tmp_path / "c.safetensors", fresh(options(), "resnet18-narrow8"), ("a", "b", "c"))


def test_a_mean_image_becomes_the_mean_of_each_channel(options: Options, tmp_path: Path) -> None:
    """Images of detection have sizes of their own, even where the shorter side is the mean image's."""
    mean = torch.rand(3, 64, 64)
    save(Model(build(NAME, num_classes=2), Preprocessing.of_mean_image(mean), ("v", "w"), {}), tmp_path / "c.st")
    found = start_detector(tmp_path / "c.st", fresh(options()), ("a", "b", "c")).preprocessing
    assert torch.allclose(found.mean, mean.mean((1, 2), keepdim=True))


def test_torchvisions_resnet(options: Options, tmp_path: Path) -> None:
    weights = torchvision.models.resnet18(num_classes=4).state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    network = fresh(options(), "resnet18")
    start_detector(tmp_path / "resnet18.pth", network, ("a", "b", "c"))
    for key, value in network.trunk.state_dict().items():
        assert torch.equal(value, weights[key])


@pytest.mark.parametrize("name", [NAME, "vgg16-narrow32", "vgg16_bn-narrow32"])
def test_from_a_detector(make: Make, options: Options, tmp_path: Path, name: str) -> None:
    """The last layers are kept if the class names are the same, in any order."""
    source = make(name)
    path = saved(source, tmp_path / "d.safetensors")
    network = fresh(options(), name)
    started = start_detector(path, network, ("a", "b", "c"))
    assert started.message.endswith("its last layers are kept, because the class names match")
    assert not changed(source.state_dict(), network)
    network = fresh(options(), name)
    assert start_detector(path, network, ("c", "a", "b")).message.endswith("are kept, because the class names match")
    old, new = source.state_dict(), network.state_dict()
    for part in ("weight", "bias"):
        assert torch.equal(new[f"regions.cls_score.{part}"], old[f"regions.cls_score.{part}"][[0, 3, 1, 2]])
        boxes = (*range(4), *range(12, 16), *range(4, 8), *range(8, 12))  # four rows a class, background first
        assert torch.equal(new[f"regions.bbox_pred.{part}"], old[f"regions.bbox_pred.{part}"][list(boxes)])
    for classes in (("b", "a", "d"), ("a", "b")):
        network = fresh(options(), name, len(classes))
        new = {key: value.clone() for key, value in network.state_dict().items()}
        started = start_detector(path, network, classes)
        assert started.message.endswith("its last layers are new, because the classes differ")
        for key, value in network.state_dict().items():
            assert torch.equal(value, new[key] if key.startswith(LAST) else source.state_dict()[key]), key
    assert architecture_of(path) == source.architecture


def test_options_may_differ_unless_weights_depend_on_them(make: Make, options: Options, tmp_path: Path) -> None:
    path = saved(make(NAME), tmp_path / "d.safetensors")
    start_detector(path, fresh(options(pooling="align", refine=True, border="drop")), ("a", "b", "c"))
    for name, value, said in (
        ("anchor_sizes", (16, 32), r"anchor_sizes=\(16, 32, 64\), and here it is \(16, 32\)"),
        ("anchor_ratios", (1.0, 2.0, 3.0), "anchor_ratios="),
        ("context", True, "context=False, and here it is True"),
        ("pool_size", 7, "pool_size=14, and here it is 7"),
    ):
        with pytest.raises(ResnetlabError, match=said):
            start_detector(path, fresh(options(**{name: value})), ("a", "b", "c"))


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_of_another_network(make: Make, options: Options, tmp_path: Path, name: str) -> None:
    ours = saved(make(NAME), tmp_path / "resnet.safetensors")
    save(Model(build(NAME, num_classes=2), USUAL, ("v", "w"), {}), tmp_path / "c.safetensors")
    vgg = saved(make(f"{name}-narrow32"), tmp_path / "vgg.safetensors")
    for path in (ours, tmp_path / "c.safetensors"):
        with pytest.raises(ResnetlabError, match=f"safetensors is resnet18, not {name}: stem 'imagenet' there"):
            start_detector(path, fresh(options(), f"{name}-narrow32"), ("a", "b", "c"))
    with pytest.raises(ResnetlabError, match=f"vgg.safetensors is {name}, not resnet18"):
        start_detector(vgg, fresh(options()), ("a", "b", "c"))
    other = {"vgg16": "vgg16_bn", "vgg16_bn": "vgg16"}[name]
    with pytest.raises(ResnetlabError, match=f"vgg.safetensors is {name}, not {other}"):
        start_detector(vgg, fresh(options(), f"{other}-narrow32"), ("a", "b", "c"))


def test_files_that_do_not_fit(options: Options, tmp_path: Path) -> None:
    network = fresh(options(), "vgg16-narrow32")
    weights = {key: value.clone() for key, value in network.trunk.state_dict().items()}
    before = {key: value.clone() for key, value in network.state_dict().items()}
    wide = weights | {"features.0.weight": torch.zeros(64, 3, 3, 3)}
    more = weights | {"features.30.weight": torch.zeros(2)}
    fewer = {key: value for key, value in weights.items() if key != "classifier.3.bias"}
    for tensors, key in ((wide, "features.0.weight"), (more, "features.30.weight"), (fewer, "classifier.3.bias")):
        save_file(tensors, tmp_path / "vgg.safetensors")
        with pytest.raises(ResnetlabError, match=f"vgg.safetensors: its weights do not fit the network, e.g. {key}"):
            start_detector(tmp_path / "vgg.safetensors", network, ("a", "b", "c"))
    assert not changed(before, network)
    for name in (NAME, "vgg16-narrow32"):
        with pytest.raises(ResnetlabError, match="nowhere does not exist"):
            start_detector(tmp_path / "nowhere", fresh(options(), name), ("a", "b", "c"))


def test_a_damaged_file(make: Make, tmp_path: Path) -> None:
    path = saved(make(NAME), tmp_path / "d.safetensors")
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data.replace(b"nms", b"nmz"), b"", data.replace(b"layer4", b"layer9")):
        path.write_bytes(damaged)
        with pytest.raises(ResnetlabError, match="d.safetensors"):
            load_detector(path)
