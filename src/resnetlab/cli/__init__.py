"""The command `resnetlab`."""

import platform
import sys
import tempfile
import traceback
from importlib.metadata import version
from pathlib import Path

from resnetlab.errors import DivergedError, FailedElsewhereError, Interrupted, ResnetlabError
from resnetlab.version import installed


def _kept_traceback() -> Path:
    """Write the traceback of the current exception to a file, and return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="resnetlab-", suffix=".log", delete=False) as file:
        file.write(f"{sys.argv}\n{traceback.format_exc()}")
    return Path(file.name)


def main() -> None:
    """Run the command line; errors in the input print one line and exit with status 2."""
    # Each module registers its commands, and imports heavy packages only when a command runs
    import tyro

    from resnetlab.cli import (  # noqa: F401
        analysing,
        comparing,
        data,
        detecting,
        embedding,
        ensembling,
        evaluation,
        networks,
        predicting,
        published,
        recipes,
        reproduce,
        train,
        weights,
    )
    from resnetlab.cli.command import app
    from resnetlab.cli.common import complain
    from resnetlab.cli.renamed import renamed

    def end(message: str, status: int) -> None:
        complain(message)
        sys.exit(status)

    if sys.argv[1:] in (["--version"], ["-V"]):
        own = installed() or "not installed"
        print(f"resnetlab {own}, Python {platform.python_version()}, torch {version('torch')}")
        return
    about = "Deep residual learning (He et al., 2015): every network, recipe, table and figure."
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    try:
        app.cli(args=renamed(sys.argv[1:], complain), prog="resnetlab", description=about, config=config)
    except FailedElsewhereError:
        sys.exit(2)
    except ResnetlabError as error:
        end(f"error: {error}", 2)
    except DivergedError as error:
        end(f"error: {error}; the last checkpoint is kept. Try a lower learning rate with another folder", 1)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        end(f"error: {error}; saved files are kept, and the same command continues from there", 2)
    except Interrupted as stopped:
        end(str(stopped), 130)
    except Exception as error:  # a mistake of ours: everything that input can do has its own error
        if isinstance(error, SystemExit):
            raise
        end(f"internal error: {type(error).__name__}: {error}. Please report it with {_kept_traceback()}", 70)
    except KeyboardInterrupt:
        end("stopped at once; all files are complete, and the same command continues or starts again", 130)
