"""Everything that is to be measured on a GPU, in steps of bounded time; called again, it goes on.

    python -m benchmarks.on_gpu check training detection --out results-gpu --minutes 5
    python -m benchmarks.on_gpu figure6 --archive cifar10-jpeg.tar.xz --out results-gpu --minutes 9

- check: the tests of captured steps and of our own kernels, and whether training twice gives the same bits.
- training: speed against other trainers, and of several runs at once.
- detection: Faster R-CNN against torchvision's, whose results are compared first.
- scenes: a detector trained on the embedded scenes of digits.
- figure6: Figure 6 in full. Its runs are in `--out` as tar files, at most 15 MB each, which `--runs` unpacks.
- resnet1202: speed and memory of a step of ResNet-1202.

The sources are run as they are, installed or not.
On a machine without a GPU, `--smoke` takes every step in small.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

from benchmarks.archives import unpack

StepName = Literal["check", "training", "detection", "scenes", "figure6", "resnet1202"]
DATA = Path("data/CIFAR-10-JPEG.npz")  # lossy pixels: the name stands beside every number
LONG = ("--steps", "64000", "--images", "50000", "--workers", "14", "--rounds", "4", "--seconds", "0.5")
TINY = ("--network", "cifar_resnet8", "--batch-size", "8")
SMALL = (*TINY, "--ways", "deep", "--no-peers", "--rounds", "1", "--seconds", "0.1", "--images", "64")
DETECTION = ("--networks", "resnet50", "resnet101", "--size", "600", "800", "--rounds", "5", "--block", "4")
SMALL_DETECTION = ("--networks", "resnet18-narrow8", "--size", "96", "128", "--rounds", "1", "--block", "1")
TAR_BYTES = 15_000_000
SAVING_SECONDS = 25  # for a run that is asked to stop


@dataclass(frozen=True)
class Measuring:
    """Where to measure, until when, and whether only in small."""

    out: Path
    end: float
    smoke: bool

    @property
    def device(self) -> str:
        """cpu in small, otherwise cuda."""
        return "cpu" if self.smoke else "cuda"

    def module(self, name: str, record: str, *arguments: str) -> None:
        """Run a benchmark, unless its record is there."""
        if not (self.out / f"{record}.json").exists():
            place = ["--device", self.device, "--out", str(self.out / record)]
            self.within([sys.executable, "-m", f"benchmarks.{name}", *place, *arguments])

    def resnetlab(self, *arguments: str) -> None:
        """Run a command of the product."""
        code = "from resnetlab.cli import main; main()"
        self.within([sys.executable, "-c", code, *arguments, "--device", self.device])

    def within(self, command: list[str]) -> None:
        """Run a command, and ask it to save and stop when time is up."""
        left = self.end - time.monotonic()
        if left < 5:
            print("no time left for", *command[1:4], flush=True)
            return
        print(f"{left:.0f} s left:", *command[1:], flush=True)
        began = time.monotonic()
        with subprocess.Popen(command) as process:
            try:
                process.wait(left)
            except subprocess.TimeoutExpired:
                process.terminate()
                try:
                    process.wait(SAVING_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
        print(f"exit status {process.returncode} after {time.monotonic() - began:.0f} s", flush=True)


def main(
    steps: Positional[tuple[StepName, ...]],
    out: Path,
    minutes: float = 9.0,
    archive: Path | None = None,
    networks: Sequence[str] = ("cifar_plain20", "cifar_plain56", "cifar_resnet20", "cifar_resnet56"),
    seeds: int = 1,
    runs: Sequence[Path] = (),
    smoke: bool = False,
) -> None:
    """Measure.

    Args:
        steps: Which, in this order.
        out: Where records, pages and runs go.
        minutes: When to stop; runs are saved then.
        archive: For figure6, a tar file with train/<class>/*.jpg and test/<class>/*.jpg.
        networks: For figure6.
        seeds: For figure6, runs of each network.
        runs: Tar files of runs that figure6 continues.
        smoke: Small, on a processor.
    """
    sys.path.insert(0, "src")
    os.environ["PYTHONPATH"] = os.pathsep.join(["src", ".", *filter(None, [os.environ.get("PYTHONPATH")])])
    out.mkdir(parents=True, exist_ok=True)
    here = Measuring(out, time.monotonic() + 60 * minutes, smoke)
    for step in steps:
        match step:
            case "check":
                _check(here)
            case "training":
                here.module("training", "training-gpu", *(SMALL if smoke else LONG))
                if not smoke:
                    here.module("training", "training-combined-gpu", "--no-peers", "--ways", "combined", *LONG)
            case "detection":
                here.module("detection", "detection-gpu", *(SMALL_DETECTION if smoke else DETECTION))
            case "scenes":
                network = "resnet18-narrow8" if smoke else "resnet18-narrow4"
                small = ("--iterations", "4", "--threads", "1") if smoke else ()
                place = ("--data", "digit-scenes", "--network", network, "--out", str(out / "digit-scenes"))
                here.resnetlab("train", *place, *small)
            case "figure6":
                _figure6(here, archive, networks, seeds, runs)
            case "resnet1202":
                deep = ("--network", "cifar_resnet1202", "--steps", "64000", "--ways", "deep", "--rounds", "2")
                here.module("training", "resnet1202-gpu", "--no-peers", *(SMALL if smoke else deep))
    print(*sorted(path.name for path in out.iterdir()))


def _check(here: Measuring) -> None:
    """The tests without their type checks, under which torch.compile fails, and without warnings as errors."""
    plain = ["-o", "addopts=", "-o", "filterwarnings=", "-p", "no:cacheprovider"]
    checks = ("tests/training/test_captured.py", "tests/kernels/triton_norm.py", "tests/kernels/compiled_draws.py")
    if here.smoke:
        os.environ["TRITON_INTERPRET"] = "1"
    here.within([sys.executable, "-m", "pytest", "-q", *plain, *checks])
    os.environ.pop("TRITON_INTERPRET", None)
    few = (*TINY, "--steps", "4", "--rounds", "1", "--no-compiled")
    here.module("repeatability", "repeatability-gpu", *(few if here.smoke else ()))


def _figure6(
    here: Measuring, archive: Path | None, networks: Sequence[str], seeds: int, runs: Sequence[Path]
) -> None:
    if not DATA.exists():
        if archive is None:
            raise SystemExit(f"{DATA} is absent; --archive names a tar file of images to make it from")
        make_arrays(archive, 20 if here.smoke else None)
    for path in runs:
        unpack(path, Path("runs"))
    small = ("--iterations", "4") if here.smoke else ()
    figure = ("reproduce", "figure6", "--scale", "full", "--data", str(DATA), "--set", "precision=bfloat16")
    here.resnetlab(*figure, "--seeds", str(seeds), "--networks", *networks, *small)
    for found in Path(f"runs/figure6-{DATA.stem}").glob("figure6.*"):
        shutil.copy(found, here.out)
    _pack(sorted(path.parent for path in Path("runs").glob(f"{DATA.stem}-*/config.json")), here.out)


