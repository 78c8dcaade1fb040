"""8-bit networks: ranges from images, and how often the first class stays what it was."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing
from resnetlab.inference.engines import open_engine
from resnetlab.inference.predict import read_batches, score
from resnetlab.models.modelfile import Model
from resnetlab.models.onnxfile import export_onnx, quantize_onnx

CALIBRATION_IMAGES = 256
COMPARED_IMAGES = 1000
BATCH = 8


@dataclass(frozen=True)
class Agreement:
    """On how many of so many images the 8-bit network's first class is the float32 network's."""

    agreed: int
    images: int

    @property
    def percent(self) -> float:
        """Agreement, percent."""
        return 100 * self.agreed / self.images


def split(images: list[Path]) -> tuple[list[Path], list[Path]]:
    """Images that set the ranges, evenly spread, and others to compare on.

    Raises:
        ResnetlabError: fewer than two images.
    """
    if len(images) < 2:
        raise ResnetlabError(f"{len(images)} image is too few: some set the ranges, and others are compared on")
    step = max(2, -(-len(images) // CALIBRATION_IMAGES))
    others = [path for k, path in enumerate(images) if k % step]
    return images[::step], others[:: -(-len(others) // COMPARED_IMAGES)]


def export_int8(model: Model, path: Path, calibration: Iterable[Path], compared: Iterable[Path]) -> Agreement:
    """Write the model as int8 ONNX, activation ranges from the calibration images; compare it on others.

    Raises:
        ResnetlabError: the `onnx` extra is not installed, or a file is no image.
    """
    with tempfile.TemporaryDirectory() as folder:
        exact, rounded = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        export_onnx(replace(model, trust=model.trust and model.trust.without_distance()), exact)

        def batches() -> Iterator[np.ndarray]:
            for batch in read_batches(model.preprocessing.fit, calibration, BATCH):
                yield np.stack([_image(pixels) for _, pixels in batch])

        quantize_onnx(exact, rounded, batches())
        exactly, roughly = (open_engine(file, "onnxruntime", precision="float32") for file in (exact, rounded))
        paths = list(compared)
        before, after = (
            [_image(logits).argmax() for _, logits in score(engine, paths, BATCH)] for engine in (exactly, roughly)
        )
        with replacing(path) as temporary:
            shutil.copyfile(rounded, temporary)
        return Agreement(sum(int(a == b) for a, b in zip(before, after, strict=True)), len(paths))


def _image(found: np.ndarray | str) -> np.ndarray:
    if isinstance(found, str):
        raise ResnetlabError(found)
    return found
