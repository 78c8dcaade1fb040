"""Options of earlier versions: they still work, and their new names are printed."""

from collections.abc import Callable, Sequence

from resnetlab.choices import VERSIONS

RENAMED = {
    "--csv": ("--out", ("predict", "detect", "check-data")),
    "--threads": ("--workers", ("check-data", "pack")),
    "--version": ("--stride-on", ("train", "networks", "import")),
}
"""The new name, and the commands, of each old name."""
VALUES: dict[tuple[str, str], str] = {("--version", version): stride for stride, version in VERSIONS.items()}


def renamed(arguments: Sequence[str], tell: Callable[[str], None]) -> list[str]:
    """The arguments with new names; `tell` gets a sentence for each old one."""
    command, found = next(iter(arguments), ""), list[str]()
    previous = ""
    for word in arguments:
        name, sign, value = word.partition("=")
        new, commands = RENAMED.get(name, ("", ()))
        if command in commands:
            found.append(f"{new}{sign}{VALUES.get((name, value), value)}")
            tell(f"{name} is {new} now; the old name still works")
        else:
            found.append(
                VALUES.get((previous, word), word) if command in RENAMED.get(previous, ("", ()))[1] else word
            )
        previous = word
    return found
