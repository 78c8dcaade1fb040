"""VGG-16 as detection uses it, against torchvision's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from resnetlab.detection.model import start_detector
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import DetectorOptions
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import parse
from resnetlab.networks.resnet import build
from resnetlab.networks.vgg import VGG

NAMES = ("vgg16", "vgg16_bn")


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours = VGG(parse(name)).state_dict()
        theirs = getattr(torchvision.models, name)(weights=None, init_weights=False).state_dict()
    last = {key for key in theirs if key.startswith("classifier.6.")}
    assert len(last) == 2
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items() if key not in last
    }
    assert list(ours) == [key for key in theirs if key not in last]


@pytest.mark.parametrize("name", NAMES)
def test_narrow_weights_of_torchvisions_layers_compute_the_same(name: str) -> None:
    """Of torchvision's own function for the layers, with the widths divided by 16."""
    kinds = [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"]
    layers = torchvision.models.vgg.make_layers(kinds, batch_norm=name == "vgg16_bn")
    ours = VGG(parse(f"{name}-narrow16")).eval()
    missing, unexpected = ours.features.load_state_dict(layers.state_dict())
    assert not missing
    assert not unexpected
    images = torch.randn(2, 3, 70, 90)
    with torch.no_grad():
        assert torch.equal(ours(images), layers[:-1].eval()(images))  # without the last pooling
    assert ours(images).shape == (2, 32, 4, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_weights_load_and_compute_the_same(name: str, tmp_path: Path) -> None:
    """All 138 million of them, in a detector; on images of 224 pixels the head is torchvision's classifier."""
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / f"{name}.pth")
    network = FasterRCNN(replace(parse(name), num_classes=3), DetectorOptions()).eval()
    started = start_detector(tmp_path / f"{name}.pth", network, ("a", "b", "c"))
    assert started.message.endswith("a VGG-16 for classification")
    assert started.preprocessing.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        shared = network.body.shared(images)
        features = network.body.head(nn.functional.max_pool2d(shared, 2))
        assert torch.allclose(theirs.classifier[6](features), theirs(images), rtol=1e-4, atol=1e-5)


def test_it_is_for_detection_alone() -> None:
    with pytest.raises(ResnetlabError, match="vgg16 is no ResNet; it is here as the baseline of detection"):
        build("vgg16")
    row = parse("vgg16_bn-narrow2")
    assert (row.label, row.depth, row.reduction) == ("VGG-16 with batch norm", 16, 32)
    assert str(row) == "vgg16_bn-narrow2"


def test_signals_keep_their_size_through_a_new_network() -> None:
    """He et al. 2015: the second moment of what goes into each layer stays about the same."""
    network, seen = VGG(parse("vgg16-narrow4")).eval(), list[float]()
    for module in network.features:
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, y: seen.append(float(y.detach().square().mean())))
    network(torch.randn(1, 3, 64, 64))
    assert len(seen) == 13
    assert max(seen) < 30 * min(seen)
