"""Errors of fine-tuning on few images: by our recipe, by changes of it, and by others' defaults.

    python -m benchmarks.finetuning --archives ARCHIVES --folders FOLDERS --out results/finetuning

All train the same small network on the same images, with as many passes. The weights that training starts from are
made here, on other classes. Each result is written as it is measured; the same command goes on with what is missing.
`--fastai-python` is a Python with fastai, in an environment of its own.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro

from benchmarks.finetuning_data import DATA, STARTING, counts, make_folders
from benchmarks.finetuning_peers import BATCH, NETWORK, SIDE, timm
from benchmarks.writing import write
from resnetlab.models.modelfile import MODEL_FILE
from resnetlab.runs.request import Planned, Request, plan
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.training.provenance import environment
from resnetlab.training.resolve import RecipeOptions

Row = dict[str, Any]
FORMER, OURS, TIMM, FASTAI = "finetune, formerly", "finetune", "timm", "fastai"
COMPARED = FORMER, OURS, TIMM, FASTAI
FORMERLY = (
    "learning_rate=0.01 weight_decay=0.0001 decayed=weights least_area=0.25 augment=none erasing=0 mixup=0 cutmix=0 "
    "label_smoothing=0.1 ema=0.9999"
)
"""What `finetune` said before this measurement; it made 20 passes."""
PASSES = 20
VARIANTS = (
    "",
    "steps=300",
    "steps=600",
    "steps=300 head_rate=10",
    "steps=300 learning_rate=0.003",
    "steps=300 learning_rate=0.03",
    "steps=300 mixup=0.2",
    "steps=300 learning_rate=0.1",
    "steps=300 learning_rate=0.03 head_rate=10",
    "steps=300 learning_rate=0.03 augment=trivial",
    "steps=300 learning_rate=0.03 least_area=0.08",
    "steps=300 learning_rate=0.03 weight_decay=0.001",
    "steps=300 learning_rate=0.03 ema=0",
)
"""Changes of the former recipe. `steps` is the least number of steps: of few images that is more passes."""
STARTS = {"weights": "From weights", "random": "From random weights"}
SEARCHED = "cifar-50", "cifar-250", "hymenoptera"
THREADS = 1
NEVER = 10**9
NOWHERE = Path("none")


@dataclass(frozen=True)
class Job:
    """One training: a recipe (a name of `COMPARED`, or changes of the former recipe) on a data set."""

    data: str
    start: str
    recipe: str
    seed: int


@dataclass(frozen=True)
class Bench:
    """Where things are: the folders of images, the file of weights, a Python with fastai."""

    folders: Mapping[str, Path]
    weights: Path
    fastai_python: Path | None = None
    passes: int | None = None

    def start(self, job: Job) -> Path | None:
        """The weights that it starts from; None for random ones."""
        return self.weights if job.start == "weights" else None

    def planned(self, job: Job, out: Path) -> Planned:
        """Our run; others have the length of `finetune`."""
        options = RecipeOptions(OURS, epochs=self.passes, image_size=SIDE, validation=0.0)
        images = sum(counts(self.folders[job.data])["train"].values())
        changes: dict[str, str] = {}
        if job.recipe not in (OURS, TIMM, FASTAI):
            both = FORMERLY + (" " + job.recipe if job.recipe != FORMER else "")
            changes = dict(each.split("=") for each in both.split())
            steps = max(int(changes.pop("steps", 1)), round((self.passes or PASSES) * images / BATCH))
            options = replace(options, epochs=None, iterations=steps)
        fields = tuple(f"{name}={value}" for name, value in changes.items())
        options = replace(options, fields=(*fields, f"report_every={NEVER}"))
        start = self.start(job) or Path("scratch")
        network = None if job.start == "weights" else NETWORK
        return plan(
            Request(str(self.folders[job.data]), None, network, start, recipe=options, seed=job.seed, out=out)
        )

    def measure(self, job: Job) -> Row:
        """Train and test; errors in percent, seconds of a processor."""
        with TemporaryDirectory() as temporary:
            planned = self.planned(job, Path(temporary) / "run")
            passes = round(planned.spec.recipe.iterations * BATCH / len(planned.dataset.train))
            if job.recipe == TIMM:
                return timm(self.folders[job.data], self.start(job), passes, job.seed)
            if job.recipe == FASTAI:
                return self._fastai(job, passes)
            return _ours(planned)

    def _fastai(self, job: Job, passes: int) -> Row:
        assert self.fastai_python is not None
        weights = self.start(job)
        asked = {"folder": str(self.folders[job.data]), "weights": weights and str(weights)}
        asked |= {"passes": passes, "seed": job.seed}  # type: ignore[dict-item]
        command = [str(self.fastai_python), "-m", "benchmarks.finetuning_peers", json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        found: Row = json.loads(done.stdout.splitlines()[-1])
        return found


def main(
    folders: Path,
    out: Path,
    archives: Path | None = None,
    seeds: int = 3,
    variants: tuple[str, ...] = VARIANTS,
    data: tuple[str, ...] = tuple(DATA),
    starts: tuple[str, ...] = tuple(STARTS),
    compared: tuple[str, ...] = COMPARED,
    passes: int | None = None,
    starting_passes: int = 10,
    fastai_python: Path | None = None,
) -> None:
    """Measure, or go on, and write the record and its page.

    Args:
        folders: Where the folders of images and the weights are, or are made.
        out: Where to write the record and its page, without an ending.
        archives: The folder with `cifar10-jpeg.tar.xz`, `hymenoptera.tar` and `bccd.tar.xz`; without it the folders
            are taken as they are.
        seeds: Trainings of each of the compared recipes.
        variants: Changes of the former recipe, which seed 0 trains from the weights; none skips the search.
        data: Which data sets.
        starts: From weights, or random ones.
        compared: Which recipes are compared.
        passes: Passes over the images, in place of the recipes'.
        starting_passes: Those of the weights that training starts from.
        fastai_python: A Python with fastai; without it fastai is not measured.
    """
    torch.set_num_threads(THREADS)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    places = make_folders(archives, folders) if archives else {name: folders / name for name in (*data, STARTING)}
    record = _opened(out.with_suffix(".json"))
    weights, record["weights"] = _weights(places[STARTING], folders / "start", starting_passes)
    record["data"] = {name: counts(places[name]) for name in data}
    bench = Bench(places, weights, fastai_python, passes)
    jobs = [Job(name, "weights", text, 0) for text in variants for name in data if name in SEARCHED]
    recipes = [name for name in compared if name != FASTAI or fastai_python]
    jobs += [
        Job(name, start, recipe, seed) for start, seed, name, recipe in product(starts, range(seeds), data, recipes)
    ]
    done = {Job(**{name: row[name] for name in ("data", "start", "recipe", "seed")}) for row in record["rows"]}
    for number, job in enumerate(jobs, 1):
        if job in done:
            continue
        found = _equal(record["rows"], job, bench) or bench.measure(job)
        if "version" in found:
            record["fastai"] = found["version"]
        numbers = {"error": round(found["error"], 3), "seconds": round(found["seconds"], 1), "steps": found["steps"]}
        record["rows"].append(asdict(job) | numbers)
        write(record, page(record), out)
        print(f"{number} of {len(jobs)}", record["rows"][-1], time.strftime("%H:%M:%S"), flush=True)
    write(record, page(record), out)
    print(page(record))


def _equal(rows: list[Row], job: Job, bench: Bench) -> Row | None:
    """The result of an equal training: `steps` changes nothing where there are enough images."""
    if job.recipe in COMPARED:
        return None
    steps = bench.planned(job, NOWHERE).spec.recipe.iterations
    same = {"data": job.data, "start": job.start, "seed": job.seed, "steps": steps}
    changes = _without_steps(job.recipe)
    found = (row for row in rows if row["recipe"] not in COMPARED and _without_steps(row["recipe"]) == changes)
    return next((row for row in found if same.items() <= row.items()), None)


def _without_steps(changes: str) -> list[str]:
    return [each for each in changes.split() if not each.startswith("steps=")]


def page(record: Row) -> str:
    """The record as Markdown."""
    machine, rows = record["environment"], record["rows"]
    lines = ["# Fine-tuning on few images", "", *_about(record)]
    for start, title in STARTS.items():
        own = [row for row in rows if row["start"] == start and row["recipe"] in COMPARED]
        names = [name for name in DATA if any(row["data"] == name for row in own)]
        if own:
            lines += ["", f"## {title}", ""]
            lines += ["| recipe | " + " | ".join(DATA[name] for name in names) + " | mean |"]
            lines += ["| --- " * (len(names) + 2) + "|"]
        for recipe in COMPARED:
            these = [row for row in own if row["recipe"] == recipe]
            by_data = [[row for row in these if row["data"] == name] for name in names]
            if all(by_data) and by_data:
                mean = statistics.mean(_error(each) for each in by_data)
                lines += [f"| {recipe} | " + " | ".join(map(_cell, by_data)) + f" | {mean:.1f} |"]
    lines += [*_search(rows), "", f"{machine['device']}, torch {machine['torch']}, {machine['threads']} thread."]
    return "\n".join(lines) + "\n"


def _about(record: Row) -> list[str]:
    weights = record["weights"]
    sizes = (
        f"{DATA[name]}: {sum(parts['train'].values()):,} training and {sum(parts['test'].values()):,} test images"
        for name, parts in record["data"].items()
    )
    return [
        "Test error in percent, mean ± standard deviation over seeds; in brackets the number of seeds, the steps of "
        f"{BATCH} images and the seconds of a processor.",
        "",
        f"- The network is {NETWORK} at {SIDE} pixels.",
        f"- Data: {'; '.join(sizes)}.",
        "- All train on the same images, of which none are held out for validation, with as many passes; "
        f"`{FORMER}` with {PASSES}.",
        f"- The weights are ours: recipe {weights['recipe']}, {weights['passes']} passes over {weights['images']:,} "
        f"images of five other classes of CIFAR-10 (JPEG), {weights['error']:.1f} % error on these. There are no "
        "ImageNet weights here.",
        f"- timm is its training script with its defaults in batches of {BATCH}.",
        "- fastai is `vision_learner` and `fine_tune`, from random weights `fit_one_cycle`, with their defaults and "
        f"its book's augmentation ({record.get('fastai', 'not run')}).",
        "- timm and fastai leave out the last, incomplete batch of a pass by default, and so make fewer steps.",
        f"- `{OURS}` was chosen by the search below, on these test images, which favours it.",
    ]


def _search(rows: list[Row]) -> list[str]:
    """The table of the search."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["recipe"] not in COMPARED:
            found.setdefault(row["recipe"], {})[row["data"]] = row
    names = [name for name in DATA if any(name in by_data for by_data in found.values())]
    if not found:
        return []
    lines = ["", "## The search", ""]
    lines += ["Seed 0, from the weights; each row is the former recipe with these changes.", ""]
    lines += ["| changes | " + " | ".join(DATA[name] for name in names) + " | mean |"]
    lines += ["| --- " * (len(names) + 2) + "|"]
    for text, by_data in found.items():
        cells = [f"{by_data[name]['error']:.1f}" if name in by_data else "" for name in names]
        mean = statistics.mean(row["error"] for row in by_data.values())
        complete = f"{mean:.1f}" if len(by_data) == len(names) else ""
        lines += [f"| {text or 'none'} | " + " | ".join(cells) + f" | {complete} |"]
    return lines


