"""Fixtures for all tests."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from servers import serving
from torch import nn

from benchmarks.archives import unpack
from resnetlab.analysis.structure import compared_structure
from resnetlab.cli import main
from resnetlab.data.dataset import Dataset, pixel_dataset

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell's background jobs, and so their children, ignore it
settings.register_profile("resnetlab", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("resnetlab")
SHARED = Path(__file__).parents[2] / "shared" / "data"


LONG = (
    "cli/test_options",
    "faults/test_faults",
    "kernels/test_kernels",
    "experiments/test_reproduce",
    "cli/test_looking",
    "report/test_webpage",
)
"""Files that take longest, which begin first, so that no process waits for one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file, the long ones first."""
    names = [f"{name}.py" for name in LONG]
    items.sort(
        key=lambda item: next((k for k, name in enumerate(names) if str(item.path).endswith(name)), len(names))
    )


@pytest.fixture
def shared() -> Path:
    """Real data that a user's machine does not have."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: real CIFAR-10 pixels and peers' weights are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def bccd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of blood cells with boxes, in Pascal VOC's layout."""
    archive = SHARED / "bccd.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent: the photographs are not part of the repository")
    folder = tmp_path_factory.mktemp("bccd")
    unpack(archive, folder)
    return folder


CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
CHROMIUM += ("--disable-component-update", "--disable-sync")


@pytest.fixture(scope="module")  # while it is open, asyncio.run cannot be used
def browser() -> Iterator[Browser]:
    """Chromium, where there is one."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium: install it with `apt install chromium`")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield opened
        opened.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in the test's folder; `Ranges.seen` has the requests."""
    with serving(tmp_path) as address:
        yield address


@pytest.fixture
def tiny() -> Dataset:
    """48 + 16 colour images of 8x8 pixels in 4 classes told apart by brightness."""
    random = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 4
        noise = random.integers(0, 40, (count, 8, 8, 3))
        return (labels[:, None, None, None] * 60 + noise).astype(np.uint8), labels

    return pixel_dataset("tiny", part(48), part(16), ("a", "b", "c", "d"))


@pytest.fixture
def tiny_npz(tmp_path: Path, tiny: Dataset) -> Path:
    """The same as a file."""
    path = tmp_path / "tiny.npz"
    arrays = {
        "x_train": tiny.train.pixels.numpy(),
        "y_train": tiny.train.labels.numpy(),
        "x_test": tiny.test.pixels.numpy(),
        "y_test": tiny.test.labels.numpy(),
        "classes": np.array(tiny.classes),
    }
    np.savez(path, **arrays)
    return path


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # networks are small, and threads that wait for each other slow down a busy machine


@pytest.fixture(scope="session")
def structure() -> dict[str, Any]:
    """What is computed of Table 1 and Figure 3; not to be changed."""
    return compared_structure()


@pytest.fixture(scope="session")
def perturb() -> Callable[[nn.Module], nn.Module]:
    """Puts a network in evaluation mode, its batch normalisation far from the identity, so that a swap shows."""

    def perturbed(network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
        return network.eval()

    return perturbed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 30 + 12 photographs of different sizes in 3 classes of colours; one is grey, one turned."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for split, count in (("train", 10), ("test", 4)):
        for number, name in enumerate(("ant", "bee", "cow")):
            (folder / split / name).mkdir(parents=True)
            for k in range(count):
                height, width = (int(side) for side in random.integers(40, 90, 2))
                pixels = random.integers(0, 120, (height, width, 3))
                pixels[..., number] += 100
                image = Image.fromarray(pixels.astype(np.uint8))
                exif = Image.Exif()
                exif[0x0112] = 6 if (number, k) == (0, 1) else 1
                image = image.convert("L") if (number, k) == (0, 0) else image
                image.save(folder / split / name / f"{k:03}.jpg", exif=exif, quality=90)
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `resnetlab` with arguments; gives its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("resnetlab.cli.common.console.width", 200)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["resnetlab", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run
