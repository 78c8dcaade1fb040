"""What every network of the table can do, with every option: a new row is in this test by being a row."""

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.models.exporting import export_timm, export_torchvision
from resnetlab.models.modelfile import Model, load, save
from resnetlab.models.onnxfile import export_onnx
from resnetlab.networks.architecture import NAMES, Architecture, parse
from resnetlab.networks.inference import FusedBlock, fold_batch_norm, fused, is_available
from resnetlab.networks.measure import multiply_adds, on_meta, parameter_count, stage_table
from resnetlab.networks.resnet import ResNet, build
from resnetlab.networks.statistics import set_exact_statistics

NARROW = 8
OPTIONS_OF = ("cifar_resnet20", "resnet18", "resnet50")  # of others, networks with options are left to -m slow
DEEPEST = 200  # layers from which a network is left to -m slow
IN_ONNX = "resnet50-A-padboth-narrow8"  # an export takes two seconds; tests/inference exports others


def texts(name: str) -> Iterator[str]:
    """A network of the table, and it with each of its options."""
    row = parse(name)
    yield name
    if row.shortcut != "none":
        yield from (f"{name}-{option}" for option in "ABC" if option != row.shortcut)
        yield f"{name}-A-padboth" if row.shortcut != "A" else f"{name}-padboth"
    if row.block == "bottleneck":
        yield f"{name}-v1.5"
    if row.stem == "imagenet":
        yield f"{name}-ceilpool"


WIDE = [text for name in NAMES for text in texts(name)]
NARROWED = [f"{text}-narrow{NARROW}" for text in WIDE]


def is_slow(text: str) -> bool:
    """Whether it is left to -m slow."""
    row = parse(text)
    has_options = text.removesuffix(f"-narrow{NARROW}") != row.name
    return row.depth >= DEEPEST or (has_options and row.name not in OPTIONS_OF)


def each(texts: Iterable[str], is_slow: Callable[[str], bool] = is_slow) -> pytest.MarkDecorator:
    """The test for each of the networks."""
    return pytest.mark.parametrize(
        "text", [pytest.param(text, marks=[pytest.mark.slow] * is_slow(text)) for text in texts]
    )


@pytest.fixture(scope="module")
def made(perturb: Callable[[nn.Module], nn.Module]) -> Callable[[str], ResNet]:
    """A network with batch normalisation far from the identity, by which signals still keep their size."""

    @cache
    def made(text: str) -> ResNet:
        network = build(text, num_classes=5)
        perturb(network)
        set_exact_statistics(network, [images(network.architecture, 16)])
        return network

    return made


@pytest.fixture
def network(made: Callable[[str], ResNet], text: str) -> ResNet:
    """The network in evaluation mode, the same one in all tests, which do not change it."""
    return made(text)


def images(row: Architecture, count: int = 2) -> Tensor:
    side = row.reduction + 1  # maps of more than one pixel, and of odd sides
    return torch.randn(count, row.in_channels, side, side + 3)


def model_of(network: ResNet) -> Model:
    row = network.architecture
    fit = Fit.square(row.reduction)
    preprocessing = Preprocessing.by_channel(fit, (0.4,) * row.in_channels, (0.2,) * row.in_channels)
    return Model(network, preprocessing, tuple(f"kind {k}" for k in range(row.num_classes)), {"seed": 1})


@each(NARROWED)
def test_forward_and_backward(text: str) -> None:
    network = build(text, num_classes=5).train()
    if network.architecture.shortcut == "C":
        network.double()  # projections in every block: at 1202 layers the first gradients are beyond float32
    logits = network(images(network.architecture, 4).to(network.fc.weight.dtype))
    assert logits.shape == (4, 5)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@each(text for text in NARROWED if parse(text).depth < DEEPEST)
