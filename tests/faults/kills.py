"""`python -m tests.faults.kills --kills 200`: kill commands at random instants, run them again, compare files."""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from safetensors import safe_open

from tests import processes
from tests.faults import record
from tests.faults.harness import made_base
from tests.faults.subjects import NETWORK

TRAIN = ("train", "--network", NETWORK, "--threads", "1", "--compile", "no", "--batch-size", "8", "--out", "out")
TRAIN += ("--set", "report_every=11")
RUN = ("out/model.safetensors", "out/metrics.jsonl", "out/result.json")
PHOTOS = (*TRAIN, "--data", "photos", "--recipe", "modern-short", "--image-size", "32", "--workers", "1")
VOLATILE = ("date", "finished", "checksum", "environment", "resnetlab", "code", "command", "seconds", "speed")


@dataclass(frozen=True)
class Job:
    """A command in a folder of sound files; `outputs` are there whole or not at all. `row`: kills in a row."""

    name: str
    base: str
    words: tuple[str, ...]
    outputs: tuple[str, ...]
    row: int = 1
    processes: int = 1


JOBS = (
    Job("train, in memory", "arrays", (*TRAIN, "--data", "tiny.npz", "--iterations", "120"), RUN, row=4),
    Job("train, photographs", "photos", (*PHOTOS, "--iterations", "60"), RUN, row=4),
    Job("train, two processes", "photos", (*PHOTOS, "--iterations", "40"), RUN, row=3, processes=2),
    Job("import", "weights", ("import", "theirs.pth", "--out", "i.safetensors"), ("i.safetensors",)),
    Job("export, ONNX", "model", ("export", "model.safetensors", "--to", "onnx", "--out", "o.onnx"), ("o.onnx",)),
    Job("pack", "photos", ("pack", "photos", "--out", "p", "--size", "36", "--workers", "1"),
        ("p/train-00000.tar", "p/test-00000.tar", "p/classes.txt")),
    Job("evaluate", "photos", ("evaluate", "narrow.safetensors", "--data", "photos", "--out", "e", "--threads", "1"),
        ("e/scores.safetensors", "e/predictions.csv", "e/per_class.csv", "e/metrics.json")),
    Job("ensemble", "scores", ("ensemble", "a.safetensors", "b.safetensors", "--out", "c.safetensors"),
        ("c.safetensors",)),
)  # fmt: skip


def evidence(path: Path) -> Any:
    """What a file holds, without what no two runs share; fails if it is not whole."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as content:
            tensors = {key: content.get_tensor(key).numpy().tobytes() for key in content.keys()}  # noqa: SIM118
            said = content.metadata() or {}
            return tensors, {key: _stable(json.loads(text)) for key, text in said.items() if text.startswith("{")}
    if path.suffix == ".json":
        return _stable(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.reader(file))
    if path.suffix == ".onnx":
        import onnx

        onnx.checker.check_model(onnx.load(path))
        return re.sub(rb"20\d\d-\d\d-\d\dT[\d:]+Z", b"", path.read_bytes())
    return path.read_bytes()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(part) for key, part in value.items() if key not in VOLATILE}
    return [_stable(part) for part in value] if isinstance(value, list) else value


def start(job: Job, folder: Path) -> list[processes.Child]:
    """Start the command in its processes; runs save a checkpoint at every step."""
    if job.processes == 2:
        return processes.in_two(processes.command, list(job.words), 0.0, folder=folder)
    return [processes.resnetlab(*job.words, folder=folder, save_every=0.0)]


def finish(job: Job, folder: Path) -> float:
    """Run the command to its end, and return how many seconds that took."""
    began = time.monotonic()
    children = start(job, folder)
    for child in children:
        assert child.wait() == 0, f"{job.name}: {child.text()}"
    return time.monotonic() - began


def killed(job: Job, folder: Path, after: float, random: Random) -> bool:
    """Start the command and kill it after some seconds; whether it was still running."""
    children = start(job, folder)
    time.sleep(after)
    running = [child for child in children if child.running]
    first = running[:] if random.random() < 0.5 else running[:1]  # all at once, or one, and then the other
    for child in first:
        child.send(signal.SIGKILL)
    time.sleep(0.05 * (len(first) < len(running)))
    for child in running:
        child.process.kill()
        child.process.join()
    return bool(running)


def trial(
    job: Job, base: Path, place: Path, random: Random, seconds: float, whole: dict[str, Any]
) -> tuple[int, list[str]]:
    """Kill a command, once or several times in a row, and let it end; how often, and what differs then."""
    folder = place / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base / job.base, folder)
    kills, wrong, left = 0, [], 0.9 * seconds
    for _ in range(job.row):
        after = random.uniform(0.02, left)
        kills += killed(job, folder, after, random)
        left -= after / 2  # a run continues from where it was killed
        for name in job.outputs:
            if name != "out/metrics.jsonl" and (folder / name).exists():  # metrics are added to
                try:
                    evidence(folder / name)
                except Exception as error:
                    wrong.append(f"{name} is not whole after a kill: {error!r}")
    finish(job, folder)
    return kills, wrong + [f"{name} differs" for name in job.outputs if evidence(folder / name) != whole[name]]


def trials(count: int, seed: int, base: Path, place: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Kills of all commands in turn until there are enough: the command, the kills, and what was wrong."""
    random, known = Random(seed), {}
    for job in JOBS:
        folder = place / "whole"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base / job.base, folder)
        finish(job, folder)  # the first child waits for what is imported before all
        shutil.rmtree(folder)
        shutil.copytree(base / job.base, folder)
        seconds = finish(job, folder)
        print(f"{job.name}: {seconds:.1f} s", flush=True)
        known[job.name] = seconds, {name: evidence(folder / name) for name in job.outputs}
    done = 0
    while done < count:
        for job in JOBS:
            kills, wrong = trial(job, base, place, random, *known[job.name])
            done += kills
            yield job.name, kills, wrong


def main() -> int:
    """Kill, compare, and print counts; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="where the sound files are kept")
    parser.add_argument("--record", type=Path, help="write the counts to RECORD.json and .md")
    said = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    counts, wrong = Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        out = (said.out or Path(scratch)).absolute()
        out.mkdir(parents=True, exist_ok=True)
        for name, kills, found in trials(said.kills, said.seed, made_base(out), Path(scratch)):
            counts[name] += kills
            wrong += [f"{name}: {each}" for each in found]
            print(f"{counts.total()} kills; {name}: {'; '.join(found) or 'alike'}", flush=True)
    for name, number in sorted(counts.items()):
        print(f"{name:24} {number:4} kills")
    if said.record:
        record.write_kills(said.record, counts, wrong, {"kills": said.kills, "seed": said.seed})
    print(f"{len(wrong)} differences of {counts.total()} kills")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
