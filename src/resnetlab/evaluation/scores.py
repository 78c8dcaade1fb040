"""What a model says of every image of a test set, kept so that ensembles are made without running it again."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from resnetlab.choices import TestPrecision
from resnetlab.devices import widened, widest
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.protocol import Protocol
from resnetlab.models import tensorfile
from resnetlab.models.modelfile import Model
from resnetlab.networks.inference import fold_batch_norm, fused
from resnetlab.networks.resnet import ResNet

FORMAT = 2
HEADER = "resnetlab-scores"
SCORES = "scores.safetensors"  # in the folder of an evaluation
WAITING = 1 << 28  # bytes of parts that wait for others of their shape
PIXELS = {"cpu": 10 * 224 * 224, "cuda": 512 * 224 * 224, "mps": 64 * 224 * 224}  # at a time


@dataclass(frozen=True)
class Scored:
    """What a model says of images by one protocol; `names` are the images', in order.

    `logits` are the network's, or, of several views, the logarithm of the mean of their softmax scores: softmax makes
    scores of either, and their order is exact where scores are too small to differ. `about` says of what model, data
    and protocol they are.
    """

    logits: Float32[Tensor, "n classes"]
    labels: Int64[Tensor, "n"]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    about: dict[str, Any]

    @property
    def scores(self) -> Float64[Tensor, "n classes"]:
        """Softmax scores, averaged over the views."""
        return (self.logits.double() / self.temperature).softmax(1)

    def ordered(self, order: Sequence[int]) -> "Scored":
        """The images of these numbers, in this order."""
        which = torch.tensor(order, dtype=torch.int64)
        names = tuple(self.names[k] for k in order)
        return replace(self, logits=self.logits[which], labels=self.labels[which], names=names)

    @property
    def temperature(self) -> float:
        """What the model's logits are divided by before softmax; 1 for averages over views."""
        return float(self.about.get("temperature", 1.0))

    def answers(self, *, calibrated: bool = True) -> Answers:
        """The likeliest classes of each image, and the errors that come of them."""
        temperature = self.temperature if calibrated else 1.0
        return Answers.of_logits(self.logits, self.labels, self.classes, temperature)

    def save(self, path: Path) -> None:
        """Write it as safetensors with a JSON header, whole or not at all."""
        header = {"format": FORMAT, "names": self.names, "classes": self.classes, "about": self.about}
        tensorfile.write(path, HEADER, header, {"logits": self.logits, "labels": self.labels})

    @classmethod
    def load(cls, path: Path) -> "Scored":
        """What `save` wrote, or the scores in a folder of an evaluation.

        Raises:
            ResnetlabError: there are none, or they are damaged.
        """
        file = path / SCORES if path.is_dir() else path
        try:
            said, tensors = tensorfile.read(file, HEADER)
            if (found := said["format"]) not in (1, FORMAT):
                raise ResnetlabError(
                    f"{file} has format {found}; this resnetlab reads 1 to {FORMAT}: use the one that wrote it"
                )
            labels = tensors["labels"]
            logits = tensors["logits"] if found == FORMAT else tensors["scores"].log()  # format 1 has softmax scores
            count, classes = len(said["names"]), len(said["classes"])
            texts = all(isinstance(text, str) for text in (*said["names"], *said["classes"]))
            if not texts or not isinstance(said["about"], dict):
                raise ValueError("its names or classes are not texts, or what it is about is no object")
            if tuple(logits.shape) != (count, classes) or not logits.is_floating_point():
                raise ValueError(f"logits of shape {tuple(logits.shape)} for {count} images and {classes} classes")
            if logits.isnan().any() or (logits.numel() and logits.max(1).values.isinf().any()):
                raise ValueError("some logits are not numbers")  # minus infinity is the logarithm of a score of 0
            if tuple(labels.shape) != (count,) or labels.dtype != torch.int64:
                raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)} for {count} images")
            if count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
                raise ValueError(f"labels from {int(labels.min())} to {int(labels.max())} for {classes} classes")
            return cls(
                logits, labels, tuple(said["names"]), tuple(said["classes"]), said["about"] | {"scores": str(path)}
            )
        except ResnetlabError:
            raise
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResnetlabError(
                f"{file} holds no scores, or is damaged ({error}); "
                "`resnetlab evaluate MODEL --data ... --out FOLDER` writes them"
            ) from error


def score(
    model: Model,
    protocol: Protocol,
    images: Iterable[tuple[int, list[np.ndarray]]],
    count: int,
    device: torch.device,
    *,
    precision: TestPrecision = "float32",
    pixels: int | None = None,
    network: ResNet | None = None,
) -> Float64[Tensor, "count classes"]:
    """What the protocol adds up over the views of each image, by its number, on the device; see `Protocol.logits`.

    Parts of one shape are run together, up to `pixels` pixels of them at a time, whichever images they are of; images
    left out have zeros. `network` is what `fast` made of the model's, if it is there.
    """
    scores_of = protocol.scores(network or fast(model, device, precision), model.preprocessing.to(device))
    total = torch.zeros(count, len(model.classes), dtype=widest(device), device=device)
    in_precision = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(), in_precision:
        for numbers, parts in grouped(images, pixels or PIXELS[device.type]):
            batch = torch.from_numpy(parts).to(device, non_blocking=True)
            index = torch.tensor(numbers, device=device)
            total.index_add_(0, index, widened(scores_of(batch)), alpha=1 / protocol.parts)
    if not total.isfinite().all():
        label = model.network.architecture.label
        raise ResnetlabError(f"{label}: scores are not finite, so weights of the model are damaged or too large")
    return total.clone()


def fast(model: Model, device: torch.device, precision: TestPrecision) -> ResNet:
    """The model's network for testing on a device, with batch normalisation folded, channels last."""
    if device.type == "cpu" and precision == "float32":
        return fused(model.network)
    return fold_batch_norm(model.network).to(device).to(memory_format=torch.channels_last)


def grouped(
    images: Iterable[tuple[int, list[np.ndarray]]], pixels: int, waiting: int = WAITING
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Parts of one shape stacked, with their images' numbers: as many as have `pixels` pixels, one at least.

    Parts wait for others of their shape until `waiting` bytes of them do; then the largest group goes.
    """
    groups: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = defaultdict(list)
    held = 0

    def taken(shape: tuple[int, ...]) -> tuple[list[int], np.ndarray]:
        nonlocal held
        group = groups.pop(shape)
        held -= sum(part.nbytes for _, part in group)
        return [number for number, _ in group], np.stack([part for _, part in group])

    for number, parts in images:
        for part in parts:
            groups[part.shape].append((number, part))
            held += part.nbytes
            per_part = part.size // part.shape[-1]
            if (1 + len(groups[part.shape])) * per_part > pixels:
                yield taken(part.shape)
        while held > waiting:
            yield taken(max(groups, key=lambda shape: len(groups[shape]) * int(np.prod(shape))))
    for shape in sorted(groups):
        yield taken(shape)
