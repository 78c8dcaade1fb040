"""An option takes effect or is refused: every option of every command, tried against the same command without it."""

import hashlib
import inspect
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from resnetlab.cli import (
    analysing,
    comparing,
    data,
    demo,
    detecting,
    embedding,
    ensembling,
    evaluation,
    main,
    networks,
    predicting,
    reporting,
    reproduce,
    run_table,
    serve,
    train,
    watching,
    weights,
)
from resnetlab.cli.command import OTHER_NAMES
from resnetlab.cli.renamed import RENAMED
from resnetlab.experiments.overview import Expected
from tests.material import make_all

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train.train,
    "evaluate": evaluation.evaluate,
    "embed": embedding.embed,
    "predict": predicting.predict_,
    "detect": detecting.detect,
    "import": weights.import_,
    "export": weights.export,
    "ensemble": ensembling.ensemble_,
    "networks": networks.networks,
    "check-data": data.check_data,
    "pack": data.pack,
    "report": reporting.report,
    "runs": run_table.runs_,
    "watch": watching.watch,
    "serve": serve.serve,
    "demo": demo.demo,
    "reproduce": reproduce.reproduce,
    "analyse": analysing.analyse,
    "compare": comparing.compare,
}
PHOTOS = ("train", "--data", "photos", "--network", "cifar_resnet8-narrow4", "--recipe", "modern-short")
PHOTOS += ("--image-size", "32", "--batch-size", "8", "--iterations", "2")
ARRAYS = ("train", "--data", "tiny.npz", "--network", "cifar_resnet8-narrow4")
DIGITS = ("train", "--data", "digits", "--network", "cifar_resnet8-narrow4", "--iterations", "2")
EVALUATE = ("evaluate", "model.safetensors", "--data", "photos", "--out", "e")
COMPARE = ("compare", "model.safetensors", "narrow.safetensors", "--data", "photos", "--out", "c.json")
PREDICT = ("predict", "model.safetensors", "photos/test/bee")
IMPORT = ("import", "theirs.pth", "--out", "imported.safetensors")
SCENES = ("train", "--data", "scenes", "--network", "resnet18-narrow16", "--image-size", "64", "--iterations", "2")
MEASURE = ("evaluate", "detector.safetensors", "--data", "scenes", "--out", "e")
DETECT = ("detect", "detector.safetensors", "photos/test/bee", "--out", "boxes.csv", "--score", "0.01")
ANALYSE = ("analyse", "run", "--only", "figure7")
BEFORE: dict[tuple[str, ...], tuple[int, str, Any]] = {}
"""What came of a command without options, which several options are tried against."""
ALIASES = {alias.removeprefix("--") for said in OTHER_NAMES.values() for alias in said.get("aliases", ())}
REFUSED = "refused"
TAKES_EFFECT = "takes effect"

