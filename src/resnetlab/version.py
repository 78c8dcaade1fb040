"""Which version of resnetlab this is."""

from importlib.metadata import PackageNotFoundError, version


def installed() -> str | None:
    """The version of the installed package; None where the sources are run as they are."""
    try:
        return version("resnetlab")
    except PackageNotFoundError:
        return None
