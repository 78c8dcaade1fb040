"""Help: all commands on one screen, and lines as long as the terminal."""

import io
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from resnetlab.cli.command import summaries
from resnetlab.cli.common import console

GROUPS = {
    "See it happen": ("demo", "reproduce", "analyse", "report", "runs", "watch"),
    "Your own images": ("check-data", "pack", "train", "evaluate", "compare", "predict", "detect", "embed", "serve"),
    "Models of others, and for others": ("weights", "import", "export", "ensemble"),
    "Look up": ("networks", "recipes"),
}
ABOUT = (
    "Deep residual learning (He, Zhang, Ren, Sun, 2015): every network, recipe, test protocol, table and figure of "
    "the paper, and ResNets for images of your own."
)
HINTS = (
    "resnetlab COMMAND --help    what a command takes, with an example",
    "resnetlab demo              plain and residual networks on digits, in minutes",
    "resnetlab train photos/     a classifier of a folder of photographs",
)


def print_overview() -> None:
    """Print all commands in groups, a line or two each."""
    width = min(console.width, 100)
    lines = [*textwrap.wrap(ABOUT, width), "", *HINTS]
    longest = max(map(len, summaries))
    for title, names in GROUPS.items():
        lines += ["", title]
        for name in names:
            indent = " " * (longest + 4)
            text = textwrap.fill(summaries[name], width, initial_indent=indent, subsequent_indent=indent)
            lines.append(f"  {name.ljust(longest)}  {text[longest + 4 :]}")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def wrapped() -> Iterator[None]:
    """Break the lines of what is printed that are longer than the terminal; tyro breaks only those in its boxes."""
    printed = io.TextIOWrapper(io.BytesIO(), sys.stdout.encoding, write_through=True)
    try:
        with redirect_stdout(printed):
            yield
    finally:
        printed.seek(0)
        for line in printed.read().splitlines():
            indent = " " * (len(line) - len(line.lstrip()) + 7 * line.startswith("usage: "))
            print(textwrap.fill(line, console.width, subsequent_indent=indent) if line.strip() else line)
