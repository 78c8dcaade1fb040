"""Everything that is to be measured on a GPU, in one command of bounded time; called again, it goes on.

    python -m benchmarks.on_gpu --archive cifar10-jpeg.tar.xz --out results-gpu --minutes 9

Tests of the GPU paths; detection against torchvision, whose results are compared first, and a short training of a
detector; speed against other trainers, ResNet-1202's speed and memory, and Figure 6 in full over three seeds, as far
as the time goes. What is finished is in `--out`. On a machine without a GPU, `--smoke` takes every turn
of it in small.
"""

import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
import tyro

from resnetlab.data.dataset import Pixels
from resnetlab.data.sources.resident import load_folder

RESNETLAB = (sys.executable, "-c", "from resnetlab.cli import main; main()")
NETWORKS = ("cifar_plain20", "cifar_plain56", "cifar_resnet20", "cifar_resnet56")
REST = ("cifar_plain32", "cifar_plain44", "cifar_resnet32", "cifar_resnet44", "cifar_resnet110")
DATA = Path("data/CIFAR-10-JPEG.npz")  # lossy pixels: the name stands beside every number


def main(archive: Path, out: Path, minutes: float = 9.0, seeds: int = 3, smoke: bool = False) -> None:
    """Measure.

    Args:
        archive: A tar file with train/<class>/*.jpg and test/<class>/*.jpg.
        out: Where records and pages go.
        minutes: When to stop; runs are saved then.
        seeds: Runs of each network.
        smoke: Small, on a processor.
    """
    end = time.monotonic() + 60 * minutes
    device = "cpu" if smoke else "cuda"
    out.mkdir(parents=True, exist_ok=True)
    if not DATA.exists():
        unpack(archive, 20 if smoke else None)
    speed = ["--device", device, "--out", str(out / "training-gpu")]
    deep = ["--network", "cifar_resnet1202", "--no-peers", "--rounds", "2", "--out", str(out / "resnet1202-gpu")]
    if smoke:
        speed += ["--no-peers", "--rounds", "1", "--seconds", "0.1", "--batch-size", "8", "--images", "64"]
        deep[1] = "cifar_resnet8"
        deep += ["--seconds", "0.1", "--batch-size", "8", "--images", "64"]
    else:
        speed += ["--steps", "64000", "--images", "50000", "--workers", "14", "--rounds", "6", "--seconds", "1"]
        deep += ["--steps", "64000", "--device", "cuda", "--ways", "deep"]
    within(end, [sys.executable, "-m", "pytest", "-q", "tests/training/test_captured.py"])
    detection(out, end, device, smoke)
    if not (out / "training-gpu.json").exists():
        within(end, [sys.executable, "-m", "benchmarks.training", *speed])
    figure = ["reproduce", "figure6", "--scale", "full", "--data", str(DATA), "--device", device]
    figure += ["--set", "precision=bfloat16", "--seeds", str(seeds)]
    if smoke:
        figure += ["--iterations", "4"]
    for networks in (NETWORKS[2:] if smoke else NETWORKS, () if smoke else NETWORKS + REST):
        if networks:
            within(end, [*RESNETLAB, *figure, "--networks", *networks])
    if not (out / "resnet1202-gpu.json").exists():
        within(end, [sys.executable, "-m", "benchmarks.training", *deep])
    for found in Path(f"runs/figure6-{DATA.stem}").glob("figure6.*"):
        shutil.copy(found, out)
    print(*sorted(path.name for path in out.iterdir()))


def detection(out: Path, end: float, device: str, smoke: bool) -> None:
    """Faster R-CNN against torchvision's, and a detector trained on scenes of digits."""
    speed = ["--device", device, "--out", str(out / "detection-gpu")]
    if smoke:
        speed += ["--networks", "resnet18-narrow8", "--size", "96", "128", "--rounds", "1", "--block", "1"]
    else:
        speed += ["--networks", "resnet50", "resnet101", "--size", "600", "800", "--rounds", "6", "--block", "5"]
    if not (out / "detection-gpu.json").exists():
        within(end, [sys.executable, "-m", "benchmarks.detection", *speed])
    network = "resnet18-narrow8" if smoke else "resnet18-narrow4"
    training = ["train", "--data", "digit-scenes", "--network", network, "--device", device]
    training += ["--out", str(out / "digit-scenes"), *(["--iterations", "4", "--threads", "1"] if smoke else [])]
    within(end, [*RESNETLAB, *training])


def unpack(archive: Path, images: int | None) -> None:
    """The archive's images as arrays, so that they are decoded once; `images` of each class and split."""
    folder = DATA.parent / "jpeg"
    with tarfile.open(archive) as file:
        members = [member for member in file.getmembers() if member.isfile()]
        if images is not None:
            members = [member for member in members if int(Path(member.name).stem) < images]
        file.extractall(folder, members, filter="data")
    found = load_folder(folder)
    assert isinstance(found.train, Pixels)
    assert isinstance(found.test, Pixels)
    numbers = [tensor.numpy() for part in (found.train, found.test) for tensor in (part.pixels, part.labels)]
    x_train, y_train, x_test, y_test = numbers
    classes = np.array(found.classes)
    np.savez(DATA, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=classes)
    shutil.rmtree(folder)


def within(end: float, command: list[str]) -> None:
    """Run a command, and ask it to save and stop when time is up."""
    left = end - time.monotonic()
    if left < 5:
        print("no time left for", *command[1:4], flush=True)
        return
    print(f"{left:.0f} s left:", *command[1:], flush=True)
    with subprocess.Popen(command) as process:
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    print("exit status", process.returncode, torch.__version__, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
