"""What choices change that the paper leaves open: the same network on handwritten digits, trained with each of them.

    python -m benchmarks.choices --out results/choices-digits

All training images and steps are those of `reproduce figure6`; the first row is what `resnetlab` does by default.
"""

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.writing import show
from resnetlab.data.named import DataSource
from resnetlab.networks.architecture import Architecture, parse
from resnetlab.runs.settings import Settings
from resnetlab.runs.several import run_all
from resnetlab.runs.spec import RunSpec, default_recipe
from resnetlab.runs.stored import read_curve
from resnetlab.training.named_recipes import RECIPES
from resnetlab.training.provenance import environment

CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "as it is": ("", {}),
    "weight decay not on batch normalisation": ("", {"decayed": "not-norms"}),
    "weight decay on weights alone": ("", {"decayed": "weights"}),
    "option A pads on both sides": ("-padboth", {}),
    "statistics over all training images": ("", {"exact_statistics": True}),
    "no warm-up": ("", {"warmup_rate": None}),
}
"""What is said of a choice, its words in the network's name, and its fields of the recipe."""


def main(
    network: str = "cifar_resnet56",
    seeds: int = 5,
    jobs: int = 2,
    folder: Path = Path("runs/choices"),
    out: Path | None = None,
) -> None:
    """Train, compare and record; finished runs are not trained again.

    Args:
        network: A network for CIFAR.
        seeds: Runs of each choice.
        jobs: Runs at a time, each with one thread.
        folder: Of the runs.
        out: Where to write the record and its page, without an ending.
    """
    data = DataSource("digits")
    specs: dict[str, RunSpec] = {}
    for choice, (words, changes) in CHOICES.items():
        row: Architecture = parse(network + words)
        recipe = replace(RECIPES[default_recipe(data.name, row)], **changes)
        for seed in range(seeds):
            specs[f"{choice.replace(' ', '-')}-{seed}"] = RunSpec(row, data, recipe, seed)
    for update in run_all(specs, folder, Settings(threads=1), jobs):
        if update.ended:
            print(update.name, update.ended, update.message, flush=True)
    rows = {
        choice: [read_curve(folder / f"{choice.replace(' ', '-')}-{seed}")[-1] for seed in range(seeds)]
        for choice in CHOICES
    }
    record = {
        "network": parse(network).label,
        "environment": environment(torch.device("cpu")),
        "choices": {
            choice: {name: [point[name] for point in points] for name in ("train_error", "test_error")}
            for choice, points in rows.items()
        },
    }
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    lines = [
        f"# What choices change, {record['network']} on digits",
        "",
        "| choice | training error % | test error % |",
        "| --- | --- | --- |",
    ]
    for choice, found in record["choices"].items():
        cells = [f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}" for values in found.values()]
        lines.append(f"| {choice} | {' | '.join(cells)} |")
    seeds = len(record["choices"]["as it is"]["test_error"])
    return "\n".join(lines) + (
        f"\n\nMean and standard deviation of {seeds} seeds; 1,297 training and 500 test images, so that one image is "
        f"0.2 % of test error. {record['environment']['device']}, torch {record['environment']['torch']}.\n"
    )


if __name__ == "__main__":
    tyro.cli(main)
