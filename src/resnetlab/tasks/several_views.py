"""Predictions under one of the paper's protocols of several views: test-time augmentation."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import torch

from resnetlab.choices import ProtocolName
from resnetlab.evaluation.protocol import protocol
from resnetlab.evaluation.scores import fast, score
from resnetlab.inference.predict import Prediction, Unreadable, read_batches
from resnetlab.models.modelfile import Model

AT_A_TIME = 16  # images


def predict_by_protocol(
    model: Model,
    images: Iterable[Path],
    name: ProtocolName,
    device: torch.device,
    precision: Literal["float32", "bfloat16"] = "float32",
    *,
    top: int = 5,
    workers: int | None = None,
) -> Iterator[Prediction | Unreadable]:
    """The `top` classes of each image by a protocol, in order; unreadable files do not stop the others.

    The softmax scores of several views are averaged, without the temperature, which was fitted to single views.
    """
    way, network = protocol(name, model.preprocessing.fit), fast(model, device, precision)
    for batch in read_batches(way.cut, images, AT_A_TIME, workers):
        read = [(k, parts) for k, (_, parts) in enumerate(batch) if not isinstance(parts, str)]
        total = score(model, way, read, len(batch), device, precision=precision, network=network)
        logits = way.logits(total).cpu().numpy()
        for k, (path, parts) in enumerate(batch):
            if isinstance(parts, str):
                yield Unreadable(path, parts)
            else:
                yield Prediction.of_logits(path, logits[k], model.classes, top)
