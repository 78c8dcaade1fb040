"""What every detector can do, whatever network it is built on."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from resnetlab.data.boxes import Boxes
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.detection.cost import cost
from resnetlab.detection.images import Images
from resnetlab.detection.model import load_detector, save_detector
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import PRESETS, DetectorOptions
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import parse
from resnetlab.networks.measure import parameter_count

Make = Callable[..., FasterRCNN]
Show = Callable[..., Images]
FAST = ("resnet18", "resnet50-v1.5", "resnet34-A", "vgg16", "vgg16_bn")
SLOW = ("resnet34", "resnet50", "resnet101", "resnet101-v1.5", "resnet152", "resnet152-v1.5", "plain18", "plain34")
SLOW += ("resnet50-A", "resnet50-C", "resnet18-A-padboth", "resnet18-C-ceilpool")
OBJECTS = [Boxes.of(torch.tensor([[10, 10, 50, 40], [5, 30, 60, 60]]), [0, 1]), Boxes.of([], [])]
SIZES = [(64, 80)] * 2
USUAL = Preprocessing.by_channel(Fit.uncropped(64, 100), IMAGENET_MEAN, IMAGENET_STD)


each = pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])


@pytest.fixture(scope="module")
def made(make: Make) -> Callable[[str], FasterRCNN]:
    """A narrow detector on a network, always the same one, not to be changed; those of basic blocks pool to 7."""

    @cache
    def made(name: str) -> FasterRCNN:
        narrow = 16 if name.startswith("vgg") else 8
        return make(f"{name}-narrow{narrow}", pool_size=7 if parse(name).block == "basic" else 14)

    return made


@each
def test_a_training_step_reaches_every_parameter(made: Callable[[str], FasterRCNN], show: Show, name: str) -> None:
    network = copy.deepcopy(made(name)).train()
    images = show(SIZES, OBJECTS)
    before = torch.random.get_rng_state()
    losses = network(images)
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's random numbers change
    assert (losses > 0).all()
    assert losses.isfinite().all()
    losses.sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@each
def test_it_detects_and_its_file_and_its_fused_copy_do_the_same(
    made: Callable[[str], FasterRCNN], show: Show, alike: Callable[..., None], name: str, tmp_path: Path
) -> None:
    network, images = made(name), show(SIZES)
    found = network(images)
    for each in found:
        assert len(each) > 0
        assert ((each.scores > 0.05) & (each.scores <= 1)).all()
        assert torch.equal(each.scores, each.scores.sort(descending=True).values)
        assert (each.corners[:, :2] < each.corners[:, 2:]).all()
        assert (each.corners >= 0).all()
        assert (each.corners <= torch.tensor([80, 64, 80, 64])).all()
        assert set(each.classes.tolist()) <= {0, 1, 2}
    save_detector(network, USUAL, ("a", "b", "c"), {"note": "x"}, tmp_path / "model.safetensors")
    for place in (tmp_path, tmp_path / "model.safetensors"):
        model = load_detector(place)
        assert (model.classes, model.provenance, model.options) == (("a", "b", "c"), {"note": "x"}, network.options)
        assert model.preprocessing.fit == USUAL.fit
        assert model.network.architecture == network.architecture
        assert not model.network.training
    for one, other in zip(model.network(images), found, strict=True):
        alike(one, other, 0.0, 0.0)
    model.network.fuse()
    for one, other in zip(model.network(images), found, strict=True):
        alike(one, other, 5e-3, 0.5)


@each
def test_its_cost_is_that_of_its_layers(made: Callable[[str], FasterRCNN], name: str) -> None:
    network = made(name)
    found = cost(network.architecture, network.options, 64, 80)
    assert found.parameters == parameter_count(network)
    assert found.head % network.options.test_proposals == 0
    assert found.multiply_adds == found.shared + found.head


def test_the_costs_in_the_document() -> None:
    options = DetectorOptions(**PRESETS["small"])
    vgg, residual = (
        cost(replace(parse(name), num_classes=3), options, 480, 640)
        for name in ("vgg16_bn-narrow4", "resnet18-narrow4")
    )
    said = " ".join((Path(__file__).parents[2] / "docs" / "detection.md").read_text().split())
    assert f"{vgg.multiply_adds / 1e9:.2f} and {residual.multiply_adds / 1e9:.2f} billion multiply-adds" in said
    assert f"({residual.parameters / 1e6:.2f} million parameters)" in said


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_the_shared_map(made: Callable[[str], FasterRCNN], name: str) -> None:
    """ResNets round up, VGG-16 down; the anchors follow the map."""
    network = made(name)
    x = network.body.shared(torch.zeros(1, 3, 70, 88))
    rounded = (4, 5) if name.startswith("vgg") else (5, 6)
    assert x.shape[1:] == (network.body.channels, *rounded)
    anchors = network.proposals.grid(x).reshape(*rounded, 9, 4)
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    down, right = torch.meshgrid(*(16 * torch.arange(n) + 8.0 for n in rounded), indexing="ij")
    assert torch.equal(centres, torch.stack([right, down], -1)[:, :, None].expand_as(centres))


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_images_that_are_smaller_than_a_cell(made: Callable[[str], FasterRCNN], show: Show, name: str) -> None:
    """As of a very long picture after scaling."""
    network = made(name)
    for height, width in ((3, 96), (96, 1), (15, 15)):
        (found,) = network(show([(height, width)]))
        assert (found.corners <= torch.tensor([width, height, width, height])).all()
        boxes = [Boxes.of(torch.tensor([[0.0, 0.0, width, height]]), [1])]
        assert copy.deepcopy(network).train()(show([(height, width)] * 2, boxes * 2)).isfinite().all()


def test_a_head_of_either_size_sees_7_by_7() -> None:
    """conv5's stride is gone where regions are pooled to 7 x 7, in every shortcut too."""
    for text in ("resnet18-A-narrow16", "resnet18-C-narrow16", "resnet50-narrow16", "plain18-narrow16"):
        for size in (7, 14):
            network = FasterRCNN(parse(text), DetectorOptions(pool_size=size))
            last = network.trunk.get_submodule("layer4")
            x = torch.zeros(1, network.body.channels, size, size)
            assert last(x).shape[2:] == (7, 7)


def test_global_context_is_the_whole_image_beside_each_region(make: Make, show: Show) -> None:
    network, images = make("resnet18-narrow8", context=True), show(SIZES, OBJECTS)
    seen = list[torch.Tensor]()
    network.regions.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    features = network.body.features
    assert seen[0].shape == (80, 2 * features)
    assert torch.equal(seen[0][:40, features:], seen[0][:1, features:].expand(40, -1))
    assert not torch.equal(seen[0][0, features:], seen[0][40, features:])
    x = network.body.shared(images.pixels)
    whole = network.described(x, [torch.tensor([[0.0, 0.0, 80.0, 64.0]])] * 2, images.sizes)
    assert torch.allclose(whole[:, :features], whole[:, features:], atol=1e-5)
    network.train()(images).sum().backward()
    assert network.regions.cls_score.weight.grad[:, features:].any()


def test_networks_for_small_images_are_refused() -> None:
    with pytest.raises(ResnetlabError, match="cifar_resnet20 is for small images; for detection take e.g. resnet18"):
        FasterRCNN(parse("cifar_resnet20"), DetectorOptions())
