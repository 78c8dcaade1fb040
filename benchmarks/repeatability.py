"""Whether training twice gives the same bits, with cuDNN as it is and with its deterministic mode, and what it costs.

python -m benchmarks.repeatability --device cuda --out results/repeatability-gpu
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.training import Way, one
from benchmarks.writing import write
from resnetlab.data.dataset import Pixels
from resnetlab.networks.architecture import architecture
from resnetlab.training.loop import State
from resnetlab.training.provenance import environment
from resnetlab.training.recipe import Precision

PRECISIONS: tuple[Precision, ...] = "float32", "bfloat16"


def main(
    network: str = "cifar_resnet20",
    device: str = "cpu",
    steps: int = 300,
    batch_size: int = 128,
    rounds: int = 3,
    compiled: bool = True,
    out: Path | None = None,
) -> None:
    """Train and compare.

    Args:
        network: A network for CIFAR.
        device: cpu or cuda.
        steps: Of each training.
        batch_size: Images a step.
        rounds: How often each is trained.
        compiled: Compile the network.
        out: Where to write the record, without an ending.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()
    where = torch.device(device)
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2000, 32, 32, 3), dtype=torch.uint8, generator=random)
    images = Pixels(pixels, torch.randint(0, 10, (2000,), generator=random))
    rows: list[dict[str, Any]] = []
    for precision in PRECISIONS:
        way = Way(precision, compiled, where.type == "cuda")
        digests: dict[bool, set[str]] = {False: set(), True: set()}
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(rounds):
            for deterministic in digests:
                torch.backends.cudnn.deterministic = deterministic
                state, trainer = one(network, images, batch_size, way, where, seed=0)
                digest, each = trained(state, trainer, steps, where)
                digests[deterministic].add(digest)
                seconds[deterministic].append(each)
        for deterministic in digests:
            row = {"precision": precision, "deterministic": deterministic, "results": len(digests[deterministic])}
            rows.append(row | {"milliseconds": round(1000 * min(seconds[deterministic]), 4)})
            print(rows[-1], flush=True)
    settings = {"network": network, "steps": steps, "batch_size": batch_size, "rounds": rounds, "compiled": compiled}
    record = {"settings": settings, "environment": environment(where), "rows": rows}
    if out:
        write(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    settings, machine = record["settings"], record["environment"]
    label = architecture(settings["network"]).label
    lines = [f"# Is training repeatable? {label}", "", "| precision | cuDNN | different results | ms a step |"]
    lines.append("|" + " --- |" * 4)
    for row in record["rows"]:
        mode = "deterministic" if row["deterministic"] else "as it is"
        lines.append(f"| {row['precision']} | {mode} | {row['results']} | {row['milliseconds']:.3f} |")
    return "\n".join(lines) + (
        f"\n\nEach of {settings['rounds']} trainings of {settings['steps']} steps of {settings['batch_size']} images "
        f"starts alike; results are compared bit for bit. {'Compiled' if settings['compiled'] else 'Not compiled'}; "
        f"captured on a GPU. The time is the least of the later halves. {machine['device']}, torch "
        f"{machine['torch']}.\n"
    )


def trained(state: State, trainer: Iterator[object], steps: int, device: torch.device) -> tuple[str, float]:
    """A digest of the weights after these steps, and the seconds of one of the later half."""
    for _ in islice(trainer, steps // 2):
        pass
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in islice(trainer, steps - steps // 2):
        pass
    digest = hashlib.sha256()
    for value in state.network.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest(), (time.perf_counter() - begin) / (steps - steps // 2)


if __name__ == "__main__":
    tyro.cli(main)
