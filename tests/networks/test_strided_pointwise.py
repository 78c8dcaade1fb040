"""1x1 convolutions with a stride and few channels, whose gradients oneDNN writes past its memory."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from resnetlab.networks.inference import fold_batch_norm, fused
from resnetlab.networks.resnet import StridedPointwise, build, convolution

TRAIN = """
import torch
from resnetlab.networks.resnet import build
torch.set_num_threads(1)
for name in ("resnet18-narrow16", "resnet18-narrow8", "resnet50-narrow32"):
    network = build(name, num_classes=3).to(memory_format=torch.channels_last)
    for _ in range(8):
        images = torch.randn(2, 3, 240, 320).to(memory_format=torch.channels_last)
        network(images).square().sum().backward()
print("alive")
"""


def test_narrow_networks_train_on_large_images() -> None:
    """Before, this ended in a segmentation fault or in "corrupted size", in a process of its own."""
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


@pytest.mark.parametrize("size", [(9, 12), (8, 8), (7, 5)])
def test_it_is_the_usual_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    own, usual = StridedPointwise(4, 6, 1, 2, bias=False).double(), nn.Conv2d(4, 6, 1, 2, bias=False).double()
    usual.load_state_dict(own.state_dict())
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    results = [layer(each) for layer, each in zip((own, usual), inputs, strict=True)]
    torch.testing.assert_close(results[0], results[1])
    for result in results:
        result.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(own.weight.grad, usual.weight.grad)
    with torch.no_grad():
        assert torch.equal(own(x), usual(x))


def test_only_where_it_is_needed() -> None:
    assert type(convolution(8, 16, 1, 2)) is StridedPointwise
    for channels, kernel, stride in ((16, 1, 2), (8, 1, 1), (8, 3, 2)):
        assert type(convolution(channels, 16, kernel, stride)) is nn.Conv2d
    for name in ("resnet18", "resnet50", "resnet152-v1.5", "resnet18-narrow4", "cifar_resnet56-B"):
        assert not any(isinstance(module, StridedPointwise) for module in build(name).modules())


def test_it_is_folded_and_fused_as_others() -> None:
    torch.manual_seed(0)
    network = build("resnet18-narrow8", num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for made in (fold_batch_norm(network), fused(network)):
            assert not any(isinstance(module, nn.BatchNorm2d) for module in made.modules())
            torch.testing.assert_close(made(images), network(images), rtol=1e-4, atol=1e-4)
