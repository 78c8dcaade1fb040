"""What a user did that cannot work, and what to do instead."""

import difflib
from collections.abc import Iterable


class ResnetlabError(ValueError):
    """A mistake in the input: names the file or value, what was expected, and what to do."""


def near_matches(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: its nearest known names, or else all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