def _pack(folders: Sequence[Path], out: Path) -> None:
    """The folders of runs in tar files of bounded size; unfinished ones with their last checkpoint."""
    groups: list[list[Path]] = [[]]
    size = 0
    for folder in folders:
        finished, checkpoints = (folder / "result.json").exists(), sorted(folder.glob("checkpoints/*"))
        left_out = checkpoints if finished else checkpoints[:-1]
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.parent not in left_out):
            if size + path.stat().st_size > TAR_BYTES:
                groups.append([])
                size = 0
            groups[-1].append(path)
            size += path.stat().st_size
    for number, group in enumerate(groups):
        with tarfile.open(out / f"runs-{number}.tar", "w") as file:
            for path in group:
                file.add(path, path.relative_to(folders[0].parent))


def make_arrays(archive: Path, images: int | None) -> None:
    """The archive's images as arrays, so that they are decoded once; `images` of each class and split."""
    import numpy as np

    from resnetlab.data.dataset import Pixels
    from resnetlab.data.sources.resident import load_folder

    folder = DATA.parent / "jpeg"
    with tarfile.open(archive) as file:
        members = [member for member in file.getmembers() if member.isfile()]
        if images is not None:
            members = [member for member in members if int(Path(member.name).stem) < images]
    unpack(archive, folder, members)
    found = load_folder(folder)
    assert isinstance(found.train, Pixels)
    assert isinstance(found.test, Pixels)
    numbers = [tensor.numpy() for part in (found.train, found.test) for tensor in (part.pixels, part.labels)]
    x_train, y_train, x_test, y_test = numbers
    classes = np.array(found.classes)
    np.savez(DATA, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=classes)
    shutil.rmtree(folder)


if __name__ == "__main__":
    tyro.cli(main)