def _error(rows: list[Row]) -> float:
    return float(statistics.mean(row["error"] for row in rows))


def _cell(rows: list[Row]) -> str:
    errors = [row["error"] for row in rows]
    spread = f" ± {statistics.stdev(errors):.1f}" if len(errors) > 1 else ""
    seconds = statistics.mean(row["seconds"] for row in rows)
    return f"{_error(rows):.1f}{spread} ({len(rows)}; {rows[0]['steps']}, {seconds:.0f} s)"


def _ours(planned: Planned) -> Row:
    begun = time.process_time()
    error, steps = _trained(planned), planned.spec.recipe.iterations
    return {"error": error, "seconds": time.process_time() - begun, "steps": steps}


def _weights(folder: Path, out: Path, passes: int) -> tuple[Path, Row]:
    """Our run on other classes, made unless it is there, and what is said of it."""
    options = RecipeOptions("modern-short", epochs=passes, image_size=SIDE, learning_rate=0.1)
    planned = plan(Request(str(folder), None, NETWORK, Path("scratch"), recipe=options, out=out))
    said = {"recipe": "modern-short at rate 0.1", "passes": passes, "images": len(planned.dataset.train)}
    return out / MODEL_FILE, said | {"error": _trained(planned)}


def _trained(planned: Planned) -> float:
    """The test error of a run, in percent; a finished one is left as it is."""
    *_, last = run(planned.spec, planned.folder, Settings(threads=THREADS, workers=1), planned.dataset)
    assert last.test is not None
    return last.test


def _opened(file: Path) -> Row:
    """The record as it is, or a new one."""
    record: Row = json.loads(file.read_text()) if file.exists() else {"rows": []}
    return record | {"environment": environment(torch.device("cpu")), "settings": {"network": NETWORK, "side": SIDE}}


if __name__ == "__main__":
    tyro.cli(main)
