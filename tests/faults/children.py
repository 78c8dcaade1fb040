"""Run something in a forked child with limits on memory, time and files, and say what came of it.

The parent must have imported all that is needed, and have computed nothing: threads do not survive a fork.
"""

import json
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20.0
MEGABYTES = 1200  # more than the parent has
LARGEST_FILE = 256 << 20  # bytes
GOOD = ("answered", "refused")
BAD = ("traceback", "hang", "memory", "crash", "wrong", "unclear", "noise", "left behind")
WARNED = re.compile(r"(?<=\w)Warning: |Exception ignored")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Outcome:
    """One of `GOOD` and `BAD`, and what was said."""

    kind: str
    said: str = ""
    seconds: float = 0.0
    megabytes: int = 0


def outcome(
    call: Callable[[], None],
    folder: Path,
    names: tuple[str, ...],
    output: Path,
    seconds: float = SECONDS,
    most: int = MEGABYTES,
) -> Outcome:
    """What comes of a call in a folder; a refusal must name one of `names`. An `AssertionError` is a wrong answer."""
    reading, writing = os.pipe()
    began, size = time.monotonic(), _resident()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(call, folder, names, output, writing)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], seconds)
    said = b""
    while ready and (part := os.read(reading, 1 << 16)):
        said += part
    os.close(reading)
    if not ready:
        _end(child)
    _, status, used = os.wait4(child, 0)
    took, megabytes = time.monotonic() - began, max(0, used.ru_maxrss // 1024 - size)
    if not ready:
        return Outcome("hang", f"after {took:.0f} s: {_last(output)}", took, megabytes)
    if not said:
        return Outcome("crash", f"wait status {status}: {_last(output)}", took, megabytes)
    kind, text = json.loads(said)
    if kind in GOOD and megabytes > most:
        kind, text = "memory", f"{megabytes} MB: {text}"
    return Outcome(kind, text, took, megabytes)


def _child(call: Callable[[], None], folder: Path, names: tuple[str, ...], output: Path, writing: int) -> None:
    """Does not return."""
    try:
        os.setpgid(0, 0)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115 -- until the end
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        limit = _virtual() + (3 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.chdir(folder)
        said = json.dumps(_judged(call, folder, names, output)).encode()
        os.write(writing, said)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _judged(call: Callable[[], None], folder: Path, names: tuple[str, ...], output: Path) -> tuple[str, str]:
    from resnetlab.errors import ResnetlabError

    kind, said = "answered", ""
    try:
        call()
    except ResnetlabError as error:
        sys.stdout.flush()
        sys.stderr.flush()
        kind, said = _refusal(str(error), names, str(error) + output.read_text(errors="replace"))
    except AssertionError as error:
        if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(str(Path(__file__).parent)):
            kind, said = "traceback", _where(error)
        else:
            kind, said = "wrong", str(error)
    except Exception as error:
        kind, said = _raised(error)
    sys.stdout.flush()
    sys.stderr.flush()
    shown = output.read_text(errors="replace")
    if kind in GOOD:
        if warned := WARNED.search(shown):
            kind, said = "noise", shown[max(0, warned.start() - 100) :][:300]
        elif control := CONTROL.search(shown):
            kind, said = "unclear", f"{control[0]!r} is shown: {shown[max(0, control.start() - 100) :][:300]!r}"
        elif left := [str(path) for path in folder.rglob(".*.new")]:
            kind, said = "left behind", ", ".join(left)
    return kind, said


def _raised(error: Exception) -> tuple[str, str]:
    kind = "memory" if isinstance(error, MemoryError) or "allocat" in str(error) else "traceback"
    return kind, _where(error)


def _where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "resnetlab" in f.filename]
    place = "; ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-3:])
    return f"{type(error).__name__}: {str(error)[:200]} at {place}"


def _refusal(message: str, names: tuple[str, ...], shown: str) -> tuple[str, str]:
    """A refusal is one line without control characters, and names what is meant, in it or before."""
    from resnetlab.errors import printable

    if "out of memory" in message and names:
        return "memory", message
    if "\n" in message or CONTROL.search(message):
        return "unclear", f"more than a line, or control characters: {message!r}"
    if names and not any(printable(name) in shown for name in names):
        return "unclear", f"names none of {names}: {message}"
    return "refused", message


def command(*words: str) -> Callable[[], None]:
    """The command with these words, as a call: raises what its exit status stands for."""

    def call() -> None:
        from resnetlab import errors
        from resnetlab.cli import main

        class StatusError(Exception): ...

        sys.argv = ["resnetlab", *words]
        try:
            main()
            return
        except SystemExit as ended:
            status = ended.code
        sys.stdout.flush()
        sys.stderr.flush()
        lines = [line for line in Path("/proc/self/fd/2").resolve().read_text(errors="replace").splitlines() if line]
        if status == 2:
            problem = next((line for line in lines if line.startswith("error: ")), None)
            if problem is None and not any("For full helptext" in line for line in lines):
                raise StatusError(f"status 2 without a message: {lines[-3:]}")
            raise errors.ResnetlabError(problem or " ".join(lines))
        if status == 70:
            log = Path((lines or [""])[-1].rpartition(" ")[2])
            text = log.read_text() if log.is_file() else ""
            log.unlink(missing_ok=True)
            frames = re.findall(r'resnetlab/([\w/]+\.py)", line (\d+)', text)
            place = "; ".join(f"{name}:{line}" for name, line in frames[-3:])
            if "MemoryError" in lines[-1] or "allocat" in lines[-1]:
                raise MemoryError(f"{lines[-1][:200]} at {place}")
            raise StatusError(f"{lines[-1][:300]} at {place}")
        found_something = status == 1 and (words[0] == "check-data" or "training loss is" in " ".join(lines))
        if status not in (0, None) and not found_something:
            raise StatusError(f"status {status}: {lines[-2:]}")

    return call


def _end(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)


def _last(output: Path) -> str:
    return output.read_text(errors="replace")[-300:] if output.exists() else ""


def _resident() -> int:
    """Megabytes."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024  # type: ignore[index]


def _virtual() -> int:
    return int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
