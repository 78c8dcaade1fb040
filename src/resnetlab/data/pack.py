"""Write a smaller copy of a data set as tar shards, which are faster to read."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from resnetlab.data.ahead import in_order
from resnetlab.data.dataset import Dataset, File, Files
from resnetlab.data.decode import read_frame
from resnetlab.data.preprocessing import decoding, open_image
from resnetlab.data.sources.layouts import PACKING
from resnetlab.errors import ResnetlabError
from resnetlab.files import holds_others, read_object, replacing, write_json

SHARD = 10_000  # images
WHOLE = 0.1  # images at most 10 % larger than `size` are copied unchanged


def pack(listing: Dataset, out: Path, size: int, quality: int, threads: int | None = None) -> Iterator[str | None]:
    """Write the images to tar shards (WebDataset layout), with shorter sides scaled down to `size` pixels.

    Yields per image: None, or why it is unreadable and skipped. Images that are not larger are copied unchanged. The
    splits stay the same. Shards are written atomically; after an interruption, the same call continues.

    Raises:
        ResnetlabError: `out` holds other files or a different copy.
    """
    _begin(listing, out, size, quality)
    threads = threads or os.cpu_count() or 1
    for name, split in listing.splits.items():
        assert isinstance(split, Files)  # noqa: S101 -- for the type checker
        for first in range(0, len(split), SHARD):
            part = split[first : first + SHARD]
            path = out / f"{name}-{first // SHARD:05}.tar"
            if path.exists():
                yield from (None for _ in part.files)
            else:
                yield from _shard(part, first, path, size, quality, threads)
    with replacing(out / "classes.txt") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in listing.classes), encoding="utf-8")
    (out / PACKING).unlink(missing_ok=True)


def _begin(listing: Dataset, out: Path, size: int, quality: int) -> None:
    said = {"fingerprint": listing.fingerprint(), "size": size, "quality": quality}
    about = out / "pack.json"
    if not about.exists() and holds_others(out):
        raise ResnetlabError(f"{out} holds other files; give a new folder with `out`")
    if about.exists():
        if read_object(about) != said:
            raise ResnetlabError(
                f"{out} is a copy of other images or with another size or quality; give a new folder with `out`"
            )
        if not (out / PACKING).exists():
            return
    out.mkdir(parents=True, exist_ok=True)
    (out / PACKING).touch()
    write_json(about, said)


def _shard(part: Files, first: int, path: Path, size: int, quality: int, threads: int) -> Iterator[str | None]:
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
    """The encoded image and its suffix."""
    frame = read_frame(data)
    image = open_image(data, name)  # decode all of it, so that damaged files are not copied
    if frame and min(image.size) <= size * (1 + WHOLE):
        return data, "jpg"
    scale = min(1.0, size / min(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    file = io.BytesIO()
    with decoding(name):  # JPEG takes at most 65,500 pixels a side
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
        resized.save(file, "JPEG", quality=quality)
    return file.getvalue(), "jpg"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))
