"""Download a file once: with progress, checked by hash, continued where it broke off, never half-written."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from resnetlab.errors import ResnetlabError


def download(url: str, path: Path, md5: str) -> Path:
    """The file at `path`, from `url` if it is not there yet.

    Raises:
        ResnetlabError: no connection, or what came is not the file with this hash; it says what to do by hand.
    """
    if path.exists():
        check(path, md5)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        _fetch(url, part)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ResnetlabError(
            f"could not download {url} ({reason}); try again, or fetch it elsewhere and put it into {path.parent}"
        ) from error
    try:
        check(part, md5)
    except ResnetlabError:
        part.unlink()
        raise
    part.replace(path)
    return path


def check(path: Path, md5: str) -> None:
    """Refuse a file that is not the one with this hash.

    Raises:
        ResnetlabError: names both hashes.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise ResnetlabError(
            f"{path} is damaged or another file: its MD5 is {found}, expected {md5}; delete it and try again"
        )


def _fetch(url: str, part: Path) -> None:
    """Append what is missing of `url` to `part`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        response = urllib.request.urlopen(request, timeout=30)  # noqa: S310 -- the table's own addresses
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing
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
