"""Images per second of ResNet-50 on a processor, and what speed costs in answers.

    uv run python -m benchmarks.inference --out results/inference-cpu

From 8-bit pixels to logits. Torchvision's network as one gets it, and every engine of `resnetlab predict`, take
their turns in short blocks, so that a noisy machine is as noisy for each; a ratio is the median of the ratios block
by block.
The weights are random: speed does not depend on them, but answers do, so `--weights` and `--data` give a trained
network and a data set to count errors on, e.g. a CIFAR ResNet and CIFAR-10's test images.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import tyro
from PIL import Image

from benchmarks.writing import show
from resnetlab.choices import EngineName, EnginePrecision
from resnetlab.data.dataset import Dataset, Pixels
from resnetlab.data.named import load as load_data
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.evaluation.class_order import by_name
from resnetlab.inference.engines import Engine, Run, open_engine
from resnetlab.inference.int8 import CALIBRATION_IMAGES, export_int8
from resnetlab.models.importing import import_weights
from resnetlab.models.modelfile import Model, save
from resnetlab.models.onnxfile import export_onnx
from resnetlab.networks.resnet import build
from resnetlab.training.provenance import environment

ENGINES: list[tuple[EngineName, EnginePrecision]] = [
    ("torch", "auto"),
    ("torch", "float32"),
    ("onnxruntime", "auto"),
    ("openvino", "auto"),
    ("openvino", "float32"),
]
EXACT = ("torch", "float32")
DRAWN = 32  # pictures that set the ranges of the network with random weights


def main(
    rounds: int = 12,
    block: int = 4,
    batch_size: int = 8,
    threads: int | None = None,
    weights: Path | None = None,
    data: str | None = None,
    out: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        rounds: Blocks of each engine that count.
        block: Batches in a block.
        batch_size: Images a batch.
        threads: Of every engine; left out, one a core.
        weights: A file of trained weights, to count wrong answers with.
        data: The data set to count them on; its training images set the ranges of the 8-bit network.
        out: Where to write the record and its page, without an ending.
    """
    threads = threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        answers = _answers(weights, load_data(data), Path(folder), threads) if weights and data else None
        speed = _speed(Path(folder), rounds, block, batch_size, threads)
    settings = {"network": "resnet50", "batch_size": batch_size, "rounds": rounds, "block": block}
    machine = environment(torch.device("cpu")) | {"threads": threads, "libraries": _libraries()}
    record = {"settings": settings, "environment": machine, "speed": speed, "answers": answers}
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    settings, machine, answers = record["settings"], record["environment"], record["answers"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    lines = [
        "# Inference speed, ResNet-50 on images of 224x224",
        "",
        "| engine | images/s | ratio |",
        "| --- | --- | --- |",
    ]
    for name, row in record["speed"].items():
        lines.append(f"| {name} | {row['images_per_second']:.1f} | {row['ratio']:.2f} |")
    lines += [
        "",
        f"From 8-bit pixels to logits, ratios to torchvision's network in the same run: medians of "
        f"{settings['rounds']} blocks of {settings['block']} batches of {settings['batch_size']} images, in turn. "
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, {libraries}.",
    ]
    if answers:
        lines += [
            "",
            f"## Answers of {answers['network']}",
            "",
            f"| engine | errors of {answers['images']:,} | first class as in float32 |",
            "| --- | --- | --- |",
        ]
        lines += [
            f"| {name} | {row['errors']:,} | {100 * row['agreed'] / answers['images']:.1f} % |"
            for name, row in answers["engines"].items()
        ]
        lines += [
            "",
            f"{answers['weights']} on the test images of {answers['data']}; the ranges of int8 are from "
            f"{answers['calibration_images']} of its training images.",
        ]
    return "\n".join(lines) + "\n"


def _speed(folder: Path, rounds: int, block: int, batch_size: int, threads: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = Model(
        build("resnet50", version="v1.5").eval(),
        Preprocessing.by_channel(Fit.square(256, 224), IMAGENET_MEAN, IMAGENET_STD),
        tuple(str(k) for k in range(1000)),
        {},
    )
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, 224, 224, 3), dtype=np.uint8)
    pictures = _written(pixels[np.arange(DRAWN) % batch_size], folder / "drawn")
    engines = _engines(model, pictures, folder / "resnet50", threads)
    runs = {"torchvision, eager": torchvision_eager(model)} | {name: engine.run for name, engine in engines.items()}
    return _in_turn({name: partial(run, pixels) for name, run in runs.items()}, rounds, block, batch_size)


