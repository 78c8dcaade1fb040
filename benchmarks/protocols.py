"""Images per second of ten-crop and fully convolutional testing, against a literal implementation.

    uv run python -m benchmarks.protocols --photos photos-300.tar --out results/protocols-cpu

The peer takes torchvision's network and transforms as they are, one image and one view at a time. Both read the
same files, with as many threads, in turn and in blocks; a ratio is the median of the ratios block by block. Beside
images a second stand the multiply-adds a second of each, and those that one large convolution reaches here.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import tyro
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from benchmarks.writing import show
from resnetlab.choices import ProtocolName
from resnetlab.data.class_names import imagenet
from resnetlab.data.dataset import Files
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing, open_image
from resnetlab.data.reading import read_each
from resnetlab.data.sources.layouts import find_images
from resnetlab.evaluation.protocol import Protocol, protocol
from resnetlab.evaluation.scores import fast, score
from resnetlab.evaluation.views import SCALES
from resnetlab.models.modelfile import Model
from resnetlab.networks.measure import multiply_adds, on_meta
from resnetlab.networks.resnet import build
from resnetlab.training.provenance import environment

CPU = torch.device("cpu")
CONVOLUTION = (16, 256, 28)  # images, channels in and out, side
Way = Callable[[Files], Tensor]


def main(
    photos: Path,
    network: str = "resnet50",
    images: tuple[int, int] = (16, 4),
    rounds: int = 5,
    threads: int | None = None,
    out: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        photos: A tar file of photographs whose names begin with WordNet ids.
        network: One that torchvision has.
        images: In a block, of ten-crop and of fully convolutional testing.
        rounds: Blocks of each way that count.
        threads: Processor threads; left out, one a core.
        out: Where to write the record and its page, without an ending.
    """
    torch.set_num_threads(threads or torch.get_num_threads())
    theirs = getattr(torchvision.models, network)().eval()
    model = _same(theirs, network)
    split = find_images(photos).all()[1]
    split = split[torch.from_numpy(np.random.default_rng(0).permutation(len(split)))]
    literal: dict[ProtocolName, Way] = {
        "ten-crop": lambda part: _ten_crop(theirs, part),
        "dense": lambda part: _dense(theirs, part),
    }
    rows = [
        _measure(model, protocol(name, model.preprocessing.fit), way, split, count, rounds)
        for (name, way), count in zip(literal.items(), images, strict=True)
    ]
    settings = {"photos": photos.name, "network": network, "rounds": rounds, "threads": torch.get_num_threads()}
    record = {"settings": settings, "environment": environment(CPU), "convolution": _convolution(), "protocols": rows}
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    settings, machine, peak = record["settings"], record["environment"], record["convolution"]
    lines = ["# Testing by the paper's protocols", ""]
    lines += ["| protocol | way | images/s | ratio | multiply-adds/s | of one large convolution's |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for row in record["protocols"]:
        for way, ratio in (("literal", 1.0), ("resnetlab", row["ratio"])):
            work = row[way] * row["multiply_adds"]
            cells = f"{row[way]:.2f} | {ratio:.2f} | {work / 1e9:.0f}e9 | {work / peak:.0%}"
            lines.append(f"| {row['protocol']} | {way} | {cells} |")
    blocks = " and ".join(f"{row['images']} images ({row['protocol']})" for row in record["protocols"])
    images, channels, side = CONVOLUTION
    lines += [
        "",
        f"{settings['network']} on {settings['photos']}; float32, {settings['threads']} threads; medians of "
        f"{settings['rounds']} blocks of {blocks}, in turn. One large convolution (3x3, {channels} to {channels} "
        f"channels on {images} maps of {side}x{side}) reaches {peak / 1e9:.0f}e9 multiply-adds/s here. "
        f"Scores differ by at most {max(row['difference'] for row in record['protocols']):.0e}. "
        f"{machine['device']}, torch {machine['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def _same(theirs: nn.Module, network: str) -> Model:
    """The same weights as a model of ours; scores that are not of one class alone, so that a difference shows."""
    theirs.fc.weight.data.mul_(0.01)  # type: ignore[union-attr, operator]
    version = "v1" if network in ("resnet18", "resnet34") else "v1.5"
    ours = build(network, version=version)  # type: ignore[arg-type]
    ours.load_state_dict(theirs.state_dict())
    preprocessing = Preprocessing.by_channel(Fit.square(256, 224), IMAGENET_MEAN, IMAGENET_STD)
    return Model(ours.eval(), preprocessing, tuple(imagenet()), {})


def _measure(
    model: Model, how: Protocol, literal: Way, split: Files, count: int, rounds: int
) -> dict[str, float | str]:
    network = fast(model, CPU, "float32")

    def ours(part: Files) -> Tensor:
        return how.logits(score(model, how, read_each(part, how.cut), len(part), CPU, network=network)).softmax(1)

    taken: dict[str, list[float]] = {"literal": [], "resnetlab": []}
    work, difference = 0, 0.0
    for number, part in enumerate(_blocks(split, count, rounds + 1)):
        found = []
        for name, way in (("literal", literal), ("resnetlab", ours)):
            begun = time.perf_counter()
            found.append(way(part))
            if number:  # the first warms up
                taken[name].append(time.perf_counter() - begun)
        difference = max(difference, float((found[0] - found[1]).abs().max()))
        work += _work(model, how, part) if number else 0
    ratios = [theirs / own for theirs, own in zip(taken["literal"], taken["resnetlab"], strict=True)]
    return {
        "protocol": how.name,
        "images": count,
        "literal": count / statistics.median(taken["literal"]),
        "resnetlab": count / statistics.median(taken["resnetlab"]),
        "ratio": statistics.median(ratios),
        "multiply_adds": work / (rounds * count),
        "difference": difference,
    }


def _blocks(split: Files, count: int, rounds: int) -> Iterator[Files]:
    for first in range(0, rounds * count, count):
        yield split[torch.arange(first, first + count) % len(split)]


def _work(model: Model, how: Protocol, part: Files) -> int:
    """Multiply-adds of the network over all views."""
    network, total = on_meta(model.network.architecture), 0
    for file in part.files:
        for pixels in how.cut(open_image(file.read(), file.name)):
            views = len(pixels) if pixels.ndim == 4 else 2
            height, width, channels = pixels.shape[-3:]
            total += views * multiply_adds(network, (channels, height, width))
    return total


@torch.inference_mode()
def _ten_crop(network: nn.Module, part: Files) -> Tensor:
    cut = v2.Compose([v2.Resize(256), v2.TenCrop(224)])
    rows = []
    for file in part.files:
        views = cut(open_image(file.read(), file.name).convert("RGB"))
        rows.append(torch.stack([network(_prepared(view))[0].softmax(0) for view in views]).mean(0))
    return torch.stack(rows)


@torch.inference_mode()
def _dense(network: Any, part: Files) -> Tensor:
    rows = []
    for file in part.files:
        image, scores = open_image(file.read(), file.name).convert("RGB"), []
        for side in SCALES:
            scaled = v2.functional.resize(image, [side])
            for view in (scaled, v2.functional.horizontal_flip(scaled)):
                x = network.maxpool(network.relu(network.bn1(network.conv1(_prepared(view)))))
                x = network.layer4(network.layer3(network.layer2(network.layer1(x))))
                x = F.avg_pool2d(x, 7, stride=1).flatten(2)[0].T
                scores.append(network.fc(x).softmax(1).mean(0))
        rows.append(torch.stack(scores).mean(0))
    return torch.stack(rows)


def _prepared(view: Any) -> Tensor:
    pixels = v2.functional.to_dtype(v2.functional.to_image(view), torch.float32, scale=True)
    images: Tensor = v2.functional.normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_STD))
    return images[None]


@torch.inference_mode()
def _convolution() -> float:
    """Multiply-adds a second of one large convolution."""
    images, channels, side = CONVOLUTION
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(images, channels, side, side).to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(30):
        begun = time.perf_counter()
        layer(x)
        seconds.append(time.perf_counter() - begun)
    return images * side * side * channels * channels * 9 / statistics.median(seconds[10:])


if __name__ == "__main__":
    tyro.cli(main)
