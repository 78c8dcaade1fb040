"""Full disks, folders that cannot be written, clocks that jump, files that change while they are read, Ctrl-C."""

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests import processes
from tests.faults.harness import made_base
from tests.faults.kills import JOBS, Job, evidence, finish, start

TORN = ("Traceback", "internal error", "Exception ignored")
BY_NAME = {job.name: job for job in JOBS}
OFTEN = ("pack", "import", "ensemble")
"""Commands that are tried in the suite too; the rest, which take seconds each, with `-m slow`."""
each_job = pytest.mark.parametrize(
    "job", [pytest.param(job, id=job.name, marks=() if job.name in OFTEN else pytest.mark.slow) for job in JOBS]
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound files for all commands."""
    return made_base(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Job], dict[str, Any]]:
    """What a command's outputs hold where nothing happens."""
    known: dict[str, dict[str, Any]] = {}

    def of(job: Job) -> dict[str, Any]:
        if job.name not in known:
            folder = tmp_path_factory.mktemp("whole") / "case"
            shutil.copytree(base / job.base, folder)
            finish(job, folder)
            known[job.name] = {name: evidence(folder / name) for name in job.outputs}
        return known[job.name]

    return of


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Callable[[Job], Path]:
    """A copy of a command's files."""

    def of(job: Job) -> Path:
        shutil.copytree(base / job.base, tmp_path / "case")
        return tmp_path / "case"

    return of


def ended(children: list[processes.Child], *statuses: int) -> str:
    """What processes printed, which end with one of these statuses and without a traceback."""
    found = [child.wait() for child in children]
    text = "".join(child.text() for child in children)
    assert set(found) <= set(statuses), text
    assert not any(word in text for word in TORN), text
    return text


def outputs_are_whole(job: Job, folder: Path) -> None:
    """An output is there whole, or not at all; nothing of a write that failed is left."""
    for name in job.outputs:
        if name != "out/metrics.jsonl" and (folder / name).exists():
            evidence(folder / name)
    assert not [path for path in folder.rglob(".*.new") if f".{os.getpid()}." not in path.name]


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of this size that is mounted at a folder; skipped where that is not allowed."""
    folder.mkdir()
    size = f"size={kibibytes}k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


@each_job
def test_a_disk_that_is_full_at_any_write(job: Job, base: Path, whole: Any, tmp_path: Path) -> None:
    """Sizes from nothing to enough; after that there is room, and the same command ends as if nothing had been."""
    tries, full = 3 if job.name in OFTEN else 6, 0
    for k in range(tries):
        with small_disk(tmp_path / f"disk-{k}", 1 << 15) as disk:
            case = disk / "case"
            shutil.copytree(base / job.base, case)
            used = shutil.disk_usage(disk).used // 1024
            remount(disk, f"size={used + 4 + int(400 * (k / tries) ** 2)}k")
            text = ended(start(job, case), 0, 2)
            outputs_are_whole(job, case)
            full += "No space left" in text
            assert "No space left" in text or all((case / name).exists() for name in job.outputs), text
            remount(disk, "size=32m")
            finish(job, case)
            assert {name: evidence(case / name) for name in job.outputs} == whole(job)
    assert full


@each_job
def test_a_folder_that_cannot_be_written(job: Job, base: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 15) as disk:
        shutil.copytree(base / job.base, disk / "case")
        log = tmp_path / "log"
        log.mkdir()
        remount(disk, "ro")
        text = ended([processes.start(in_folder, disk / "case", list(job.words), folder=log)], 2)
        assert "Read-only file system" in text
        assert len(text.splitlines()[-1]) < 400


def in_folder(folder: Path, words: list[str]) -> None:
    os.chdir(folder)
    processes.command(words)


@each_job
def test_a_clock_that_jumps(job: Job, folder: Any, whole: Any) -> None:
    case = folder(job)
    if job.processes == 2:
        children = processes.in_two(with_another_clock, list(job.words), folder=case)
    else:
        children = [processes.start(with_another_clock, list(job.words), folder=case)]
    ended(children, 0)
    assert {name: evidence(case / name) for name in job.outputs} == whole(job)


def with_another_clock(words: list[str]) -> None:
    times = itertools.cycle((0.0, 4e9, 1.7e9, 1e9))
    time.time = lambda: next(times)
    processes.command(words, 0.0)


@each_job
def test_two_at_once(job: Job, folder: Any, whole: Any) -> None:
    """The same command twice at the same time: one of a run is refused, the others write the same."""
    case = folder(job)
    first, second = start(job, case), start(job, case)
    text = ended(first + second, 0, 2)
    assert "in use by another process" in text or all(child.wait() == 0 for child in first + second)
    assert {name: evidence(case / name) for name in job.outputs} == whole(job)


@pytest.mark.parametrize("name", [pytest.param("train, photographs", marks=pytest.mark.slow), "pack", "evaluate"])
def test_images_that_change_while_they_are_read(name: str, folder: Any) -> None:
    job, random = BY_NAME[name], Random(0)
    case = folder(job)
    files = {path: path.read_bytes() for path in (case / "photos").rglob("*.jpg")}
    files[case / "narrow.safetensors"] = (case / "narrow.safetensors").read_bytes()
    for _ in range(2):
        children = start(job, case)
        while any(child.running for child in children):
            path = random.choice(list(files))
            disturb(random, path, files[path])
            time.sleep(0.002)
        ended(children, 0, 2)
        outputs_are_whole(job, case)


def disturb(random: Random, path: Path, content: bytes) -> None:
    kind = random.random()
    if kind < 0.2:
        path.unlink(missing_ok=True)
    elif kind < 0.4 and path.exists():
        os.truncate(path, random.randrange(len(content)))
    elif kind < 0.6:
        path.write_bytes(content[::-1])
    else:
        path.write_bytes(content)


def test_a_run_whose_folder_is_removed(folder: Any) -> None:
    job = BY_NAME["train, in memory"]
    case = folder(job)
    children = start(job, case)
    processes.wait_until(lambda: (case / "out" / "checkpoints").is_dir(), children[0])
    (case / "out").rename(case / "elsewhere")
    text = ended(children, 2)
    assert "out was removed or moved while it was trained, so nothing more is saved in it" in text
    assert "continues" not in text.splitlines()[-1]


@pytest.mark.parametrize("megabytes", [20, 60, 150, 400])
@pytest.mark.parametrize("name", ["evaluate", "pack", "train, photographs"])
@pytest.mark.slow
def test_little_memory(name: str, megabytes: int, folder: Any) -> None:
    job = BY_NAME[name]
    case = folder(job)
    text = ended([processes.start(with_little_memory, megabytes, list(job.words), folder=case)], 0, 2)
    said = "out of memory" in text or "allocate memory" in text
    assert said or all((case / output).exists() for output in job.outputs)
    outputs_are_whole(job, case)


def with_little_memory(megabytes: int, words: list[str]) -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    size = int(next(line.split()[1] for line in lines if line.startswith("VmSize"))) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size + (megabytes << 20),) * 2)
    processes.command(words)


def pressed(words: tuple[str, ...], after: float, case: Path, times: int) -> tuple[int, str]:
    """The exit status and the output of a command in a new interpreter, with Ctrl-C pressed after some seconds."""
    child = subprocess.Popen(
        [sys.executable, "-m", "resnetlab", *words], cwd=case, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    time.sleep(after)
    for _ in range(times):
        child.send_signal(signal.SIGINT)
        time.sleep(0.02)
    text = child.communicate(timeout=60)[0].decode()
    return child.returncode, text


@pytest.mark.parametrize(
    "times", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(5, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", [pytest.param("evaluate", marks=pytest.mark.slow), "train, in memory"])
def test_ctrl_c_in_the_first_seconds(name: str, times: int, folder: Any) -> None:
    job = BY_NAME[name]
    case = folder(job)
    for after in (0.25, 0.5, 0.9, 1.3, 1.8):  # before that, Python itself is starting
        status, text = pressed(job.words, after, case, times)
        assert status in (0, 130), text
        assert not any(word in text for word in TORN), text
        assert len(text.splitlines()) < 30