def torchvision_eager(model: Model) -> Run:
    """Torchvision's own network and normalisation, with the model's weights, as one gets it."""
    network = torchvision.models.resnet50().eval()
    network.load_state_dict(model.network.state_dict())
    normalize = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
            logits: np.ndarray = network(normalize(images)).numpy()
            return logits

    return run


def _in_turn(calls: dict[str, Callable[[], object]], rounds: int, block: int, batch_size: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds + 1):
        for name, call in calls.items():
            call()  # after a pause, and for the first time
            begin = time.perf_counter()
            for _ in range(block):
                call()
            if k:
                seconds[name].append((time.perf_counter() - begin) / block)
    peer = next(iter(seconds.values()))
    return {
        name: {
            "images_per_second": round(batch_size / statistics.median(mine), 1),
            "ratio": round(statistics.median([a / b for a, b in zip(peer, mine, strict=True)]), 2),
        }
        for name, mine in seconds.items()
    }


def _engines(model: Model, pictures: list[Path], folder: Path, threads: int) -> dict[str, Engine]:
    """Every engine by its name and the precision that it came to, int8 included."""
    exact, rounded, onnx = folder / "model.safetensors", folder / "int8.onnx", folder / "model.onnx"
    save(model, exact)
    export_onnx(model, onnx)
    export_int8(model, rounded, pictures, pictures[:1])
    opened = {}
    for name, precision in ENGINES:
        engine = open_engine(exact if name == "torch" else onnx, name, precision=precision, threads=threads)
        default = " (the default)" if (name, precision) == ENGINES[0] else ""
        opened[engine.about.partition(", ")[2] + default] = engine
    for name in ("onnxruntime", "openvino"):
        opened[f"{name}, int8"] = open_engine(rounded, name, threads=threads)
    return opened


def _answers(weights: Path, data: Dataset, folder: Path, threads: int) -> dict[str, Any]:
    assert isinstance(data.train, Pixels)
    assert isinstance(data.test, Pixels)
    model = import_weights(weights).model
    step = -(-len(data.train) // CALIBRATION_IMAGES)
    pictures = _written(data.train.pixels[::step].numpy(), folder / "calibration")
    labels = by_name(data.test.labels, data.classes, model.classes)[0].numpy()
    batches = np.array_split(data.test.pixels.numpy(), -(-len(labels) // 64))
    found = {
        name: np.concatenate([engine.run(batch).argmax(1) for batch in batches])
        for name, engine in _engines(model, pictures, folder / "trained", threads).items()
    }
    exact = next(classes for name, classes in found.items() if name.startswith(", ".join(EXACT)))
    return {
        "network": model.network.architecture.label,
        "weights": weights.name,
        "data": data.name,
        "images": len(labels),
        "calibration_images": len(pictures),
        "engines": {
            name: {"errors": int((classes != labels).sum()), "agreed": int((classes == exact).sum())}
            for name, classes in found.items()
        },
    }


def _written(pixels: Iterable[np.ndarray], folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for k, image in enumerate(pixels):
        paths.append(folder / f"{k:05}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def _libraries() -> dict[str, str]:
    import onnxruntime
    import openvino

    found = {"torchvision": torchvision, "onnxruntime": onnxruntime, "openvino": openvino}
    return {name: module.__version__.partition("-")[0] for name, module in found.items()}


if __name__ == "__main__":
    tyro.cli(main)
