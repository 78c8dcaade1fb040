"""The Triton kernels against torch in float64: on a GPU, or on a processor by Triton's interpreter.

    TRITON_INTERPRET=1 python -m pytest -o addopts= tests/kernels/triton_norm.py

`test_kernels.py` runs it in a process of its own, because the interpreter is chosen when Triton is imported.
"""

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import resnetlab
from resnetlab.data.augment import per_pixel_mean
from resnetlab.data.dataset import Pixels
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.data.stream import Stream
from resnetlab.networks import triton_norm
from resnetlab.networks.own_kernels import use_own_kernels, use_triton_norms
from resnetlab.networks.resnet import build
from resnetlab.networks.statistics import set_exact_statistics
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.captured import CapturedStep
from resnetlab.training.loop import half, launched, objective, start, train
from resnetlab.training.named_recipes import CIFAR

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
SHAPES = [(4, 8, 8, 8), (3, 5, 7, 9), (1, 1, 1, 2), (2, 65, 3, 5), (5, 16, 33, 31), (2, 130, 2, 2), (2, 64, 16, 16)]
CUDNN = torch.backends.cudnn
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def exactly() -> Iterator[None]:
    """On a GPU: float32 is float32, and gradients of weights are added in one order."""
    before = CUDNN.conv.fp32_precision, CUDNN.deterministic
    CUDNN.conv.fp32_precision, CUDNN.deterministic = "ieee", True
    yield
    CUDNN.conv.fp32_precision, CUDNN.deterministic = before


def norms(channels: int) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    """Torch's in float64 and ours in float32, with the same numbers."""
    torch.manual_seed(channels)
    exact = nn.BatchNorm2d(channels, momentum=0.3).double()
    nn.init.normal_(exact.weight)
    nn.init.normal_(exact.bias)
    nn.init.normal_(exact.running_mean)
    nn.init.uniform_(exact.running_var, 0.5, 2)
    ours = use_triton_norms(copy.deepcopy(exact).float().to(DEVICE))
    return exact, ours