def test_the_folded_network_is_equal(network: ResNet) -> None:
    network = copy.deepcopy(network).double()  # deep networks amplify rounding, up to another answer in float32
    x = images(network.architecture).double()
    folded = fold_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        expected = network(x)
        assert expected.isfinite().all()
        assert expected.std(0).max() > 0
        torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@each(NARROWED)
def test_every_folded_and_fused_block_is_equal(network: ResNet) -> None:
    networks = network, fold_batch_norm(network), fused(network)
    x = images(network.architecture)
    with torch.inference_mode():
        maps = [part.maxpool(part.bn1(part.conv1(x)).relu()) for part in networks]
        close(maps)
        for blocks in zip(*([block for stage in part.stages() for block in stage] for part in networks), strict=True):
            assert isinstance(blocks[2], FusedBlock) == is_available()
            maps = [block(maps[0].clone()) for block in blocks]
            close(maps)


def close(maps: list[Tensor]) -> None:
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=1e-3, atol=1e-4 * float(maps[0].abs().max()))


@each(NARROWED)
def test_the_model_file_keeps_everything(network: ResNet, tmp_path: Path) -> None:
    model = model_of(network)
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.network.architecture == network.architecture
    assert (again.classes, again.provenance) == (model.classes, model.provenance)
    state = again.network.state_dict()
    assert list(state) == list(network.state_dict())
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("text", [*WIDE, *NARROWED])
def test_the_text_is_read_back(text: str) -> None:
    row = parse(text)
    assert set(str(row).split("-")) == set(text.split("-"))
    assert parse(str(row)) == row


@each(NARROWED)
def test_the_layer_table_adds_up(network: ResNet) -> None:
    row = network.architecture
    side = row.reduction + 1
    stages = stage_table(row, side)
    assert sum(stage.parameters for stage in stages) == parameter_count(network)
    assert sum(stage.multiply_adds for stage in stages) == multiply_adds(network, (row.in_channels, side, side))
    assert sum(is_weighted(name, module) for name, module in network.named_modules()) == row.depth


def is_weighted(name: str, module: nn.Module) -> bool:
    """Whether it is a layer that the paper counts: projections are not."""
    return isinstance(module, nn.Conv2d | nn.Linear) and ".downsample." not in name


def has_equal(row: Architecture) -> bool:
    """Whether torchvision and timm have a network that computes the same."""
    version = "v1.5" if row.block == "bottleneck" else "v1"
    usual = (row.stem, row.shortcut, row.version, row.max_pool, row.narrow)
    return usual == ("imagenet", "B", version, "padded", 1)


@each(text for text in [*WIDE, "resnet18-narrow8"] if not has_equal(parse(text)))
def test_export_is_refused_where_the_library_has_no_such_network(text: str, tmp_path: Path) -> None:
    model = model_of(on_meta(parse(text)))
    for export, path in ((export_torchvision, tmp_path / "m.pth"), (export_timm, tmp_path / "m")):
        with pytest.raises(ResnetlabError, match="has no network that computes the same as this .*, for it has no"):
            export(model, path)
        assert not path.exists()


@each((text for text in WIDE if has_equal(parse(text))), lambda text: text != "resnet18")
def test_exported_networks_are_equal(network: ResNet, tmp_path: Path) -> None:
    model, x = model_of(network), images(network.architecture)
    export_torchvision(model, tmp_path / "m.pth")
    export_timm(model, tmp_path / "m")
    theirs = torchvision.models.get_model(network.architecture.name, num_classes=5)
    theirs.load_state_dict(torch.load(tmp_path / "m.pth", weights_only=True))
    timms = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    with torch.inference_mode():
        for other in (theirs.eval(), timms.eval()):
            torch.testing.assert_close(other(x), network(x))


@each(NARROWED, lambda text: text != IN_ONNX)
def test_onnx_runtime_computes_the_same(network: ResNet, tmp_path: Path) -> None:
    assert export_onnx(model_of(network), tmp_path / "m.onnx") < 1e-3
