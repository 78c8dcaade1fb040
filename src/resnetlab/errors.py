"""Errors that tell the user what to do, and the ways in which a run can end early."""

import difflib
import unicodedata
from collections.abc import Iterable
from numbers import Integral

DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Controls of the direction of writing, which can make one name look like another."""


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


def refuse_below_one(**counts: object) -> None:
    """Refuse what is no whole number of at least 1; None is not given.

    Raises:
        ResnetlabError: names the option.
    """
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
            raise ResnetlabError(f"`{name}={value!r}`: it must be a whole number of at least 1")


def refuse_other_words(name: str, value: object, words: Iterable[str]) -> None:
    """Refuse what is none of an option's words.

    Raises:
        ResnetlabError: names the option and its words.
    """
    known = list(words)
    if not isinstance(value, str) or value not in known:
        raise ResnetlabError(f"`{name}={shortened(value)}`: it must be one of {', '.join(known)}")


def shortened(value: object) -> str:
    """A value as Python writes it, if that is short; otherwise its type."""
    shown = repr(value)
    return shown if len(shown) < 80 else f"{type(value).__name__} object"


def printable(text: str) -> str:
    """One line without control characters and half of a character, which a terminal obeys or cannot show."""
    return "".join(c.encode("unicode_escape").decode() if _obeyed(c) else c for c in text)


def is_text(text: str) -> bool:
    """Whether all of it can be written in UTF-8; names of files hold other bytes as half characters."""
    return not any(unicodedata.category(c) == "Cs" for c in text)


def _obeyed(character: str) -> bool:
    return character in DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def near_matches(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: similar known names, or all known names."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
