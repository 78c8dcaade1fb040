"""Milliseconds of Faster R-CNN for an image and for a training step, against torchvision's own `FasterRCNN`.

    uv run python -m benchmarks.detection --full --out results/detection-cpu
    uv run python -m benchmarks.detection --device cuda --networks resnet50 resnet101 --size 600 800 \
        --out results/detection-gpu

The peer is torchvision's detector with a copy of our network's parts (benchmarks/peer_detector.py). Ours has the
preset `torchvision`, so both do the same; if what they find or their losses differ, nothing is timed. Both begin with
the 8-bit pixels of images that need no scaling. They take turns, so that a noisy machine is as noisy for each; a
ratio is the median of the ratios turn by turn, with its quartiles. The weights are random, with the batch statistics
of an image, and the last layer is scaled so that there is something to find.
Testing at five scales and RoI pooling are measured on ours alone.
"""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
import tyro
from PIL import Image
from torch import Tensor

from benchmarks.peer_detector import (
    PREPROCESSING,
    as_ours,
    autocast,
    difference_of_scores,
    differences_of_losses,
    made,
    our_detections,
    our_losses,
    peer,
    scene,
    stepping,
    tested,
    their_detections,
    their_losses,
)
from benchmarks.writing import show
from resnetlab.detection.images import Images
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import PRESETS, DetectorOptions, Pooling
from resnetlab.detection.regions import pooled
from resnetlab.detection.stream import collate, read_scene, scaled_fits
from resnetlab.training.provenance import environment

Calls = dict[str, Callable[[], object]]
Size = tuple[int, int]
SCALES = (200, 400, 600, 800, 1000)  # Appendix B
PHOTO = 600, 800  # height and width, for testing at these scales
POOLINGS: tuple[Pooling, ...] = "align", "pool"


@dataclass(frozen=True)
class Turns:
    """How calls are timed: in turns, each of a block of calls."""

    rounds: int
    block: int
    device: torch.device

    def __call__(self, calls: Calls) -> dict[str, dict[str, float]]:
        """Milliseconds of each, and its ratio to the first: how many times faster it is, with quartiles."""
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for k in range(self.rounds + 1):
            for name, call in calls.items():
                _wait(self.device)
                begin = time.perf_counter()
                for _ in range(self.block):
                    call()
                _wait(self.device)
                if k:  # the first warms up
                    seconds[name].append((time.perf_counter() - begin) / self.block)
        first = next(iter(seconds.values()))
        found = {}
        for name, mine in seconds.items():
            ratios = [a / b for a, b in zip(first, mine, strict=True)]
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
            times = {"milliseconds": round(1000 * statistics.median(mine), 2), "ratio": round(middle, 3)}
            found[name] = {**times, "low": round(low, 3), "high": round(high, 3)}
        return found


@dataclass(frozen=True)
class Case:
    """A detector's network, the height and width of images, how many are in a training step, and the turns."""

    network: str
    size: Size
    images: int
    rounds: int
    block: int


FULL = Case("resnet50", (600, 800), images=1, rounds=3, block=1)


def main(
    networks: tuple[str, ...] = ("resnet18-narrow4", "resnet50-narrow4"),
    size: Size = (480, 640),
    images: int = 2,
    rounds: int = 12,
    block: int = 2,
    full: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    out: Path | None = None,
) -> None:
    """Measure and print.

    Args:
        networks: Networks that the detectors are built on.
        size: Height and width of the images.
        images: In a training step.
        rounds: Turns of each that count.
        block: Calls in a turn.
        full: Also ResNet-50 of full width on images of 600x800, in 3 turns of one call.
        device: cpu or cuda.
        threads: Of each detector; left out, one a core.
        out: Where to write the record and its page, without an ending.
    """
    torch.set_num_threads(threads or torch.get_num_threads())
    where = torch.device(device)
    if device == "cuda":  # float32 is float32
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    turns = Turns(rounds, block, where)
    cases = [Case(name, size, images, rounds, block) for name in networks] + [FULL] * full
    record = {
        "settings": {"images": images, "rounds": rounds, "block": block, "full": full},
        "environment": environment(where) | {"device_type": device, "torchvision": torchvision.__version__},
        "detectors": [row for case in cases for row in against_torchvision(case, where)],
        "scales": [several_scales(name, turns) for name in networks],
        "pooling": [by_pooling(name, size, turns) for name in networks],
    }
    show(record, page(record), out)


