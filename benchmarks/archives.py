"""Archives of data."""

import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def unpack(archive: Path, folder: Path, members: Iterable[tarfile.TarInfo] | None = None) -> None:
    """Unpack an archive, with Python's filter of dangerous members where there is one (3.11.4 and later)."""
    how: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as tar:
        tar.extractall(folder, members, **how)