# Of every option: the command without it, the words that it is given by, and what is to happen
CASES: list[tuple[tuple[str, ...], str, tuple[str, ...], str]] = [
    (DIGITS, "data", ("digits",), TAKES_EFFECT),
    (DIGITS, "task", ("detection",), REFUSED),  # it has no boxes
    (SCENES, "task", ("classification",), REFUSED),
    (SCENES, "detector", ("context=yes",), TAKES_EFFECT),
    (DIGITS, "detector", ("context=yes",), REFUSED),
    (SCENES, "image-size", ("96",), TAKES_EFFECT),
    (SCENES, "compile", ("yes",), REFUSED),
    (SCENES, "capture", ("yes",), REFUSED),
    (SCENES, "balance", ("loss",), REFUSED),
    (DIGITS, "network", ("cifar_plain8-narrow4",), TAKES_EFFECT),
    (PHOTOS, "from", ("model.safetensors",), REFUSED),
    (PHOTOS, "from", ("narrow.safetensors",), TAKES_EFFECT),
    (DIGITS, "shortcut", ("B",), TAKES_EFFECT),
    (DIGITS, "stride-on", ("3x3",), REFUSED),
    (("train", "--data", "digits", "--from", "narrow.safetensors"), "shortcut", ("B",), REFUSED),
    (("train", "--data", "photos", "--from", "narrow.safetensors"), "stride-on", ("3x3",), REFUSED),
    (("train", "--data", "photos", "--from", "narrow.safetensors"), "narrow", ("2",), REFUSED),
    (DIGITS, "narrow", ("8",), REFUSED),  # the name says another
    ((*DIGITS[:4], "cifar_resnet8", *DIGITS[5:]), "narrow", ("8",), TAKES_EFFECT),
    (DIGITS, "seed", ("1",), TAKES_EFFECT),
    (DIGITS, "out", ("elsewhere",), TAKES_EFFECT),
    (DIGITS, "on-bad", ("skip",), REFUSED),
    (("train", "--data", "broken", *PHOTOS[3:]), "on-bad", ("skip",), TAKES_EFFECT),
    (DIGITS, "data-dir", ("x",), REFUSED),
    (DIGITS, "tensorboard", (), TAKES_EFFECT),
    (DIGITS, "folds", ("2",), TAKES_EFFECT),
    (DIGITS, "folds", ("1",), REFUSED),
    (SCENES, "folds", ("2",), REFUSED),
    (DIGITS, "group-by", ("0",), REFUSED),  # it has no names
    (PHOTOS, "group-by", ("[0-9]",), REFUSED),  # it has its own split
    ((*PHOTOS, "--validation", "5"), "group-by", ("[0-9]",), TAKES_EFFECT),
    (("train", "--data", "unsplit", *PHOTOS[3:]), "group-by", ("([0-9]).jpg",), TAKES_EFFECT),
    (DIGITS, "lr", ("0.2",), TAKES_EFFECT),
    (DIGITS, "lr", ("0",), REFUSED),
    ((*DIGITS, "--set", "lr=0.2"), "lr", ("0.2",), REFUSED),
    (DIGITS, "weight-decay", ("0.2",), TAKES_EFFECT),
    (DIGITS, "validation", ("0.2",), TAKES_EFFECT),
    (DIGITS, "validation", ("1.5",), REFUSED),
    (DIGITS, "patience", ("1",), REFUSED),  # no validation images
    ((*DIGITS, "--validation", "100"), "patience", ("1",), TAKES_EFFECT),
    (DIGITS, "precision", ("bfloat16",), TAKES_EFFECT),
    ((*ARRAYS, "--iterations", "2"), "batch", ("4",), TAKES_EFFECT),
    ((*ARRAYS, "--iterations", "2"), "imgsz", ("40",), REFUSED),  # arrays keep their size
    (DIGITS, "learning-rate", ("0.2",), TAKES_EFFECT),
    (DIGITS, "recipe", ("cifar",), TAKES_EFFECT),
    (DIGITS, "epochs", ("1",), REFUSED),
    (ARRAYS, "epochs", ("1",), TAKES_EFFECT),
    (ARRAYS, "iterations", ("3",), TAKES_EFFECT),
    (DIGITS, "batch-size", ("64",), TAKES_EFFECT),
    (DIGITS, "image-size", ("16",), REFUSED),
    (PHOTOS, "image-size", ("40",), TAKES_EFFECT),
    (DIGITS, "freeze", ("layer1",), TAKES_EFFECT),
    (PHOTOS, "balance", ("sampling",), TAKES_EFFECT),
    (DIGITS, "balance", ("sampling",), TAKES_EFFECT),
    (DIGITS, "balance", ("loss",), TAKES_EFFECT),
    (DIGITS, "accumulate", ("2",), TAKES_EFFECT),
    (DIGITS, "set", ("normalise=imagenet",), REFUSED),  # grey images
    ((*ARRAYS, "--iterations", "2"), "set", ("normalise=imagenet",), TAKES_EFFECT),
    (DIGITS, "set", ("flip=true",), TAKES_EFFECT),
    (DIGITS, "set", ("colour=0.1",), REFUSED),
    (DIGITS, "set", ("mixup=0.2", "cutmix=1"), TAKES_EFFECT),
    (DIGITS, "set", ("erasing=0.5",), TAKES_EFFECT),
    (DIGITS, "set", ("repeats=4",), TAKES_EFFECT),
    (DIGITS, "set", ("augment=trivial",), REFUSED),
    (PHOTOS, "set", ("augment=trivial",), TAKES_EFFECT),
    (PHOTOS, "set", ("head_rate=10",), REFUSED),
    ((*PHOTOS, "--from", "narrow.safetensors"), "set", ("head_rate=10",), REFUSED),  # its last layer is kept
    (SCENES, "set", ("mixup=0.2",), REFUSED),
    (DIGITS, "device", ("cuda",), REFUSED),
    (DIGITS, "device", ("mps",), REFUSED),
    (DIGITS, "threads", ("3",), TAKES_EFFECT),
    (DIGITS, "workers", ("3",), REFUSED),
    (PHOTOS, "workers", ("3",), TAKES_EFFECT),
    (DIGITS, "compile", ("no",), TAKES_EFFECT),
    (DIGITS, "capture", ("yes",), TAKES_EFFECT),
    (PHOTOS, "capture", ("yes",), REFUSED),
    (DIGITS, "recompute", ("yes",), TAKES_EFFECT),
    (DIGITS, "kernels", ("triton",), REFUSED),  # without a GPU
    (EVALUATE, "protocol", ("ten-crop",), TAKES_EFFECT),
    (EVALUATE, "scales", ("40",), REFUSED),
    ((*EVALUATE, "--protocol", "dense"), "scales", ("40",), TAKES_EFFECT),
    (EVALUATE, "out", ("f",), TAKES_EFFECT),
    (MEASURE, "protocol", ("dense",), REFUSED),
    (MEASURE, "scales", ("40", "64"), TAKES_EFFECT),
    (MEASURE, "detector", ("nms=0.9",), TAKES_EFFECT),
    (MEASURE, "detector", ("context=yes",), REFUSED),  # fixed by the training
    (EVALUATE, "detector", ("nms=0.9",), REFUSED),
    (MEASURE, "with", ("other.safetensors",), TAKES_EFFECT),
    (EVALUATE, "with", ("other.safetensors",), REFUSED),
    (MEASURE, "precision", ("bfloat16",), REFUSED),
    (MEASURE, "batch-size", ("1",), REFUSED),
    (EVALUATE, "data", ("other",), TAKES_EFFECT),
    (EVALUATE, "split", ("train",), TAKES_EFFECT),
    (EVALUATE, "split", ("validation",), REFUSED),
    (EVALUATE, "data-dir", ("x",), REFUSED),
    (("evaluate", "model.safetensors", "--data", "broken", "--out", "e"), "on-bad", ("skip",), TAKES_EFFECT),
    (EVALUATE, "precision", ("bfloat16",), TAKES_EFFECT),
    (EVALUATE, "device", ("cuda",), REFUSED),
    (EVALUATE, "batch-size", ("1",), TAKES_EFFECT),
    (EVALUATE, "threads", ("3",), TAKES_EFFECT),
    (EVALUATE, "workers", ("3",), TAKES_EFFECT),
    (("embed", "model.safetensors", "photos/test/bee", "--out", "f.npz"), "out", ("g.npz",), TAKES_EFFECT),
    (("embed", "model.safetensors", "photos/test/bee", "--out", "f.npz"), "device", ("cuda",), REFUSED),
    (("embed", "model.safetensors", "photos/test/bee", "--out", "f.npz"), "batch-size", ("1",), TAKES_EFFECT),
    (("embed", "model.safetensors", "photos/test/bee", "--out", "f.npz"), "threads", ("3",), TAKES_EFFECT),
    (("embed", "model.safetensors", "photos/test/bee", "--out", "f.npz"), "workers", ("3",), TAKES_EFFECT),
    (("embed", "model.safetensors", "broken/test/ant", "--out", "f.npz"), "on-bad", ("skip",), TAKES_EFFECT),
    (DETECT, "out", ("pictures",), TAKES_EFFECT),
    (DETECT, "out", ("b.csv",), TAKES_EFFECT),
    (DETECT, "out", ("b.json",), TAKES_EFFECT),
    (DETECT, "json", (), TAKES_EFFECT),
    (DETECT, "workers", ("3",), TAKES_EFFECT),
    (("detect", "detector.safetensors", "broken/test/ant"), "on-bad", ("skip",), TAKES_EFFECT),
    (DETECT, "score", ("0.9",), TAKES_EFFECT),
    (DETECT, "detector", ("detections=3",), TAKES_EFFECT),
    (DETECT, "with", ("other.safetensors",), TAKES_EFFECT),
    (DETECT, "device", ("cuda",), REFUSED),
    (DETECT, "scales", ("64", "128"), TAKES_EFFECT),
    (DETECT, "threads", ("3",), TAKES_EFFECT),
    (PREDICT, "out", ("pictures",), REFUSED),  # of a detector only
    (PREDICT, "out", ("p.csv",), TAKES_EFFECT),
    (PREDICT, "out", ("p.json",), TAKES_EFFECT),
    (PREDICT, "csv", ("p.csv",), TAKES_EFFECT),  # the old name
    (PREDICT, "json", (), TAKES_EFFECT),
    (PREDICT, "sort-into", ("sorted",), TAKES_EFFECT),
    (PREDICT, "copy", (), REFUSED),
    ((*PREDICT, "--sort-into", "sorted"), "copy", (), TAKES_EFFECT),
    (PREDICT, "protocol", ("ten-crop",), TAKES_EFFECT),
    ((*PREDICT, "--engine", "onnxruntime"), "protocol", ("ten-crop",), REFUSED),
    ((*PREDICT, "--protocol", "ten-crop"), "batch-size", ("3",), REFUSED),
    (PREDICT, "workers", ("3",), TAKES_EFFECT),
    (("predict", "model.safetensors", "broken/test/ant"), "on-bad", ("skip",), TAKES_EFFECT),
    (("predict", "model.safetensors", "broken/test/ant"), "on-bad", ("stop",), REFUSED),
    (PREDICT, "top", ("2",), TAKES_EFFECT),
    (PREDICT, "engine", ("onnxruntime",), TAKES_EFFECT),
    ((*PREDICT, "--precision", "float32"), "precision", ("bfloat16",), TAKES_EFFECT),
    ((*PREDICT, "--engine", "onnxruntime"), "precision", ("bfloat16",), REFUSED),
    (PREDICT, "device", ("cuda",), REFUSED),
    (PREDICT, "batch-size", ("1",), TAKES_EFFECT),
    (PREDICT, "threads", ("3",), TAKES_EFFECT),
    (IMPORT, "out", ("other.safetensors",), TAKES_EFFECT),
    (IMPORT, "as", ("resnet34",), REFUSED),
    (IMPORT, "shortcut", ("C",), REFUSED),
    (IMPORT, "stride-on", ("3x3",), REFUSED),  # it has no bottlenecks
    (IMPORT, "zero-channels", ("both",), REFUSED),  # its shortcuts are not option A
    (IMPORT, "classes", ("names.txt",), TAKES_EFFECT),
    ((*IMPORT, "--std", "1"), "mean", ("0.5",), TAKES_EFFECT),
    (IMPORT, "std", ("0.5",), TAKES_EFFECT),
    (IMPORT, "resize", ("300",), TAKES_EFFECT),
    (IMPORT, "crop", ("200",), TAKES_EFFECT),
    (IMPORT, "interpolation", ("bicubic",), TAKES_EFFECT),
    (IMPORT, "entry", ("model_ema",), REFUSED),
    (("import", "several.pth", "--out", "i.safetensors"), "entry", ("model",), TAKES_EFFECT),
    (("export", "model.safetensors", "--to", "onnx"), "to", ("timm",), REFUSED),
    (("export", "model.safetensors", "--to", "onnx"), "out", ("o.onnx",), TAKES_EFFECT),
    (("export", "model.safetensors", "--to", "onnx"), "int8", ("photos",), TAKES_EFFECT),
    (("export", "model.safetensors", "--to", "timm"), "int8", ("photos",), REFUSED),
    (("ensemble", "a.safetensors", "b.safetensors"), "choose", ("1",), TAKES_EFFECT),
    (("ensemble", "a.safetensors", "b.safetensors"), "by", ("top-1",), REFUSED),
    (("ensemble", "a.safetensors", "b.safetensors", "--choose", "1"), "by", ("top-1",), TAKES_EFFECT),
    (("ensemble", "a.safetensors", "b.safetensors"), "out", ("c.safetensors",), TAKES_EFFECT),
    (("networks", "resnet18"), "shortcut", ("A",), TAKES_EFFECT),
    (("networks",), "shortcut", ("A",), REFUSED),
    (("networks", "resnet50"), "stride-on", ("3x3",), TAKES_EFFECT),
    (("networks", "resnet50"), "version", ("v1.5",), TAKES_EFFECT),  # the old name
    (("networks", "resnet18"), "stride-on", ("3x3",), REFUSED),
    (("networks", "resnet18"), "image-size", ("128",), TAKES_EFFECT),
    (("networks",), "image-size", ("128",), REFUSED),
    (("check-data", "photos"), "out", ("c.csv",), TAKES_EFFECT),
    (("check-data", "photos"), "out", ("c.json",), TAKES_EFFECT),
    (("check-data", "photos"), "csv", ("c.csv",), TAKES_EFFECT),  # the old name
    (("check-data", "photos"), "workers", ("3",), TAKES_EFFECT),
    (("check-data", "photos"), "threads", ("3",), TAKES_EFFECT),  # the old name
    (("check-data", "photos"), "image-size", ("300",), REFUSED),  # it has no boxes
    (("check-data", "boxes.json"), "image-size", ("300",), TAKES_EFFECT),
    (("check-data", "photos"), "detector", ("preset=coco",), REFUSED),
    (("check-data", "boxes.json"), "detector", ("preset=coco",), TAKES_EFFECT),
    (("check-data", "boxes.json"), "detector", ("score=0.1",), REFUSED),  # it changes no anchor
    (("pack", "photos", "--out", "p"), "out", ("q",), TAKES_EFFECT),
    (("pack", "photos", "--out", "p"), "size", ("36",), TAKES_EFFECT),
    (("pack", "photos", "--out", "p", "--size", "36"), "quality", ("20",), TAKES_EFFECT),
    (("pack", "photos", "--out", "p"), "workers", ("3",), TAKES_EFFECT),
    (("pack", "photos", "--out", "p"), "threads", ("3",), TAKES_EFFECT),  # the old name
    (("pack", "broken", "--out", "p"), "on-bad", ("skip",), TAKES_EFFECT),
    (("pack", "photos", "--out", "p"), "group-by", ("([0-9]).jpg",), REFUSED),  # it has its own split
    (("pack", "unsplit", "--out", "p"), "group-by", ("([0-9]).jpg",), TAKES_EFFECT),
    ((*PREDICT, "--protocol", "ten-crop"), "explain", ("why",), REFUSED),
    (PREDICT, "explain", ("photos",), REFUSED),  # the images are there
    (("export", "model.safetensors", "--to", "torchvision"), "out", ("model.safetensors",), REFUSED),
    (("export", "model.safetensors", "--to", "onnx"), "out", ("photos",), REFUSED),
    (PREDICT, "explain", ("why",), TAKES_EFFECT),
    (PREDICT, "unsure", ("0.9",), TAKES_EFFECT),
    (PREDICT, "unsure", ("1.5",), REFUSED),
    (COMPARE, "protocol", ("ten-crop",), TAKES_EFFECT),
    (("compare", "a", "b"), "protocol", ("ten-crop",), REFUSED),
    (COMPARE, "out", ("d.json",), TAKES_EFFECT),
    (COMPARE, "data", ("other",), TAKES_EFFECT),
    (COMPARE, "split", ("train",), TAKES_EFFECT),
    (COMPARE, "data-dir", ("x",), REFUSED),
    ((*COMPARE[:4], "broken"), "on-bad", ("skip",), TAKES_EFFECT),
    (COMPARE, "precision", ("bfloat16",), TAKES_EFFECT),
    (COMPARE, "device", ("cuda",), REFUSED),
    (COMPARE, "batch-size", ("1",), TAKES_EFFECT),
    (COMPARE, "threads", ("3",), TAKES_EFFECT),
    (COMPARE, "workers", ("3",), TAKES_EFFECT),
    (ANALYSE, "only", ("overfit",), TAKES_EFFECT),
    (ANALYSE, "out", ("a",), TAKES_EFFECT),
    (ANALYSE, "data", ("photos",), REFUSED),  # it was trained on other data
    (ANALYSE, "images", ("150",), TAKES_EFFECT),
    (ANALYSE, "surface", ("3",), REFUSED),  # it is for landscape
    (ANALYSE, "device", ("cuda",), REFUSED),
    (ANALYSE, "threads", ("3",), TAKES_EFFECT),
    (ANALYSE, "workers", ("3",), TAKES_EFFECT),
]
RECORD = str(Path(__file__).parents[2] / "results" / "figure6-digits" / "figure6.json")
CASES += [
    (("report", "run", "--no-evaluate", "--no-estimate"), "out", ("r",), TAKES_EFFECT),
    (("report", "run", "--no-estimate"), "no-evaluate", (), TAKES_EFFECT),
    (("report", "run", RECORD, "--no-evaluate"), "no-estimate", (), TAKES_EFFECT),
]
ELSEWHERE = {
    "reproduce": "tests/experiments/test_catalogue.py, entry by entry",
    "serve": "tests/serving/test_serving.py",
} | dict.fromkeys(("runs", "watch", "demo"), "tests/cli/test_looking.py")