def against_torchvision(case: Case, device: torch.device) -> list[dict[str, Any]]:
    """An image and a training step by both, if their results are equal."""
    turns = Turns(case.rounds, case.block, device)
    network = made(case.network, DetectorOptions(**PRESETS["torchvision"]), case.size, device)
    scenes = [scene(case.size, seed) for seed in range(case.images)]
    theirs, own = peer(network).to(device), {"resnetlab": network}
    if device.type == "cpu":
        own["resnetlab, fused"] = tested(copy.deepcopy(network))
    same: dict[str, Any] = {"losses": differences_of_losses(network, theirs, scenes, device)}
    for each in (theirs, *own.values()):
        each.eval()
    same["scores"] = max(difference_of_scores(each, theirs, scenes[0], device) for each in own.values())
    found = our_detections(network, scenes[0], device)
    rows = []
    for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        about = {**asdict(case), "precision": precision, "detections": len(found), "differences": same}
        under = partial(autocast, device=device, enabled=precision == "bfloat16")
        calls: Calls = {"torchvision": partial(under(their_detections), theirs, scenes[0], device)}
        calls |= {key: partial(under(our_detections), each, scenes[0], device) for key, each in own.items()}
        rows.append({**about, "what": "an image", "times": turns(calls)})
        calls = {"torchvision": partial(stepping(copy.deepcopy(theirs), under(their_losses)), scenes, device)}
        calls["resnetlab"] = partial(stepping(copy.deepcopy(network), under(our_losses)), scenes, device)
        rows.append(
            {**about, "what": f"a step of {case.images} image{'s' * (case.images > 1)}", "times": turns(calls)}
        )
    return rows


def several_scales(name: str, turns: Turns) -> dict[str, Any]:
    """Testing at one scale and at five, where the head runs at two of them for each region (Appendix B)."""
    device = turns.device
    network = tested(made(name, DetectorOptions(), PHOTO, device))
    photo = Image.fromarray(scene(PHOTO, 0).pixels)
    fits = [PREPROCESSING.fit, *scaled_fits(PREPROCESSING.fit, SCALES)]
    one, *others = (collate([read_scene(photo, fit)], PREPROCESSING.to(device), device) for fit in fits)
    five = replace(one, others=tuple(others))
    calls: Calls = {"one scale": partial(network, one), "five scales": partial(network, five)}
    calls["one scale, shared layers"] = partial(maps, network, [one])
    calls["five scales, shared layers"] = partial(maps, network, others)
    regions = {"one scale": head_regions(network, one), "five scales": head_regions(network, five)}
    return {"network": name, "photo": PHOTO, "scales": SCALES, "regions": regions, "times": turns(calls)}


def by_pooling(name: str, size: Size, turns: Turns) -> dict[str, Any]:
    """RoIAlign and RoI max pooling: of a whole image, and the operation alone."""
    device, calls, regions = turns.device, Calls(), 0
    images = as_ours([scene(size, 0)], device)
    for kind in POOLINGS:
        options = DetectorOptions(pooling=kind)
        network = tested(made(name, options, size, device))
        with torch.no_grad():
            x = network.body.shared(images.pixels)
            logits, deltas = network.proposals(x)
            corners = network.proposals.best(logits[0], deltas[0], network.proposals.grid(x), size).corners
        calls[f"{kind}, whole image"] = partial(network, images)
        calls[f"{kind}, alone"] = partial(pooled, x, [corners], options.pool_size, kind)
        regions = len(corners)
    times = {what: turns({k: call for k, call in calls.items() if what in k}) for what in ("whole", "alone")}
    about = {"network": name, "size": size, "regions": regions, "pool_size": DetectorOptions().pool_size}
    return {**about, "times": times["whole"] | times["alone"]}


