"""The classes of image files, decoded by threads while the network runs."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from resnetlab.data.preprocessing import Fit, is_image, read_image
from resnetlab.errors import ResnetlabError
from resnetlab.inference.engines import Engine

AHEAD = 4  # batches that are decoded while one is run


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image and their probabilities, likeliest first."""

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Unreadable:
    """A file that is no image, and why."""

    path: Path
    reason: str


def find_images(places: Iterable[Path]) -> list[Path]:
    """Files as they are given, and the images in folders, at any depth, by name.

    Raises:
        ResnetlabError: a folder without images, or nothing at all.
    """
    found: list[Path] = []
    for place in places:
        inside = sorted(path for path in place.rglob("*") if is_image(path)) if place.is_dir() else [place]
        if not inside:
            raise ResnetlabError(f"{place} has no images; expected files such as .jpg or .png in it")
        found += inside
    if not found:
        raise ResnetlabError("no images are given; name files, or folders of them")
    return found


def predict(
    engine: Engine, paths: Iterable[Path | str], *, top: int = 5, batch_size: int = 8
) -> Iterator[Prediction | Unreadable]:
    """The `top` classes of each image, in the order of the paths; files that are no images do not stop the others.

    Images are prepared as the engine's model wants them, and read ahead by threads; probabilities are of 0 to 1.
    """
    for path, logits in score(engine, map(Path, paths), batch_size):
        if isinstance(logits, str):
            yield Unreadable(path, logits)
            continue
        exponents = np.exp(logits - logits.max())
        order = np.argsort(-logits, kind="stable")[:top]
        shares = exponents[order] / exponents.sum()
        yield Prediction(path, tuple(engine.classes[k] for k in order), tuple(float(share) for share in shares))


def score(engine: Engine, paths: Iterable[Path], batch_size: int = 8) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Logits of each image in order, or the reason why a file is no image."""
    for batch in read_batches(engine.fit, paths, batch_size):
        images = [pixels for _, pixels in batch if not isinstance(pixels, str)]
        logits = iter(engine.run(np.stack(images)) if images else ())
        for path, pixels in batch:
            yield path, pixels if isinstance(pixels, str) else next(logits)


def read_batches(fit: Fit, paths: Iterable[Path], batch_size: int) -> Iterator[list[tuple[Path, np.ndarray | str]]]:
    """Fitted pixels of image files in order and in batches, read ahead by threads."""

    def read(path: Path) -> np.ndarray | str:
        try:
            return fit(read_image(path))
        except ResnetlabError as error:
            return str(error)

    waiting: deque[tuple[Path, Future[np.ndarray | str]]] = deque()
    todo = iter(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            while True:
                more = islice(todo, AHEAD * batch_size - len(waiting))
                waiting.extend([(path, pool.submit(read, path)) for path in more])
                if not waiting:
                    return
                batch = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                yield [(path, future.result()) for path, future in batch]
        finally:
            pool.shutdown(cancel_futures=True)
