"""Fused operations are the network, of every kind, at every size, one after the other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from resnetlab.networks.inference import FusedConvolution, fold_batch_norm, fused, is_available
from resnetlab.networks.resnet import BasicBlock, ResNet, build

KINDS = [("plain18", "none"), ("cifar_resnet20", "A"), ("resnet18", "A"), ("resnet34", "C"), ("resnet50", "B")]


@pytest.mark.parametrize(("name", "shortcut"), KINDS)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_logits_are_the_networks(
    perturb: Callable[[nn.Module], nn.Module], name: str, shortcut: str, layout: torch.memory_format
) -> None:
    network = perturb(build(name, shortcut=shortcut, narrow=4))  # type: ignore[arg-type]
    assert isinstance(network, ResNet)
    fast = fused(network)
    assert is_available() == any(isinstance(module, FusedConvolution) for module in fast.modules())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for size in ((2, 3, 64, 96), (5, 3, 32, 32), (1, 3, 75, 41), (2, 3, 64, 96)):
        images = torch.randn(*size).to(memory_format=layout)
        kept = images.clone()
        with torch.inference_mode():
            expected = network(images)
            torch.testing.assert_close(fast(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert torch.equal(images, kept)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_without_the_operations_convolutions_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnetlab.networks.inference.is_available", lambda: False)
    network = build("resnet18", narrow=8).eval()
    fast = fused(network)
    assert not any(isinstance(module, FusedConvolution) for module in fast.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(fast(images), network(images), rtol=1e-4, atol=1e-4)


class SqueezeAndExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class SqueezedBlock(BasicBlock):
    se: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (self.se(y) + self.downsample(x)).relu()


class PreActivatedBlock(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return y + x


class ResidualOfItself(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        return x


def squeezed(network: ResNet) -> None:
    for block in network.layer2:
        block.__class__ = SqueezedBlock
        block.se = SqueezeAndExcitation(block.bn2.num_features)


def squeezed_by_its_norm(network: ResNet) -> None:
    for block in network.layer1:
        block.bn2 = nn.Sequential(block.bn2, SqueezeAndExcitation(block.bn2.num_features))


def grouped(network: ResNet) -> None:
    for stage in network.stages():
        for block in stage:
            block.bn2 = nn.GroupNorm(4, block.conv2.out_channels)
            nn.init.normal_(block.bn2.weight)


def pre_activated(network: ResNet) -> None:
    network.layer1[1].__class__ = PreActivatedBlock
    network.layer3[1].__class__ = PreActivatedBlock


def with_another_activation(network: ResNet) -> None:
    block = network.layer1[1]

    def forward(x: Tensor) -> Tensor:
        return nn.functional.elu(block.bn2(block.conv2(nn.functional.elu(block.bn1(block.conv1(x))))) + x)

    block.forward = lambda x, of=block: forward(x)


def with_a_kept_map(network: ResNet) -> None:
    network.layer1[1].__class__ = ResidualOfItself
    network.layer1[0].downsample[1].register_forward_hook(lambda module, inputs, output: 2 * output)


def with_a_group_norm_stem(network: ResNet) -> None:
    network.bn1 = nn.GroupNorm(2, network.conv1.out_channels)


def with_batch_statistics(network: ResNet) -> None:
    network.layer1[0].bn1.running_mean = network.layer1[0].bn1.running_var = None


def with_a_mirrored_border(network: ResNet) -> None:
    network.layer2[1].conv1.padding_mode = "reflect"
    network.layer2[1].conv1._reversed_padding_repeated_twice = [1, 1, 1, 1]


def with_a_changing_hook(network: ResNet) -> None:
    network.layer1[1].conv1.register_forward_hook(lambda module, inputs, output: 2 * output)
    network.layer2[1].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    network.conv1.register_forward_hook(lambda module, inputs, output: -output)


CHANGES = [
    squeezed,
    squeezed_by_its_norm,
    grouped,
    pre_activated,
    with_another_activation,
    with_a_kept_map,
    with_a_group_norm_stem,
    with_batch_statistics,
    with_a_mirrored_border,
    with_a_changing_hook,
]


@pytest.mark.parametrize("fast", [fold_batch_norm, fused])
@pytest.mark.parametrize("change", CHANGES)
def test_blocks_that_are_not_known_stay_as_they_are(perturb, change: Callable[[ResNet], None], fast) -> None:
    network = build("cifar_resnet20", shortcut="C")
    perturb(network)
    change(network)
    replaced = fast(network)
    images = torch.randn(3, 3, 24, 24)
    with torch.inference_mode():
        expected = network(images)
        torch.testing.assert_close(replaced(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    if fast is fused and is_available() and change not in (with_a_group_norm_stem, with_a_changing_hook):
        assert any(isinstance(module, FusedConvolution) for module in replaced.modules())


def test_hooks_see_what_they_saw(perturb) -> None:
    network = perturb(build("cifar_resnet20"))
    assert isinstance(network, ResNet)
    seen: list[Tensor] = []
    watched = (network.bn1, network.layer1, network.layer1[1], network.layer2[0].bn1, network.layer3)
    for module in watched:
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        network(images)
        fused(network)(images)
    expected, found = seen[: len(watched)], seen[len(watched) :]
    for before, after in zip(expected, found, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_a_fused_block_overwrites_no_map_of_another() -> None:
    network = build("cifar_resnet20").eval()
    kept = torch.rand(1, 16, 8, 8)
    network.layer1[0].forward = lambda x: kept
    before = kept.clone()
    with torch.inference_mode():
        fused(network)(torch.randn(1, 3, 8, 8))
    assert torch.equal(kept, before)