def close(found: Tensor, expected: Tensor, dtype: torch.dtype, scale: float = 1.0) -> None:
    tolerance = TOLERANCES[dtype] * scale
    torch.testing.assert_close(found.double().cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("joined", ["alone", "relu", "shortcut"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_layer(shape: tuple[int, ...], joined: str, dtype: torch.dtype) -> None:
    """Outputs, gradients and running statistics; also of channels far from 0, whose squares would cancel."""
    exact, ours = norms(shape[1])
    x = torch.randn(shape, dtype=torch.float64) * 2 + torch.arange(shape[1])[:, None, None] % 7
    shortcut, towards = torch.randn(shape).double(), torch.randn(shape).double()
    x, shortcut, towards = (each.to(dtype).double() for each in (x, shortcut, towards))  # what both are given
    theirs = [each.clone().requires_grad_() for each in (x, shortcut)]
    mine = [each.to(DEVICE, dtype).requires_grad_() for each in (x, shortcut)]
    y = exact(theirs[0])
    if joined == "alone":
        found = ours(mine[0])
    else:
        y = F.relu(y + theirs[1] if joined == "shortcut" else y)
        found = ours(mine[0], mine[1] if joined == "shortcut" else None, relu=True)
    assert found.dtype == dtype
    size = x.numel() / shape[1]
    few = 10 if size < 10 else 1  # values of a channel, whose variance may be next to nothing
    close(found.detach(), y.detach(), dtype, scale=few)
    decided = (y.detach() == 0) == (found.detach().cpu() == 0) if joined != "alone" else torch.ones(shape).bool()
    towards = towards * decided  # rounding may put a number on the other side of 0
    y.backward(towards)
    found.backward(towards.to(DEVICE, dtype))
    close(mine[0].grad, theirs[0].grad, dtype, scale=2 * few)
    if joined == "shortcut":
        close(mine[1].grad, theirs[1].grad, dtype)
    close(ours.weight.grad, exact.weight.grad, torch.float32, scale=few * size**0.5)
    close(ours.bias.grad, exact.bias.grad, torch.float32, scale=size**0.5)
    close(ours.running_mean, exact.running_mean, torch.float32)
    close(ours.running_var, exact.running_var, torch.float32, scale=10)
    assert ours.num_batches_tracked == exact.num_batches_tracked == 1


def test_large_means_do_not_cancel() -> None:
    """A mean of 10,000, a deviation of 1: of a float32 sum of squares no digit of the variance would be right."""
    exact, ours = norms(3)
    x = (torch.randn(8, 3, 20, 20) + 10_000).double()  # as float32 has them
    close(ours(x.float().to(DEVICE)).detach(), exact(x).detach(), torch.float32, scale=200)  # of a mean in float32


def test_evaluation_is_torchs() -> None:
    exact, ours = norms(6)
    x = torch.randn(2, 6, 4, 4)
    exact.eval(), ours.eval()
    close(ours(x.to(DEVICE)).detach(), exact(x.double()).detach(), torch.float32)
    assert ours.num_batches_tracked == 0


def test_one_value_of_a_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="more than one value"):
        norms(4)[1](torch.ones(1, 4, 1, 1, device=DEVICE))


def test_the_same_bits_again() -> None:
    def once() -> list[Tensor]:
        ours = norms(20)[1]
        x = torch.randn(6, 20, 9, 9, generator=torch.Generator().manual_seed(1)).to(DEVICE).requires_grad_()
        ours(x, x, relu=True).square().sum().backward()
        return [x.grad, ours.weight.grad, ours.running_var]

    assert all(map(torch.equal, once(), once()))


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 70_000, 131_072])
@pytest.mark.parametrize("channels", [1, 16, 33, 64, 2048])
def test_every_row_has_its_program(rows: int, channels: int) -> None:
    divided = triton_norm.Division(rows, channels)
    assert (divided.parts - 1) * divided.share < rows <= divided.parts * divided.share
    assert divided.parts * divided.width <= triton_norm.SHARED
    assert divided.width * divided.tile_rows == triton_norm.TILE
    assert divided.grid[1] * divided.width >= channels


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_plain8", "cifar_resnet8-B", "cifar_resnet8-C"])
def test_a_network(name: str) -> None:
    """Two steps of training: every gradient and running number."""
    torch.manual_seed(0)
    network = build(name)
    ours = use_triton_norms(copy.deepcopy(network).to(DEVICE).to(memory_format=torch.channels_last)).train()
    network = network.double().train()
    for seed in range(2):
        images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        network(images.double()).square().mean().backward()
        ours(images.to(DEVICE)).square().mean().backward()
    for (key, expected), found in zip(network.named_parameters(), ours.parameters(), strict=True):
        scale = float(expected.grad.abs().max()) or 1.0
        torch.testing.assert_close(found.grad.double().cpu(), expected.grad, rtol=0, atol=1e-3 * scale, msg=key)
    for (key, expected), found in zip(network.named_buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(found.double().cpu(), expected.double(), rtol=1e-4, atol=1e-5, msg=key)
    assert ours.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", ["cifar_resnet8-narrow4", "cifar_resnet8-C-narrow4"])
def test_a_run(tmp_path: Path, network: str, precision: str) -> None:
    """A whole training with these kernels and a second stream is torch's up to rounding; so are exact statistics."""
    changes = {"precision": precision, "exact_statistics": True, "images": 64}
    options = {"network": network, "batch_size": 16, "set": changes, "compile": "no", "threads": 1, "progress": False}
    theirs = resnetlab.train("digits", iterations=6, out=tmp_path / "a", device=DEVICE, **options)
    ours = resnetlab.train("digits", iterations=6, out=tmp_path / "b", device=DEVICE, kernels="triton", **options)
    assert json.loads((tmp_path / "b" / "execution.json").read_text())["kernels"] == "triton"
    expected, found = (each.model.network.state_dict() for each in (theirs, ours))
    tolerance = 1e-3 if precision == "float32" else 0.05
    for key, value in expected.items():
        scale = max(0.1, float(value.float().abs().max()))  # the mean of the first layer is 0 up to rounding
        torch.testing.assert_close(found[key], value, rtol=0, atol=tolerance * scale, msg=key)


def test_exact_statistics_are_those_of_these_layers() -> None:
    """They are collected by hooks, which see the input of each layer."""
    torch.manual_seed(0)
    network = build("cifar_resnet8-C")
    ours = use_triton_norms(copy.deepcopy(network).to(DEVICE).to(memory_format=torch.channels_last))
    images = torch.randn(6, 3, 16, 16)
    set_exact_statistics(network, [images])
    before = copy.deepcopy(ours.state_dict())
    set_exact_statistics(ours, [images.to(DEVICE)])
    for key, expected in network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key].cpu(), expected, rtol=1e-3, atol=1e-4, msg=key)
        assert "running_var" not in key or not torch.equal(before[key], ours.state_dict()[key])


def test_nan_is_not_hidden() -> None:
    """Otherwise a network that diverged would go on with zeros."""
    ours = norms(8)[1]
    x = torch.randn(2, 8, 4, 4, device=DEVICE)
    x[0, 3, 1, 1] = float("nan")
    y = ours(x.requires_grad_(), None, relu=True)
    assert y[:, 3].isnan().all()
    assert not y[:, :3].isnan().any()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad[:, 3].isnan().all()


@pytest.mark.skipif(DEVICE == "cpu", reason="torch sees no GPU, or the kernels are interpreted")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_captured_steps_are_launched_steps(precision: str) -> None:
    """Kernels and the second stream inside of one graph."""
    recipe = replace(CIFAR.scaled(20), batch_size=32, precision=precision)
    images = Pixels(torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8), torch.arange(64) % 10).to(DEVICE)
    where, found = torch.device(DEVICE), []
    for captured in (False, True):
        torch.manual_seed(0)
        state = start(build("cifar_resnet8"), recipe, where)
        use_own_kernels(state.network, state.optimizer, half(precision))
        stream = Stream(images, Preprocessing.of_mean_image(per_pixel_mean(images.pixels)), 32, 0, 4, flip=True)
        forward = objective(state.network, recipe, where, F.cross_entropy, CLASSIFICATION.sums)
        step = CapturedStep(stream, forward, where) if captured else launched(stream, forward, recipe)
        for _ in train(state, step, recipe, CLASSIFICATION.means):
            pass
        assert not isinstance(step, CapturedStep) or step.graph is not None
        found.append(state.network.state_dict())
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-3, atol=1e-3, msg=key)
