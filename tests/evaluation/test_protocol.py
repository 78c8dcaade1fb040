"""Test protocols against literal second implementations, view by view and image by image, and torchvision's crops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from resnetlab.choices import ProtocolName
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.protocol import protocol
from resnetlab.evaluation.scores import grouped, score
from resnetlab.evaluation.views import fully_convolutional, ten_crop
from resnetlab.models.modelfile import Model
from resnetlab.networks.resnet import build

SIZES = ((50, 80), (96, 64), (50, 80), (64, 64), (41, 43))
SCALES = (32, 37, 55, 69, 91)
Perturb = Callable[[nn.Module], nn.Module]


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    found = [Image.fromarray(random.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in SIZES]
    return [*found, found[0].convert("L"), found[1].convert("RGBA")]


def model(perturb: Perturb, name: str = "resnet18", mean_image: bool = False, fit: Fit | None = None) -> Model:
    network = perturb(build(name, num_classes=7, narrow=8))
    network.fc.weight.data.mul_(0.1)  # scores of one class alone would hide differences, and those of rounding show
    fit = fit or Fit.square(37, 32)
    mean = torch.rand(3, 32, 32) if mean_image else torch.rand(3, 1, 1)
    return Model(network, Preprocessing(fit, mean, torch.rand(3, 1, 1) + 0.5), tuple("abcdefg"), {})  # type: ignore[arg-type]


def scored(tested: Model, name: ProtocolName, pixels: int | None = None) -> Tensor:
    way = protocol(name, tested.preprocessing.fit)
    parts = [(k, way.cut(image)) for k, image in enumerate(pictures())]
    return way.logits(score(tested, way, parts, len(parts), torch.device("cpu"), pixels=pixels)).softmax(1)


def resized(image: Image.Image, side: int) -> Tensor:
    """By torchvision: shorter side, no distortion."""
    return v2.functional.pil_to_tensor(v2.functional.resize(image.convert("RGB"), [side]))


@torch.no_grad()
def literal_ten_crop(tested: Model, image: Image.Image) -> Tensor:
    total, (mean, std) = torch.zeros(7), (tested.preprocessing.mean, tested.preprocessing.std)
    for view in v2.TenCrop(32)(resized(image, 37)):
        total += tested.network(((view / 255 - mean) / std)[None])[0].softmax(0)
    return total / 10


@torch.no_grad()
def literal_dense(tested: Model, image: Image.Image) -> Tensor:
    """Every window of the last map by itself, through pooling and classifier."""
    network, about = tested.network, tested.preprocessing
    total, mean = torch.zeros(7), about.mean.mean((1, 2), keepdim=True)
    for side in SCALES:
        pixels = resized(image, side)
        for view in (pixels, v2.functional.horizontal_flip(pixels)):
            x = ((view / 255 - mean) / about.std)[None]
            x = network.maxpool(torch.relu(network.bn1(network.conv1(x))))
            for stage in network.stages():
                x = stage(x)
            scores = [
                network.fc(network.avgpool(x[:, :, top : top + 1, left : left + 1]).flatten(1))[0].softmax(0)
                for top in range(x.shape[2])
                for left in range(x.shape[3])
            ]
            total += torch.stack(scores).mean(0)
    return total / (2 * len(SCALES))


@pytest.mark.parametrize(
    ("name", "mean_image"),
    [
        ("resnet18", True),
        ("resnet50", False),
        *(
            pytest.param(*kind, marks=pytest.mark.slow)  # protocols see a network's maps and logits only
            for kind in (("resnet18", False), ("resnet50", True), ("plain18", False), ("plain18", True))
        ),
    ],
)
@pytest.mark.parametrize(("way", "literal"), [("ten-crop", literal_ten_crop), ("dense", literal_dense)])
def test_against_the_literal_implementation(
    perturb: Perturb,
    name: str,
    mean_image: bool,
    way: ProtocolName,
    literal: Callable[[Model, Image.Image], Tensor],
) -> None:
    tested = model(perturb, name, mean_image)
    expected = torch.stack([literal(tested, image) for image in pictures()])
    for pixels in (None, 1, 5000):
        torch.testing.assert_close(scored(tested, way, pixels), expected, rtol=1e-4, atol=1e-5)


def test_windows_larger_than_one_position(perturb: Perturb) -> None:
    """A crop of 64 pixels is seen as 2x2 positions; at a single position dense testing is plain global pooling."""
    tested = model(perturb, fit=Fit.square(64))
    way = protocol("dense", tested.preprocessing.fit, scales=(64,))
    image = pictures()[3]
    found = score(tested, way, [(0, way.cut(image))], 1, torch.device("cpu"))
    with torch.no_grad():
        pixels = torch.from_numpy(np.array(image))[None]
        both = [tested.network(tested.preprocessing(view)) for view in (pixels, pixels.flip(2))]
    torch.testing.assert_close(found[0].float(), torch.stack(both).softmax(2).mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_the_center_is_what_the_model_file_says(perturb: Perturb) -> None:
    tested = model(perturb, mean_image=True)
    with torch.no_grad():
        fitted = [tested.preprocessing.fit(image) for image in pictures()]
        expected = tested.network(tested.preprocessing(torch.from_numpy(np.stack(fitted)))).softmax(1)
    torch.testing.assert_close(scored(tested, "center"), expected, rtol=1e-4, atol=1e-5)


def test_images_left_out_score_nothing(perturb: Perturb) -> None:
    tested = model(perturb)
    way = protocol("ten-crop", tested.preprocessing.fit)
    parts = [(k, way.cut(image)) for k, image in enumerate(pictures())]
    found = score(tested, way, [parts[4], parts[1]], len(parts), torch.device("cpu"))
    assert found.sum(1).tolist() == pytest.approx([0, 1, 0, 0, 1, 0, 0], abs=1e-5)
    torch.testing.assert_close(found[[1, 4]].float(), scored(tested, "ten-crop")[[1, 4]], rtol=1e-4, atol=1e-5)


def test_any_callable_is_wrapped() -> None:
    images = torch.rand(3, 3, 40, 48)
    by_colour = lambda x: x.mean((2, 3)) * 9
    crops = v2.TenCrop(32)(images)
    expected = torch.stack([by_colour(crop).softmax(1) for crop in crops]).mean(0)
    torch.testing.assert_close(ten_crop(by_colour, (32, 32))(images).float(), expected)
    classifier = nn.Linear(3, 4)
    windows = [images[:, :, top : top + 39, left : left + 32] for top in range(2) for left in range(17)]
    expected = torch.stack([classifier(window.mean((2, 3))).softmax(1) for window in windows]).mean(0)
    found = fully_convolutional(lambda x: x, classifier, (39, 32))(images)
    torch.testing.assert_close(found.float(), expected)
    with pytest.raises(ValueError, match="cannot crop 32x32 pixels from an image of 48x31"):
        ten_crop(by_colour, (32, 32))(images[:, :, :31])


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3), max_size=20),
    st.integers(1, 30),
    st.integers(1, 200),
)
def test_parts_are_grouped_by_shape_and_none_is_lost(
    shapes: list[list[tuple[int, int]]], pixels: int, waiting: int
) -> None:
    images = [(k, [np.full((h, w, 3), k, np.uint8) for h, w in parts]) for k, parts in enumerate(shapes)]
    seen: list[tuple[int, tuple[int, ...]]] = []
    for numbers, stacked in grouped(images, pixels, waiting):
        assert len(numbers) == len(stacked)
        assert len(stacked) == 1 or stacked[..., 0].size <= pixels
        for number, part in zip(numbers, stacked, strict=True):
            assert (part == number).all()
            seen.append((number, part.shape))
    assert sorted(seen) == sorted((k, part.shape) for k, parts in images for part in parts)


def test_protocols_in_words() -> None:
    imagenet, cifar = Fit.square(256, 224), Fit.square(32)
    assert protocol("center", imagenet).about == "1 centre crop, 224x224 of shorter side 256"
    assert protocol("center", cifar).about == "single view"
    assert protocol("ten-crop", imagenet).about == "10-crop, shorter side 256, softmax averaged"
    assert protocol("ten-crop", cifar).about == "10-crop, shorter side 37, softmax averaged"
    assert "shorter sides 224, 256, 384, 480, 640," in protocol("dense", imagenet).about
    with pytest.raises(ResnetlabError, match="squares of 224 pixels"):
        protocol("dense", imagenet, (200,))
    for side in (10**5, 10**300):
        with pytest.raises(ResnetlabError, match="no side may have more than"):
            protocol("dense", imagenet, (256, side))
    with pytest.raises(ResnetlabError, match="`scales` is for `protocol=dense`, not center"):
        protocol("center", imagenet, (256,))


def test_grey_models(perturb: Perturb) -> None:
    network = perturb(build("resnet18", num_classes=7, narrow=4, in_channels=1))
    about = Preprocessing(Fit((37, 37), (32, 32), mode="L"), torch.rand(1, 32, 32), torch.ones(1, 1, 1))
    tested = Model(network, about, tuple("abcdefg"), {})  # type: ignore[arg-type]
    for name in ("center", "ten-crop", "dense"):
        assert scored(tested, name).sum(1).tolist() == pytest.approx([1.0] * len(pictures()), abs=1e-4)


def test_photographs_through_the_paper_s_sizes(shared: Path, perturb: Perturb) -> None:
    """Real photographs of real sizes, the paper's scales, against one view at a time."""
    from resnetlab.data.preprocessing import open_image
    from resnetlab.data.sources.layouts import find_images

    _, split = find_images(shared / "photos-300.tar").all()
    image = open_image(split.files[7].read(), "7")
    network = perturb(build("resnet18", num_classes=7, narrow=8))
    tested = Model(
        network,  # type: ignore[arg-type]
        Preprocessing.by_channel(Fit.square(256, 224), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)),
        tuple("abcdefg"),
        {},
    )
    way = protocol("dense", tested.preprocessing.fit)
    found = score(tested, way, [(0, way.cut(image))], 1, torch.device("cpu"))[0]
    total = torch.zeros(7)
    with torch.no_grad():
        for side in (224, 256, 384, 480, 640):
            pixels = resized(image, side).permute(1, 2, 0)[None]
            for view in (pixels, pixels.flip(2)):
                maps = tested.network.features(tested.preprocessing(view))
                scores = [
                    tested.network.fc(maps[:, :, y : y + 7, x : x + 7].mean((2, 3)))[0].softmax(0)
                    for y in range(maps.shape[2] - 6)
                    for x in range(maps.shape[3] - 6)
                ]
                total += torch.stack(scores).mean(0)
    torch.testing.assert_close(found.float(), total / 10, rtol=1e-4, atol=1e-5)
