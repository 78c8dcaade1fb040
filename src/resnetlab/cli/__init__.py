"""The command `resnetlab`."""

import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from resnetlab.errors import DivergedError, FailedElsewhereError, Interrupted, ResnetlabError, near_matches, printable
from resnetlab.version import installed

CURSOR = "\x1b[?25h"
STOPPED = "stopped at once; all files are complete, and the same command continues or starts again"


def _end_at_once() -> None:
    """Without what Python does at its end; a progress bar has hidden the cursor of a terminal."""
    os.write(2, f"{CURSOR if os.isatty(2) else ''}{STOPPED}\n".encode())
    os._exit(130)


@contextmanager
def _stoppable() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt; a second one, or one during an import, ends the process at once.

    Extension modules that are interrupted while they are imported end in a crash.
    """
    pressed, before = False, signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                _end_at_once()
            frame = frame.f_back
        if pressed:
            _end_at_once()
        pressed = True
        raise KeyboardInterrupt

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if before is signal.default_int_handler:  # once more while the interpreter ends changes nothing
            signal.signal(signal.SIGINT, signal.SIG_IGN if pressed else before)


def _kept_traceback() -> Path:
    """Write the traceback of the current exception to a file, and return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="resnetlab-", suffix=".log", delete=False) as file:
        file.write(f"{sys.argv}\n{traceback.format_exc()}")
    return Path(file.name)


def main() -> None:
    """Run the command line; errors in the input print one line and exit with status 2."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        own = installed() or "not installed"
        print(f"resnetlab {own}, Python {platform.python_version()}, torch {version('torch')}")
        return
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that are no text, and terminals that are not UTF-8
            stream.reconfigure(errors="backslashreplace")
    with _stoppable():
        status, message = _outcome()
        with suppress(OSError):  # what prints can be on the disk that is full
            if message:
                print(printable(message), file=sys.stderr, flush=True)
    if status:
        sys.exit(status)


def _outcome() -> tuple[int, str]:
    """Run the command; its exit status, and what is to be said."""
    as_typed: Callable[[str], str] = str
    try:
        from resnetlab.cli.common import as_flags

        as_typed = as_flags
        _run()
    except FailedElsewhereError:
        return 2, ""
    except ResnetlabError as error:
        return 2, as_typed(f"error: {error}")
    except DivergedError as error:
        return 1, f"error: {error}; the last checkpoint is kept. Try a lower learning rate with another folder"
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        return 2, f"error: {error}; files that were complete are kept, and the same command continues or starts again"
    except Interrupted as stopped:
        return 130, str(stopped)
    except KeyboardInterrupt:
        return 130, STOPPED
    except MemoryError:
        return 2, "error: out of memory. Close other programs, or use fewer --workers, smaller batches or images"
    except Exception as error:  # a mistake of ours: everything that input can do has its own error
        if isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error)):
            return 2, f"error: out of memory: {str(error).splitlines()[0]}. Use smaller batches or images"
        if "torch.distributed" in sys.modules and _is_of_another(error):
            return 2, "error: another process of this run has ended; its message says why"
        return 70, f"internal error: {type(error).__name__}: {error}. Please report it with {_kept_traceback()}"
    return 0, ""


def _is_of_another(error: Exception) -> bool:
    from resnetlab.training.distributed import is_of_another

    return is_of_another(error)


def _run() -> None:
    # Each module registers its commands, and imports heavy packages only when a command runs
    import tyro

    from resnetlab.cli import (  # noqa: F401
        analysing,
        comparing,
        data,
        demo,
        detecting,
        embedding,
        ensembling,
        evaluation,
        networks,
        predicting,
        published,
        recipes,
        reporting,
        reproduce,
        run_table,
        serve,
        train,
        watching,
        weights,
    )
    from resnetlab.cli.command import HELP, app, summaries
    from resnetlab.cli.common import complain
    from resnetlab.cli.helping import print_overview, wrapped
    from resnetlab.cli.renamed import renamed

    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print_overview()
        return
    if not sys.argv[1].startswith("-") and sys.argv[1] not in summaries:
        raise ResnetlabError(f"unknown command {sys.argv[1]!r}: {near_matches(sys.argv[1], sorted(summaries))}")
    about = "Deep residual learning (He et al., 2015): every network, recipe, table and figure."
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    with wrapped() if HELP else nullcontext():
        app.cli(args=renamed(sys.argv[1:], complain), prog="resnetlab", description=about, config=config)
