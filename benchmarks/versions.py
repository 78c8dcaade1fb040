"""Speed of this checkout against another checkout of the project, such as a worktree of an earlier commit.

    git worktree add ../before COMMIT
    python -m benchmarks.versions --before ../before --photos photos-300.tar --out results/versions-cpu

Both versions do the same work with as many threads, each in a child process that imports that checkout's package
(see one_version.py). They take turns in short blocks, so that a noisy machine is as noisy for both; a ratio is the
speed of this checkout over the other's in one pair of blocks, by the clock and by the processor's time, which other
programs beside it disturb less. The same program is faster in one process than in another, by where its memory lies,
so the processes are started again several times.
"""

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.writing import show
from resnetlab.training.provenance import environment

HERE = Path(__file__).parents[1]
SIDES = ("before", "after")
UNITS = {  # of each subject in one_version.py: what is done, and images a unit
    "training, CIFAR": ("training ResNet-20, images of 32x32, eager, 128 a step", 128),
    "training, digits": ("training ResNet-20, grey images of 8x8, eager, 128 a step", 128),
    "inference": ("ResNet-18, engine torch, 8 images of 224x224 at a time", 8),
    "ten-crop testing": ("ResNet-18 by ten crops, from photographs to scores", 2),
    "photographs": ("photographs to training batches of 32 crops of 224x224", 32),
}
NEED_PHOTOS = ("ten-crop testing", "photographs")
SAME = 1e-4  # the first unit's result must agree by, relative to it


class Child:
    """One version at one subject, ready to work."""

    def __init__(self, checkout: Path, subject: str, threads: int, photos: Path | None) -> None:
        source = checkout / "src"
        command = [sys.executable, "-P", str(Path(__file__).with_name("one_version.py")), subject, str(threads)]
        variables = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [*command, str(photos or "")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )
        about = self._answer()
        if not Path(about["package"]).is_relative_to(source):
            raise SystemExit(f"{about['package']} was imported, not the package in {source}")
        self.first: float = about["first"]

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def block(self, units: int) -> tuple[float, float]:
        """Seconds by the clock and of the processor that so many units of work take."""
        assert self.process.stdin is not None
        print(units, file=self.process.stdin, flush=True)
        clock, processor = self._answer()
        return clock, processor

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"a child ended with status {self.process.wait()}; its error is above")
        return json.loads(line)


class Blocks:
    """What both versions took for one subject, in pairs of blocks of as many units."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.units = 0
        self.taken: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}

    def add(self, children: dict[str, Child], rounds: int, seconds: float) -> None:
        """Pairs of blocks of about so many seconds, the version that is first in turn."""
        before, after = (children[side].first for side in SIDES)
        if abs(after - before) > SAME * abs(before):
            raise SystemExit(f"{self.subject}: the versions do different work: {before} before, {after} after")
        pilot = sum(child.block(2)[0] for child in children.values()) / 4
        self.units = self.units or max(1, round(seconds / pilot))
        for child in children.values():
            child.block(self.units)  # does not count
        for k in range(rounds):
            for side in SIDES if k % 2 else SIDES[::-1]:
                self.taken[side].append(children[side].block(self.units))

    def record(self) -> dict[str, Any]:
        """All blocks, and what comes of them."""
        images = UNITS[self.subject][1] * self.units
        pairs = list(zip(*(self.taken[side] for side in SIDES), strict=True))
        sides = {
            side: {
                "images_per_second": images / statistics.median(clock for clock, _ in blocks),
                "seconds": [clock for clock, _ in blocks],
                "processor_seconds": [processor for _, processor in blocks],
            }
            for side, blocks in self.taken.items()
        }
        return {
            "units": self.units,
            **sides,
            "ratio": _ratio([old[0] / new[0] for old, new in pairs]),
            "processor_ratio": _ratio([old[1] / new[1] for old, new in pairs]),
        }


def main(
    before: Path,
    photos: Path | None = None,
    starts: int = 4,
    rounds: int = 3,
    seconds: float = 1.5,
    threads: int = 1,
    out: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        before: The other checkout.
        photos: A tar file or folder of photographs; left out, what reads photographs is left out.
        starts: Pairs of processes.
        rounds: Pairs of blocks of each that count.
        seconds: What a block takes, about.
        threads: Of each version.
        out: Where to write the record and its page, without an ending.
    """
    checkouts = {"before": before.resolve(), "after": HERE}
    if not (before / "src" / "resnetlab").is_dir():
        raise SystemExit(f"{before} has no src/resnetlab; expected a checkout of the project")
    subjects = {subject: Blocks(subject) for subject in UNITS if photos or subject not in NEED_PHOTOS}
    for number in range(starts):
        for subject, blocks in subjects.items():
            with ExitStack() as stack:
                children = {
                    side: stack.enter_context(Child(checkouts[side], subject, threads, photos and photos.resolve()))
                    for side in (SIDES if number % 2 else SIDES[::-1])
                }
                blocks.add(children, rounds, seconds)
        print(f"{number + 1} of {starts} starts", flush=True)
    settings = {"starts": starts, "rounds": rounds, "seconds": seconds, "threads": threads}
    record = {
        "settings": settings | {"photos": photos.name if photos else None},
        "environment": environment(torch.device("cpu")) | {"threads": threads, "load": os.getloadavg()[0]},
        "versions": {side: _version(checkout) for side, checkout in checkouts.items()},
        "subjects": {subject: blocks.record() for subject, blocks in subjects.items()},
    }
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    settings, machine, versions = record["settings"], record["environment"], record["versions"]
    lines = [
        "# Speed of two versions",
        "",
        "| work | before, images/s | after, images/s | ratio | range | ratio of processor time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for subject, row in record["subjects"].items():
        what, _ = UNITS[subject]
        speeds = " | ".join(f"{row[side]['images_per_second']:,.1f}" for side in SIDES)
        clock, processor = row["ratio"], row["processor_ratio"]
        span = f"{clock['low']:.2f} to {clock['high']:.2f}"
        lines.append(f"| {what} | {speeds} | {clock['median']:.2f} | {span} | {processor['median']:.2f} |")
    on = f", photographs of {settings['photos']}" if settings["photos"] else ""
    lines += [
        "",
        f"After is {versions['after']}, before is {versions['before']}; a ratio above 1 is faster now. Medians of "
        f"{settings['starts'] * settings['rounds']} pairs of blocks of about {settings['seconds']:g} s, in turn, in "
        f"{settings['starts']} pairs of processes, and the lowest and highest pair of blocks{on}. "
        f"{machine['device']}, {settings['threads']} thread{'s' * (settings['threads'] > 1)}, float32, torch "
        f"{machine['torch']}, load average {machine['load']:.1f} at the end.",
    ]
    return "\n".join(lines) + "\n"


def _ratio(ratios: list[float]) -> dict[str, float]:
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def _version(checkout: Path) -> str:
    """The commit of a checkout, `-dirty` where files were changed since."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    tyro.cli(main)