@torch.no_grad()
def maps(network: FasterRCNN, several: Sequence[Images]) -> None:
    """The shared layers alone."""
    for images in several:
        network.body.shared(images.pixels)


def head_regions(network: FasterRCNN, images: Images) -> int:
    """How many regions go through the head for an image."""
    counts, head = list[int](), network.body.head

    def counted(x: Tensor) -> Tensor:
        counts.append(len(x))
        return head(x)

    network.body.head = counted  # type: ignore[method-assign]
    network(images)
    del network.body.head
    return sum(counts)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    return "\n".join([*_detectors(record), "", *_scales(record["scales"]), "", *_poolings(record["pooling"])]) + "\n"


def _detectors(record: dict[str, Any]) -> list[str]:
    settings, machine, rows = record["settings"], record["environment"], record["detectors"]
    lines = ["# Speed of detection: Faster R-CNN", ""]
    lines += ["| network | image | time of | detector | ms | ratio | quartiles |", "|" + " --- |" * 7]
    for row in rows:
        what = row["what"] + f", {row['precision']}" * (machine["device_type"] == "cuda")
        where = f"{row['network']} | {row['size'][0]}x{row['size'][1]} | {what}"
        lines += [f"| {where} | {name} | {_cells(cells)} |" for name, cells in row["times"].items()]
    scores = max(row["differences"]["scores"] for row in rows)
    losses = [max(row["differences"]["losses"][k] for row in rows) for k in range(4)]
    several = f", of {FULL.network} {FULL.rounds} of {FULL.block}" if settings["full"] else ""
    return [
        *lines,
        "",
        f"The peer is the `FasterRCNN` of torchvision {machine['torchvision']} with the same layers, weights and "
        "options (our preset `torchvision`). Before, both find the same boxes, with scores that differ by at most "
        f"{scores:.0e}. Losses of proposals differ by at most {max(losses[:2]):.0e} of themselves, those of regions "
        f"by {max(losses[2:]):.0e}, because rounding changes which of them are sampled. From 8-bit pixels; medians "
        f"of {settings['rounds']} turns of {settings['block']} calls{several}; a ratio is how many times faster it "
        f"is than the peer in the same turn. {machine['device']}, {machine['threads']} threads, torch "
        f"{machine['torch']}.",
    ]


def _scales(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## Testing at five scales", ""]
    lines += ["| network | scales | ms | of one scale's | quartiles | regions through the head |", "|" + " --- |" * 6]
    for row in rows:
        for name, cells in row["times"].items():
            lines.append(f"| {row['network']} | {name} | {_share(cells)} | {row['regions'].get(name, '')} |")
    (height, width), scales = rows[0]["photo"], rows[0]["scales"]
    more = sum(side**2 for side in scales) / min(height, width) ** 2
    return [
        *lines,
        "",
        f"An image of {height}x{width} at its own size, and with shorter sides of {', '.join(map(str, scales))}, "
        f"which have {more:.1f} times as many pixels together; the paper's options, at most 300 proposals.",
    ]


def _poolings(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## RoI pooling", "", "| network | pooling | ms | of RoIAlign's | quartiles |", "|" + " --- |" * 5]
    for row in rows:
        lines += [f"| {row['network']} | {name} | {_share(cells)} |" for name, cells in row["times"].items()]
    side, most = rows[0]["pool_size"], max(row["regions"] for row in rows)
    return [*lines, "", f"`align` is RoIAlign, `pool` RoI max pooling, to {side}x{side}, of {most} regions at most."]


def _cells(times: dict[str, float]) -> str:
    return f"{times['milliseconds']:,.1f} | {times['ratio']:.2f} | {times['low']:.2f} to {times['high']:.2f}"


def _share(times: dict[str, float]) -> str:
    """The time over that of the first."""
    share, low, high = (1 / times[key] for key in ("ratio", "high", "low"))
    return f"{times['milliseconds']:,.1f} | {share:.2f} | {low:.2f} to {high:.2f}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    tyro.cli(main)
