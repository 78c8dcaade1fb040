"""The authors' Caffe release: files assembled here from Caffe's definition, against OpenCV's reader of such files."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from resnetlab.errors import ResnetlabError
from resnetlab.models.caffe import read_caffe, read_mean_image
from resnetlab.models.importing import Hints, import_weights
from resnetlab.networks.architecture import architecture
from resnetlab.networks.resnet import ResNet

SIDE = 64
STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def varint(number: int) -> bytes:
    more, out = True, b""
    while more:
        number, seven = number >> 7, number & 127
        more = number > 0
        out += bytes([seven | (128 if more else 0)])
    return out


def field(number: int, content: bytes | int | str | float) -> bytes:
    """One field of a protocol buffer: a whole number, a float, or something with a length."""
    if isinstance(content, float):
        return varint(number << 3 | 5) + np.float32(content).tobytes()
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, legacy: bool = False) -> bytes:
    """BlobProto: shape = 7 { dim = 1 }, or num, channels, height, width = 1 to 4; data = 5."""
    if legacy:
        padded = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(k, side) for k, side in enumerate(padded, start=1))
    else:
        shape = field(7, field(1, b"".join(varint(side) for side in array.shape)))
    return shape + field(5, array.astype("<f4").tobytes())


def layer(name: str, kind: str, blobs: list[np.ndarray], parameters: bytes = b"", legacy: bool = False) -> bytes:
    """LayerParameter: name = 1, type = 2, blobs = 7; NetParameter: layer = 100."""
    arrays = b"".join(field(7, blob(array, legacy)) for array in blobs)
    return field(100, field(1, name) + field(2, kind) + arrays + parameters)


class Release:
    """A network of the release with random weights, as `.caffemodel` and `.prototxt`."""

    def __init__(self, depth: int, classes: int = 11, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.layers, self.text = [], [f'input: "data" input_dim: 1 input_dim: 3 input_dim: {SIDE} input_dim: {SIDE}']
        self.convolution("data", "conv1", "bn_conv1", "scale_conv1", 3, 64, 7, 2, bias=depth == 50)
        self.relu("conv1")
        self.add("pool1", "Pooling", ["conv1"], "pooling_param { kernel_size: 3 stride: 2 pool: MAX }")
        self.layers.append(layer("pool1", "Pooling", [], field(121, field(2, 3) + field(3, 2))))
        top, channels = "pool1", 64
        for stage, (width, count) in enumerate(zip((64, 128, 256, 512), STAGES[depth], strict=True), start=2):
            for block in self.suffixes(depth, stage, count):
                top, channels = self.bottleneck(top, f"{stage}{block}", channels, width, stage > 2 and block == "a")
        self.add("pool5", "Pooling", [top], "pooling_param { global_pooling: true pool: AVE }")
        self.dense = [self.weights((classes, channels), 0.05), self.weights((classes,), 1)]
        self.add("fc1000", "InnerProduct", ["pool5"], f"inner_product_param {{ num_output: {classes} }}")
        self.layers.append(layer("fc1000", "InnerProduct", self.dense))
        self.model = b"".join(self.layers)

    @staticmethod
    def suffixes(depth: int, stage: int, count: int) -> Iterator[str]:
        numbered = depth > 50 and stage in (3, 4)
        yield from ["a", *(f"b{k}" for k in range(1, count))] if numbered else "abcdef"[:count]

    def weights(self, shape: tuple[int, ...], scale: float) -> np.ndarray:
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def add(self, name: str, kind: str, bottoms: list[str], parameters: str = "", top: str | None = None) -> None:
        places = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text.append(f'layer {{ name: "{name}" type: "{kind}" {places} top: "{top or name}" {parameters} }}')

    def relu(self, top: str) -> None:
        self.add(f"{top}_relu", "ReLU", [top], top=top)

    def convolution(
        self,
        bottom: str,
        name: str,
        norm: str,
        scale: str,
        channels: int,
        out: int,
        kernel: int,
        stride: int,
        bias: bool = False,
    ) -> None:
        arrays = [self.weights((out, channels, kernel, kernel), (2 / (channels * kernel * kernel)) ** 0.5)]
        if name == "conv1":
            arrays[0] /= 60
        arrays += [self.weights((out,), 0.3)] if bias else []
        said = f"num_output: {out} kernel_size: {kernel} pad: {kernel // 2} stride: {stride}"
        self.add(name, "Convolution", [bottom], f"convolution_param {{ {said} bias_term: {str(bias).lower()} }}")
        parameters = field(106, field(1, out) + field(2, int(bias)) + field(4, kernel) + field(6, stride))
        self.layers.append(layer(name, "Convolution", arrays, parameters, legacy=name.endswith("branch1")))
        count = np.float32(self.random.uniform(0.5, 999))
        sums = [self.weights((out,), 0.2) * count, self.random.uniform(0.5, 1.5, out).astype(np.float32) * count]
        epsilon = 1e-3 if name.endswith("2b") else None
        self.add(
            norm,
            "BatchNorm",
            [name],
            f"batch_norm_param {{ use_global_stats: true {f'eps: {epsilon}' if epsilon else ''} }}",
            name,
        )
        parameters = field(139, field(1, 1) + (field(3, epsilon) if epsilon else b""))
        self.layers.append(layer(norm, "BatchNorm", [*sums, np.array([count])], parameters))
        affine = [self.random.uniform(0.3, 0.6, out).astype(np.float32), self.weights((out,), 0.2)]
        self.add(scale, "Scale", [name], "scale_param { bias_term: true }", name)
        self.layers.append(layer(scale, "Scale", affine))

    def bottleneck(self, bottom: str, place: str, channels: int, width: int, strided: bool) -> tuple[str, int]:
        stride, out = 2 if strided else 1, 4 * width
        shortcut = bottom
        if channels != out:
            shortcut = f"res{place}_branch1"
            self.convolution(
                bottom, shortcut, f"bn{place}_branch1", f"scale{place}_branch1", channels, out, 1, stride
            )
        top = bottom
        parts = [("2a", channels, width, 1, stride), ("2b", width, width, 3, 1), ("2c", width, out, 1, 1)]
        for part, before, after, kernel, step in parts:
            name = f"res{place}_branch{part}"
            self.convolution(
                top, name, f"bn{place}_branch{part}", f"scale{place}_branch{part}", before, after, kernel, step
            )
            if part != "2c":
                self.relu(name)
            top = name
        self.add(f"res{place}", "Eltwise", [shortcut, top])
        self.relu(f"res{place}")
        return f"res{place}", out


@pytest.fixture(scope="module")
def release() -> Release:
    return Release(50)


def written(release: Release, folder: Path, change: Callable[[bytes], bytes] = bytes) -> Path:
    (folder / "net.caffemodel").write_bytes(change(field(1, "ResNet") + release.model))
    (folder / "net.prototxt").write_text("\n".join(release.text))
    return folder / "net.caffemodel"


def outputs_in_opencv(path: Path, bgr: np.ndarray) -> np.ndarray:
    network = cv2.dnn.readNetFromCaffe(str(path.with_suffix(".prototxt")), str(path))
    network.setInput(np.ascontiguousarray(bgr))
    return network.forward("fc1000").reshape(-1)


@pytest.mark.parametrize("depth", [50, 101])
def test_logits_are_opencvs(release: Release, tmp_path: Path, depth: int) -> None:
    path = written(release if depth == 50 else Release(depth), tmp_path)
    weights = read_caffe(path)
    row = weights.row
    assert (row.name, row.version, row.max_pool, row.num_classes) == (f"resnet{depth}", "v1", "ceil", 11)
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (1, 3, SIDE, SIDE)).astype(np.float32)  # RGB
    mean = random.uniform(90, 130, (3, SIDE, SIDE)).astype(np.float32)
    theirs = outputs_in_opencv(path, (image - mean)[:, ::-1])
    with torch.no_grad():
        ours = weights.network()(torch.from_numpy((image - mean) / 255))[0].numpy()
    assert np.abs(theirs).max() > 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


def test_one_output_by_hand(release: Release, tmp_path: Path) -> None:
    """The first channel of the first convolution, at one pixel, from the numbers in the file."""
    written(release, tmp_path)
    network = read_caffe(tmp_path / "net.caffemodel").network()
    random = np.random.default_rng(0)  # as in the file: weights, bias, count, mean, variance, gamma, beta
    kernel = (random.standard_normal((64, 3, 7, 7)) * (2 / (3 * 49)) ** 0.5).astype(np.float32) / 60
    bias = (random.standard_normal(64) * 0.3).astype(np.float32)
    random.uniform(0.5, 999)
    mean = random.standard_normal(64) * 0.2
    variance = random.uniform(0.5, 1.5, 64)
    gamma, beta = random.uniform(0.3, 0.6, 64), random.standard_normal(64) * 0.2
    rgb = np.random.default_rng(2).integers(0, 256, (3, 7, 7)).astype(np.float64)
    convolved = (rgb[::-1] * kernel[5]).sum() + bias[5]
    expected = gamma[5] * (convolved - mean[5]) / np.sqrt(variance[5] + 1e-5) + beta[5]
    with torch.no_grad():
        centre = network.bn1(nn.functional.conv2d(torch.from_numpy(rgb / 255).float()[None], network.conv1.weight))
    assert float(centre[0, 5, 0, 0]) == pytest.approx(expected, rel=1e-4)


def test_rounded_up_pooling_has_56_pixels_too() -> None:
    network = ResNet(replace(architecture("resnet50"), max_pool="ceil"))
    image = torch.arange(112.0 * 112).reshape(1, 1, 112, 112)
    pooled = network.maxpool(image)
    assert pooled.shape[2:] == (56, 56)
    assert pooled[0, 0, 0, 0] == image[0, 0, 2, 2]
    assert pooled[0, 0, -1, -1] == image[0, 0, -1, -1]


def test_mean_images(release: Release, tmp_path: Path) -> None:
    path = written(release, tmp_path)
    with pytest.raises(ResnetlabError, match=r"need the mean image, ResNet_mean\.binaryproto"):
        import_weights(path)
    bgr = np.random.default_rng(0).uniform(0, 255, (1, 3, 224, 224)).astype(np.float32)
    (tmp_path / "ResNet_mean.binaryproto").write_bytes(blob(bgr, legacy=True))
    found = import_weights(path).model
    torch.testing.assert_close(found.preprocessing.mean, torch.from_numpy(bgr[0, ::-1] / 255))
    assert found.preprocessing.fit.resize == (256, 256)
    by_channel = import_weights(path, Hints(mean=(0.485, 0.458, 0.408))).model.preprocessing
    assert (tuple(by_channel.mean.shape), by_channel.std.unique().tolist()) == ((3, 1, 1), [1.0])
    (tmp_path / "small.binaryproto").write_bytes(blob(bgr[:, :, :9, :9]))
    with pytest.raises(ResnetlabError, match="has 9x9 pixels, images 224x224"):
        import_weights(path, Hints(mean=tmp_path / "small.binaryproto"))
    (tmp_path / "grey.binaryproto").write_bytes(blob(bgr[0, 0]))
    with pytest.raises(ResnetlabError, match="expected a mean image"):
        read_mean_image(tmp_path / "grey.binaryproto")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda content: content[:-1000], "cut short"),
        (lambda content: b"\xff" * 50, "cut short, or not a file of Caffe"),
        (lambda content: b"", "holds no layers"),
        (lambda content: content.replace(b"scale3b_branch2a", b"scale3b_brunch2a"), "layer2.1.bn1.weight"),
        (lambda content: content.replace(b"res5c_branch2c", b"res5c_brunch2c"), "unexpected"),
        (lambda content: content + layer("extra", "Convolution", [np.zeros(3)]), "unexpected: extra"),
        (lambda content: content.replace(b"5c_branch", b"5c_brunch"), "3, 4, 6, 2 bottlenecks"),
    ],
)
def test_files_that_are_not_of_the_release(release: Release, tmp_path: Path, change, hint: str) -> None:
    path = written(release, tmp_path, change)
    with pytest.raises(ResnetlabError) as caught:
        read_caffe(path)
    assert hint in str(caught.value)
    assert str(path) in str(caught.value)
