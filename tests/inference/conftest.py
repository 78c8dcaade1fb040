"""Small models to run, and images to run them on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.models.modelfile import Model, save
from resnetlab.networks.resnet import ResNet, build


@pytest.fixture(scope="session")
def small(perturb: Callable[[nn.Module], nn.Module]) -> Callable[..., Model]:
    """A model of a network of the paper for small images, with a mean image or a mean by channel.

    A `shallow` one has one block in each stage.
    """

    def made(
        name: str = "cifar_resnet8", side: int = 16, mean_image: bool = True, shallow: bool = False, **options: object
    ) -> Model:
        torch.manual_seed(1)
        network = build(name, **{"num_classes": 10, **options})
        if shallow:
            row = network.architecture
            network = ResNet(replace(row, blocks=(1,) * len(row.blocks)))
        perturb(network)
        channels = network.architecture.in_channels
        if mean_image:
            preprocessing = Preprocessing.of_mean_image(torch.rand(channels, side, side))
        else:
            fit = Fit.square(side + 4, side)
            preprocessing = Preprocessing.by_channel(fit, (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels])
        classes = tuple(f"kind{k}" for k in range(network.architecture.num_classes))
        return Model(network, preprocessing, classes, {"imported": {"file": "a"}})

    return made


@pytest.fixture
def model_path(small: Callable[..., Model], tmp_path: Path) -> Path:
    """A model file."""
    save(small(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 13 images of several sizes, formats and depths, one of them grey, and a text file."""
    folder = tmp_path / "pictures"
    (folder / "deep" / "er").mkdir(parents=True)
    random = np.random.default_rng(0)
    for k in range(13):
        noise = random.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((16 + 5 * k, 40 - k), Image.Resampling.BICUBIC)
        place = folder / ("deep/er" if k % 3 == 0 else "deep" if k % 3 == 1 else "")
        image.convert("L" if k == 4 else "RGB").save(place / f"{k:02}.{'png' if k % 2 else 'jpg'}")
    (folder / "about.txt").write_text("not an image")
    return folder
