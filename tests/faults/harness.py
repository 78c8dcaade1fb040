"""Damage files at random, read them in forked children, and count what comes of it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from tests.faults.children import BAD, MEGABYTES, SECONDS, Outcome, outcome
from tests.faults.subjects import SUBJECTS, Case, hostile_option, prepared

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
OPTIONS = "options"
OPTIONS_SHARE = 8  # a case in so many is one of options
PRELOADED = (
    "PIL.ImageFile", "google.protobuf.message", "matplotlib.pyplot", "numpy", "onnx", "onnxruntime", "scipy.io",
    "sklearn.datasets", "sklearn.model_selection", "tests.cli.test_options", "torch", "torch.serialization",
    "torchvision",
    "resnetlab.api", "resnetlab.cli.analysing", "resnetlab.cli.comparing", "resnetlab.cli.data",
    "resnetlab.cli.detecting", "resnetlab.cli.embedding", "resnetlab.cli.ensembling", "resnetlab.cli.evaluation",
    "resnetlab.cli.predicting", "resnetlab.cli.reproduce", "resnetlab.cli.terminal", "resnetlab.cli.train",
    "resnetlab.cli.weights", "resnetlab.data.check", "resnetlab.data.near", "resnetlab.data.pack",
    "resnetlab.detection.model", "resnetlab.experiments.catalogue", "resnetlab.experiments.earlier",
    "resnetlab.inference.engines", "resnetlab.inference.explain", "resnetlab.inference.predict",
    "resnetlab.models.caffe", "resnetlab.models.exporting", "resnetlab.report.evaluation_files",
    "resnetlab.report.figures", "resnetlab.cli.reporting", "resnetlab.cli.run_table", "resnetlab.cli.watching",
    "resnetlab.experiments.sections", "resnetlab.report.webpage",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A case by its number, which repeats it, and what came of it."""

    number: int
    subject: str
    file: str
    damage: str
    use: str
    kind: str
    said: str
    seconds: float
    megabytes: int
    bytes: int = 0


