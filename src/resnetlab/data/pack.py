"""A smaller copy of a data set, made once and read many times faster."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from resnetlab.data.ahead import in_order
from resnetlab.data.decode import read_frame
from resnetlab.data.layouts import PACKING, File, Split
from resnetlab.data.listing import Listing
from resnetlab.data.preprocessing import open_image
from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing, write_json

SHARD = 10_000  # images
WHOLE = 0.1  # of the size: images that are so little larger are kept as they are


def pack(listing: Listing, out: Path, size: int, quality: int, threads: int | None = None) -> Iterator[str | None]:
    """Write tar shards (WebDataset's layout) of the images, their shorter sides scaled down to `size` pixels.

    Yields for each image: None, or why it could not be read and is left out. Images that are not larger are copied as
    they are. The splits are the listing's. Shards appear whole; stopped anywhere, the same call goes on.

    Raises:
        ResnetlabError: `out` holds something else, or another copy.
    """
    _begin(listing, out, size, quality)
    threads = threads or os.cpu_count() or 1
    splits = {"train": listing.train, "validation": listing.validation, "test": listing.test}
    for name, split in splits.items():
        for first in range(0, len(split) if split else 0, SHARD):
            assert split is not None  # noqa: S101 -- for the type checker
            part = Split(split.files[first : first + SHARD], split.labels[first : first + SHARD])
            path = out / f"{name}-{first // SHARD:05}.tar"
            if path.exists():
                yield from (None for _ in part.files)
            else:
                yield from _shard(part, first, path, size, quality, threads)
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in listing.classes))
    (out / PACKING).unlink(missing_ok=True)


def _begin(listing: Listing, out: Path, size: int, quality: int) -> None:
    said = {"fingerprint": listing.fingerprint(), "size": size, "quality": quality}
    about = out / "pack.json"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not about.exists())):
        raise ResnetlabError(f"{out} holds something else; give a new folder with --out")
    if about.exists():
        if json.loads(about.read_text()) != said:
            raise ResnetlabError(f"{out} is a copy of other images, or of another size; give a new folder with --out")
        if not (out / PACKING).exists():
            return
    out.mkdir(parents=True, exist_ok=True)
    (out / PACKING).touch()
    write_json(about, said)


def _shard(part: Split, first: int, path: Path, size: int, quality: int, threads: int) -> Iterator[str | None]:
    def smaller(file: File) -> tuple[bytes, str] | str:
        try:
            return _smaller(file.read(), file.path, size, quality)
        except ResnetlabError as error:
            return str(error)

    with replacing(path) as temporary, tarfile.open(temporary, "w") as tar:
        encoded = in_order(smaller, part.files, threads, 8 * threads)
        for k, (found, label) in enumerate(zip(encoded, part.labels.tolist(), strict=True), first):
            if isinstance(found, str):
                yield found
                continue
            _add(tar, f"{k:08}.{found[1]}", found[0])
            _add(tar, f"{k:08}.cls", str(label).encode())
            yield None


def _smaller(data: bytes, name: str, size: int, quality: int) -> tuple[bytes, str]:
    """The encoded image, and its suffix."""
    frame = read_frame(data)
    image = open_image(data, name)  # wholly, so that no damage is copied
    if frame and min(image.size) <= size * (1 + WHOLE):
        return data, "jpg"
    scale = min(1.0, size / min(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    file = io.BytesIO()
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    resized.save(file, "JPEG", quality=quality)
    return file.getvalue(), "jpg"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))
