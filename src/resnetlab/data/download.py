"""Download a file with progress; check its hash, resume after an interruption, and never leave a partial file."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from resnetlab.errors import ResnetlabError


def download(url: str, path: Path, digest: str) -> Path:
    """Download `url` to `path` unless the file exists.

    `digest` is as in `check`.

    Raises:
        ResnetlabError: no connection, or the file has another hash; the message says what to do.
    """
    if path.exists():
        check(path, digest)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        _fetch(url, part)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ResnetlabError(
            f"cannot download {url} ({reason}); try again, or put the file into {path.parent} yourself"
        ) from error
    try:
        check(part, digest)
    except ResnetlabError:
        part.unlink()
        raise
    part.replace(path)
    return path


def check(path: Path, digest: str) -> None:
    """Check the hash of a file; `digest` is an algorithm and the first hexadecimal digits, e.g. `sha256:0676ba61`.

    Raises:
        ResnetlabError: the hash differs; the message has both.
    """
    algorithm, expected = digest.split(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if not found.startswith(expected):
        name, shown = algorithm.upper(), found[: max(8, len(expected))]
        raise ResnetlabError(
            f"{path} is damaged: its {name} is {shown}, expected {expected}; delete it and try again"
        )


def _fetch(url: str, part: Path) -> None:
    """Append the missing bytes of `url` to `part`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        response = urllib.request.urlopen(request, timeout=30)  # noqa: S310 -- addresses from our table
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file is complete
            return
        raise
    with response, Progress(*columns, TimeRemainingColumn()) as progress:
        continued = response.status == 206
        length = int(response.headers.get("Content-Length", 0))
        start = have if continued else 0
        task = progress.add_task(url.rsplit("/", 1)[-1], total=start + length or None, completed=start)
        with part.open("ab" if continued else "wb") as file:
            while chunk := response.read(1 << 18):
                file.write(chunk)
                progress.advance(task, len(chunk))
            missing = start + length - file.tell() if length else 0
    if missing > 0:
        raise ConnectionError(f"the connection ended {missing:,} bytes early; what came is kept")