def made_base(folder: Path) -> Path:
    """The sound files, made once by another process: this one must compute nothing."""
    base = folder / "base"
    folder.mkdir(parents=True, exist_ok=True)
    if not base.is_dir():
        making = folder / "base.new"
        shutil.rmtree(making, ignore_errors=True)
        command = [sys.executable, "-m", "tests.faults.base", str(making)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        making.rename(base)
    return base


def preload() -> None:
    """Import all that a child needs, so that none of them does."""
    import importlib

    os.environ |= {"COLUMNS": "200", "MPLBACKEND": "agg"}
    for name in PRELOADED:
        importlib.import_module(name)
    from resnetlab.cli import common

    common.console.width = 200


def one(number: int, seed: int, base: Path, place: Path, light: bool = False) -> Result:
    """Make the case of this number, use it, and say what came of it."""
    random = Random(f"{seed} {number}")
    folder, output = place / "case", place / "output"
    shutil.rmtree(folder, ignore_errors=True)
    if number % OPTIONS_SHARE == 0:
        shutil.copytree(base / OPTIONS, folder, copy_function=os.link)
        option = hostile_option(random)
        return _result(
            number,
            OPTIONS,
            "",
            " ".join(option.words),
            "",
            outcome(option, folder, option.names, output, 3 * SECONDS, 10 * MEGABYTES),
        )
    subject = random.choices(SUBJECTS, [each.share(light) for each in SUBJECTS])[0]
    return result_of(number, prepared(subject, base, folder, random), output)


def result_of(number: int, case: Case, output: Path) -> Result:
    """Use a case."""
    found = outcome(case, case.folder, case.names, output)
    size = case.damaged.stat().st_size if case.damaged.is_file() else 0
    use = getattr(case.use, "words", None) or case.use.__qualname__.partition(".")[0]
    name = str(case.damaged.relative_to(case.folder))
    return _result(number, case.subject.name, name, case.said, str(use), found, size)


def _result(number: int, subject: str, file: str, damage: str, use: str, found: Outcome, size: int = 0) -> Result:
    said = asdict(found)
    return Result(
        number, subject, file, damage[:300], use, said.pop("kind"), said.pop("said")[:500], **said, bytes=size
    )


def worker(numbers: Sequence[int], seed: int, light: bool, out: Path, base: Path, place: Path) -> None:
    """Cases one after the other; each is a line, and of a bad one the damaged file is kept."""
    place.mkdir(parents=True, exist_ok=True)
    with (out / f"results-{place.name}.jsonl").open("a") as lines:
        for number in numbers:
            result = one(number, seed, base, place, light)
            lines.write(json.dumps(asdict(result)) + "\n")
            lines.flush()
            if result.kind in BAD and result.file and (place / "case" / result.file).is_file():
                kept = out / "bad" / f"{number}-{Path(result.file).name}"
                kept.parent.mkdir(exist_ok=True)
                shutil.copy(place / "case" / result.file, kept)
    shutil.rmtree(place, ignore_errors=True)


def done(out: Path) -> dict[int, Result]:
    """The results so far, by number."""
    lines = [line for path in sorted(out.glob("results-*.jsonl")) for line in path.read_text().splitlines()]
    found = [Result(**json.loads(line)) for line in lines if line.endswith("}")]
    return {result.number: result for result in found}


def corpus(base: Path, place: Path, light: bool = False) -> Iterator[Result]:
    """Every file that was found, in every way that its kind is used."""
    for number, path in enumerate(sorted(path for path in CORPUS.rglob("*") if path.is_file()), 1):
        kind, _, *parts = path.relative_to(CORPUS).parts
        assert any(subject.kind == kind for subject in SUBJECTS), f"{path} is of no subject"
        for subject in SUBJECTS:
            for use in subject.uses if subject.kind == kind and not (light and subject.heavy) else ():
                folder = place / "case"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(base / subject.base, folder, symlinks=True)
                shutil.copy(path, folder.joinpath(*parts))
                yield result_of(number, Case(subject, use, folder, folder.joinpath(*parts), ""), place / "output")


def run(numbers: Sequence[int], seed: int, light: bool, out: Path, processes: int, scratch: Path) -> list[Result]:
    """The cases that have no result yet, in several processes, with a line of progress now and then."""
    base = made_base(out)
    known = done(out)
    missing = [number for number in numbers if number not in known]
    children = []
    for k in range(processes):
        child = os.fork()
        if not child:
            try:
                worker(missing[k::processes], seed, light, out, base, scratch / f"{k}")
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    began = time.monotonic()
    for child in children:
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            time.sleep(0.2)
            if int(time.monotonic() - began) % 30 == 29:
                _progress(len(done(out)) - len(known), len(missing), began)
                time.sleep(1)
        assert not ended[1], "a worker has ended with an error; see above"
    wanted = set(numbers)
    return [result for number, result in sorted(done(out).items()) if number in wanted]


def _progress(count: int, of: int, began: float) -> None:
    passed = time.monotonic() - began
    left = passed / max(1, count) * (of - count)
    print(f"{count:,} of {of:,} cases, {passed / 60:.0f} min, about {left / 60:.0f} more", flush=True)


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Counts by subject, then the shortest reproduction of each kind of bad outcome and place."""
    by_subject: dict[str, Counter[str]] = {}
    for result in results:
        by_subject.setdefault(result.subject, Counter())[result.kind] += 1
    for name, counts in sorted(by_subject.items()):
        bad = sum(counts[kind] for kind in BAD)
        yield f"{name:32} {counts['answered']:6,} answered {counts['refused']:6,} refused {bad:5,} bad"
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.kind in BAD:
            groups.setdefault((result.kind, re.sub(r"/\S+|\d+", "", result.said)[:150]), []).append(result)
    for (kind, _), found in sorted(groups.items(), key=lambda item: -len(item[1])):
        least = min(found, key=lambda result: (result.bytes, result.number))
        yield f"\n{kind}, {len(found)} times; shortest: --case {least.number} ({least.bytes} bytes)"
        yield f"  {least.subject}: {least.file} {least.damage}; {least.use}"
        yield f"  {least.said}"
    bad = sum(map(len, groups.values()))
    yield f"\n{bad:,} bad of {len(results):,} cases"