def options(kind: Any) -> Iterator[str]:
    """The options of a command, as they are typed."""
    hints = get_type_hints(kind, include_extras=False)
    names = [f.name for f in fields(kind)] if is_dataclass(kind) else list(inspect.signature(kind).parameters)
    for name in names:
        if is_dataclass(hints[name]):
            yield from options(hints[name])
        else:
            positional = not is_dataclass(kind) and (
                inspect.signature(kind).parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY
            )
            if not positional:
                is_on = not is_dataclass(kind) and inspect.signature(kind).parameters[name].default is True
                known = OTHER_NAMES.get((kind, name), {}).get("name", name.rstrip("_"))
                yield "no-" * is_on + known.replace("_", "-")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ELSEWHERE])
def test_every_option_is_tried(name: str) -> None:
    old = {flag.removeprefix("--") for flag, (_, commands) in RENAMED.items() if name in commands}
    tried = {option for words, option, _, _ in CASES if words[0] == name}
    assert tried - ALIASES - old == set(options(COMMANDS[name]))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and models of every kind that a command takes, small."""
    folder = tmp_path_factory.mktemp("material")
    make_all(folder)
    return folder


@pytest.fixture
def outcome(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, tuple[str, ...]], tuple[int, str, object]]:
    """Exit status, what was printed, and all that came of a command: files, threads, sizes of batches."""
    monkeypatch.setattr(train, "_show", lambda *arguments: None)
    monkeypatch.setattr(train, "_show_folds", lambda *arguments: None)
    monkeypatch.setattr("resnetlab.cli.common.console.width", 300)
    monkeypatch.setattr(Expected, "__call__", lambda self, entry: "a while")

    def run(name: str, words: tuple[str, ...]) -> tuple[int, str, object]:
        folder = tmp_path / name
        shutil.copytree(material, folder, copy_function=os.link)  # commands replace files, and change none
        monkeypatch.chdir(folder)
        seen: list[object] = []
        _spy(monkeypatch, seen)
        monkeypatch.setattr(sys, "argv", ["resnetlab", *words])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        shown = capsys.readouterr()
        text = re.sub(r"\d+\.\d+ (s|images/s)|\d+ ms", "", shown.out)
        changed = {
            str(path.relative_to(folder)): _content(path)
            for path in folder.rglob("*")
            if path.is_file() and not (material / path.relative_to(folder)).exists()
        }
        return status, shown.err, (text.replace(str(folder), ""), changed, seen)

    return run


def _spy(monkeypatch: pytest.MonkeyPatch, seen: list[object]) -> None:
    """Note what changes no numbers: threads that are set or started, sizes of batches."""
    from resnetlab.data import check, pack, photos, reading
    from resnetlab.inference import predict

    set_threads = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda count: (seen.append(("threads", count)), set_threads(count)))
    for module in (reading, check, pack, predict):
        in_order = module.in_order

        def noted(work: Any, items: Any, threads: int, ahead: int, call: Any = in_order) -> Any:
            seen.append(("readers", threads))
            return call(work, items, threads, ahead)

        monkeypatch.setattr(module, "in_order", noted)
    stack = np.stack
    monkeypatch.setattr(
        predict.np,
        "stack",
        lambda arrays, *axis, **by: (seen.append(("batch", len(arrays))), stack(arrays, *axis, **by))[1],
    )
    pool = photos.ThreadPoolExecutor
    monkeypatch.setattr(photos, "ThreadPoolExecutor", lambda count: (seen.append(("pool", count)), pool(count))[1])


def _content(path: Path) -> str:
    """What a file holds, without what no two runs share."""
    if path.name in (".lock", "log.jsonl") or "events." in path.name:
        return ""
    data = path.read_bytes()
    data = re.sub(rb'20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ|"threads\\?": \d+|"checksum": \d+', b"", data)
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("words", "option", "values", "expected"),
    CASES,
    ids=[f"{words[0]}-{option}-{k}" for k, (words, option, *_) in enumerate(CASES)],
)
def test_it_takes_effect_or_is_refused(
    outcome: Callable[[str, tuple[str, ...]], tuple[int, str, Any]],
    words: tuple[str, ...],
    option: str,
    values: tuple[str, ...],
    expected: str,
) -> None:
    flag = f"--{option}"
    if flag in words:  # given in both, with another value
        place = words.index(flag)
        changed = (*words[:place], *words[place + 2 :], flag, *values)
    else:
        changed = (*words, flag, *values)
    status, errors, after = outcome("after", changed)
    if expected == REFUSED:
        assert status == 2, after
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        return
    assert status in (0, 1 if words[0] == "check-data" else 0), errors
    if (words, option) == (DIGITS, "data"):  # required: without it the command is refused
        return
    before_status, _, before = BEFORE.get(words) or BEFORE.setdefault(words, outcome("before", words))
    assert (status, after) != (before_status, before)
