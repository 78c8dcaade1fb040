"""The command `resnetlab`."""

import sys

from rich.console import Console

from resnetlab.cli import ensembles, evaluation, folders, networks, reproduce, runs, weights  # noqa: F401 -- each adds its commands
from resnetlab.cli.common import app
from resnetlab.errors import ResnetlabError
from resnetlab.training.distributed import FailedElsewhere
from resnetlab.training.interrupt import Interrupted
from resnetlab.training.loop import DivergedError


def main() -> None:
    """Run the command line; mistakes in the input end in one line and exit status 2."""
    try:
        app.cli(prog="resnetlab", description="Deep residual learning, every network, recipe, table and figure.")
    except FailedElsewhere:
        sys.exit(2)
    except ResnetlabError as error:
        _end(f"error: {error}", 2)
    except DivergedError as error:
        _end(f"error: {error}; the last checkpoint is kept. Try a lower learning rate, in another folder", 1)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        _end(f"error: {error}; what was saved before is kept, and the same command goes on from there", 2)
    except Interrupted as stopped:
        _end(str(stopped), 130)
    except KeyboardInterrupt:
        _end("stopped at once; no file is half-written, and the same command goes on, or starts again", 130)


def _end(message: str, status: int) -> None:
    Console(stderr=True).print(message, highlight=False, soft_wrap=True, markup=False)
    sys.exit(status)
