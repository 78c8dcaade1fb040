"""Test an exported model: what an engine for ONNX files gives, counted as the network itself is."""

from typing import Any

import numpy as np
import torch

from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.class_order import by_name
from resnetlab.evaluation.evaluate import EvaluationSet, Watch
from resnetlab.evaluation.protocol import protocol
from resnetlab.evaluation.scores import Scored, grouped
from resnetlab.inference.engines import Engine


def evaluate_deployed(
    engine: Engine,
    images: EvaluationSet,
    batch_size: int = 8,
    watch: Watch = iter,
    about: dict[str, Any] | None = None,
) -> tuple[Scored, str]:
    """Logits of all images by the centre crop, in their order, and a remark on names of classes.

    Raises:
        ResnetlabError: classes that the model has not, an image that cannot be read, or none that can.
    """
    table, remark = by_name(torch.arange(len(images.classes)), images.classes, engine.classes)
    way, found = protocol("center", engine.fit), dict[int, np.ndarray]()
    rows, columns = engine.fit.crop
    cut = watch(images.cut(way, torch.arange(len(images))))
    for numbers, pixels in grouped(cut, batch_size * rows * columns):
        found |= dict(zip(numbers, engine.run(pixels)[:, : len(engine.classes)], strict=True))
    if not found:
        raise ResnetlabError(f"{images.data}: none of the images can be read")
    read = sorted(found)
    said = {"network": engine.about, "protocol": f"{way.about}, {engine.about}", **images.about(len(read))}
    logits = torch.from_numpy(np.stack([found[number] for number in read]))
    labels, names = table[images.labels][torch.tensor(read)], tuple(images.names[number] for number in read)
    return Scored(logits, labels, names, engine.classes, said | (about or {})), remark
