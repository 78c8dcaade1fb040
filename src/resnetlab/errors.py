"""Errors that tell the user what to do, and the ways in which a run can end early."""

import difflib
from collections.abc import Iterable


class ResnetlabError(ValueError):
    """A mistake in the input. The message names the file or value, what was expected, and what to do.

    It names options as in Python, in backticks: `batch_size=64`. The command line replaces them by its flags.
    Names and values in it come from files of others, so that control characters are shown as Python writes them.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class FailedElsewhereError(ResnetlabError):
    """Rank 0 failed and has already reported the error."""


class DivergedError(ArithmeticError):
    """The training loss is no longer finite."""


class Interrupted(Exception):  # noqa: N818 -- not an error
    """The run was saved and stopped on request."""


def printable(text: str) -> str:
    """One line without control characters and half of a character, which a terminal obeys or cannot show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def near_matches(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: similar known names, or all known names."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
