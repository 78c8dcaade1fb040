"""Networks against the paper's counts, torchvision, timm, and other people's weights."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import Architecture, architecture, check_image_size, with_options
from resnetlab.networks.measure import multiply_adds, on_meta, parameter_count, stage_table
from resnetlab.networks.resnet import build
from resnetlab.paper.tables import TABLE1, TABLE6

Perturb = Callable[[nn.Module], nn.Module]
CIFAR = [  # n layers: parameters with option A or plain, multiply-adds, parameters with B, with C
    (20, 269_722, 40_551_040, 272_474, 283_962),
    (32, 464_154, 68_862_592, 466_906, 489_594),
    (44, 658_586, 97_174_144, 661_338, 695_226),
    (56, 853_018, 125_485_696, 855_770, 900_858),
    (110, 1_727_962, 252_887_680, 1_730_714, 1_826_202),
    (1202, 19_421_274, 2_829_238_912, 19_424_026, 20_538_714),
]
IMAGENET = [  # name, shortcut, version, parameters, multiply-adds
    ("plain18", "none", "v1", 11_515_688, 1_794_805_760),
    ("resnet18", "A", "v1", 11_515_688, 1_794_805_760),
    ("resnet18", "B", "v1", 11_689_512, 1_814_073_344),
    ("resnet18", "C", "v1", 12_043_816, 1_878_298_624),
    ("plain34", "none", "v1", 21_623_848, 3_644_493_824),
    ("resnet34", "A", "v1", 21_623_848, 3_644_493_824),
    ("resnet34", "B", "v1", 21_797_672, 3_663_761_408),
    ("resnet34", "C", "v1", 22_716_840, 3_830_747_136),
    ("resnet50", "A", "v1", 22_780_456, 3_498_311_680),
    ("resnet50", "B", "v1", 25_557_032, 3_857_973_248),
    ("resnet50", "C", "v1", 40_128_552, 6_324_224_000),
    ("resnet50", "B", "v1.5", 25_557_032, 4_089_184_256),
    ("resnet101", "A", "v1", 41_772_584, 7_210_532_864),
    ("resnet101", "B", "v1", 44_549_160, 7_570_194_432),
    ("resnet101", "C", "v1", 76_981_288, 13_530_300_416),
    ("resnet101", "B", "v1.5", 44_549_160, 7_801_405_440),
    ("resnet152", "A", "v1", 57_416_232, 10_922_754_048),
    ("resnet152", "B", "v1", 60_192_808, 11_282_415_616),
    ("resnet152", "C", "v1", 107_335_720, 20_736_376_832),
    ("resnet152", "B", "v1.5", 60_192_808, 11_513_626_624),
]


@cache
def costs(row: Architecture) -> tuple[int, int]:
    """Parameters and multiply-adds."""
    network = on_meta(row)
    return parameter_count(network), multiply_adds(network, (row.in_channels, row.image_size, row.image_size))


@pytest.mark.parametrize(("depth", "parameters", "work"), [row[:3] for row in CIFAR])
def test_cifar_counts(depth: int, parameters: int, work: int) -> None:
    row = architecture(f"cifar_resnet{depth}")
    assert row.depth == depth
    assert costs(row) == (parameters, work)


@pytest.mark.parametrize(
    ("depth", "parameters", "work", "with_b", "with_c"),
    [*CIFAR[:-1], pytest.param(*CIFAR[-1], marks=pytest.mark.slow)],  # 1202 layers take a second to count
)
def test_counts_of_the_same_depth(depth: int, parameters: int, work: int, with_b: int, with_c: int) -> None:
    row = architecture(f"cifar_resnet{depth}")
    assert costs(architecture(f"cifar_plain{depth}")) == (parameters, work)
    assert costs(replace(row, shortcut="B")) == (with_b, work + 262_144)
    assert costs(replace(row, shortcut="C"))[0] == with_c


@pytest.mark.parametrize(("name", "shortcut", "version", "parameters", "work"), IMAGENET)
def test_imagenet_counts(name: str, shortcut: str, version: str, parameters: int, work: int) -> None:
    row = with_options(architecture(name), shortcut=shortcut, version=version)
    assert costs(row) == (parameters, work)


@pytest.mark.parametrize("printed", TABLE1, ids=lambda printed: printed.method)
def test_table_1_depths_and_multiply_adds(printed) -> None:
    row = architecture(printed.network)
    work = costs(row)[1]
    assert row.depth == printed.layers
    # ResNet-50's 3.858e9 is printed as 3.8, cut rather than rounded
    assert printed.multiply_adds in (round(work, -8), math.floor(work / 1e8) * 1e8)


@pytest.mark.parametrize("printed", [row for row in TABLE6 if row.network], ids=lambda row: row.network)
def test_table_6_parameters(printed) -> None:
    millions = costs(architecture(printed.network))[0] / 1e6
    assert printed.parameters in (f"{millions:.2f}M", f"{millions:.1f}M")


def test_stage_table_of_resnet50_is_table_1() -> None:
    rows = [
        (s.name, s.output, s.layers.replace("\n", " "), s.multiply_adds)
        for s in stage_table(architecture("resnet50"))
    ]
    assert rows == [
        ("conv1", "112x112", "7x7, 64, stride 2", 118_013_952),
        ("conv2_x", "56x56", "3x3 max pool, stride 2 [1x1, 64; 3x3, 64; 1x1, 256] x3", 667_942_912),
        ("conv3_x", "28x28", "[1x1, 128; 3x3, 128; 1x1, 512] x4", 950_534_144),
        ("conv4_x", "14x14", "[1x1, 256; 3x3, 256; 1x1, 1024] x6", 1_387_266_048),
        ("conv5_x", "7x7", "[1x1, 512; 3x3, 512; 1x1, 2048] x3", 732_168_192),
        ("fc", "1x1", "average pool, 1000-d fc, softmax", 2_048_000),
    ]


DEEP = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet101", "resnet152")]  # same kind as 50


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", *DEEP])
def test_forward_equals_torchvision(perturb: Perturb, name: str) -> None:
    theirs = torchvision.models.get_model(name).eval()
    perturb(theirs)
    ours = build(name, version="v1" if name in ("resnet18", "resnet34") else "v1.5").eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 96, 80)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["resnet50", DEEP[0]])
def test_stride_on_the_first_1x1_equals_torchvision_with_strides_moved(perturb: Perturb, name: str) -> None:
    theirs = torchvision.models.get_model(name).eval()
    perturb(theirs)
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    ours = build(name).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "version"), [("resnet18", "v1"), ("resnet50", "v1.5")])
def test_forward_equals_timm(perturb: Perturb, name: str, version: str) -> None:
    theirs = timm.create_model(name).eval()
    perturb(theirs)
    ours = build(name, version=version).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize(("place", "before"), [("end", 0), ("both", 8)])
def test_option_a_takes_every_second_pixel_and_pads_zero_channels(place: str, before: int) -> None:
    shortcut = build("cifar_resnet20", zero_channels=place).layer2[0].downsample
    x = torch.randn(2, 16, 8, 8)
    y = shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    for channel in range(16):
        for row, column in ((0, 0), (1, 3), (3, 2)):
            assert torch.equal(y[:, before + channel, row, column], x[:, channel, 2 * row, 2 * column])
    assert y.count_nonzero() == x[:, :, ::2, ::2].count_nonzero()


def test_a_residual_block_with_a_dead_branch_is_its_shortcut() -> None:
    block = build("cifar_resnet20").eval().layer1[0]
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(block(x), x.relu())
    plain = build("cifar_plain20").eval().layer1[0]
    nn.init.zeros_(plain.bn2.weight)
    assert plain(x).count_nonzero() == 0


def test_plain_and_option_a_networks_have_the_same_weights() -> None:
    plain, residual = build("cifar_plain56"), build("cifar_resnet56")
    assert plain.state_dict().keys() == residual.state_dict().keys()
    assert [v.shape for v in plain.state_dict().values()] == [v.shape for v in residual.state_dict().values()]


def test_initialisation_is_he_et_al_2015() -> None:
    network = build("resnet50")
    for name, weight in network.named_parameters():
        if weight.ndim == 4 and weight.numel() > 30_000:
            expected = math.sqrt(2 / weight[0].numel())
            assert weight.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(weight.mean().item()) < expected / 20, name
    assert network.fc.bias.count_nonzero() == 0


def test_signals_keep_their_size_through_a_deep_plain_network() -> None:
    network = build("cifar_plain56").train()
    sizes: list[float] = []
    for name, module in network.named_modules():
        if name.endswith("bn2"):
            module.register_forward_hook(lambda m, i, y: sizes.append(y.std().item()))
    network(torch.randn(64, 3, 16, 16))
    assert len(sizes) == 27
    assert all(0.9 < size < 1.1 for size in sizes)


def test_classes_and_channels() -> None:
    network = build("cifar_resnet20", num_classes=7, in_channels=1)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnt50", "did you mean resnet50"),
        ("cifar_resnet57", "the nearest are 56 and 62"),
        ("cifar_resnet2", "the nearest are 8 and 14"),
        ("cifar_resnet0", "known|did you mean"),
        ("vgg19", "known: "),
    ],
)
def test_unknown_names_say_what_is_near(name: str, hint: str) -> None:
    with pytest.raises(ResnetlabError, match=hint):
        architecture(name)


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("plain34", {"shortcut": "A"}, "resnet34"),
        ("cifar_resnet20", {"shortcut": "none"}, "cifar_plain20"),
        ("resnet18", {"version": "v1.5"}, "no bottleneck"),
    ],
)
def test_options_that_do_not_fit(name: str, options: dict[str, str], hint: str) -> None:
    with pytest.raises(ResnetlabError, match=hint):
        build(name, **options)


def test_images_too_small_for_the_strides() -> None:
    check_image_size(architecture("cifar_resnet56"), 8, 8)
    with pytest.raises(ResnetlabError, match="32 times smaller.*8x8.*use a cifar_ network"):
        check_image_size(architecture("resnet50"), 8, 8)
    with pytest.raises(ResnetlabError, match="3x9.*larger images"):
        check_image_size(architecture("cifar_resnet20"), 3, 9)


def test_wrong_shapes_are_refused_at_the_door() -> None:
    with pytest.raises(Exception, match="type|shape"):
        build("cifar_resnet20")(torch.randn(3, 32, 32))


def test_channels_last_gives_the_same_logits() -> None:
    network = build("cifar_resnet20").eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)
        network.to(memory_format=torch.channels_last)
        found: Tensor = network(images.contiguous(memory_format=torch.channels_last))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
