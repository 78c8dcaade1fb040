"""The sound files that are damaged, a small folder for each subject: `python -m tests.faults.base FOLDER`."""

import contextlib
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from resnetlab.cli import main
from resnetlab.models.modelfile import load, save
from resnetlab.models.onnxfile import export_onnx
from resnetlab.models.trust import Trust
from resnetlab.networks.resnet import build
from resnetlab.report.record import Bar, Figure, Line, Panel, Record, Table
from tests import material
from tests.models.test_caffe import field, layer


def make(folder: Path) -> None:
    """All of them, in a folder that is not there."""
    torch.set_num_threads(1)
    source = folder / "source"
    source.mkdir(parents=True)
    for maker in (material.make_photos, material.make_arrays, material.make_models, material.make_boxes):
        maker(source)
    for maker in (material.make_detectors, material.make_scores):
        maker(source)
    bee = source / "photos" / "test" / "bee" / "0.jpg"
    for name in NAMES:
        (folder / name).mkdir()
    for name in ("photos", "csv", "shards", "model", "onnx"):
        shutil.copytree(source / "photos", folder / name / "photos")
    for name in ("images", "photos", "csv", "finished"):
        shutil.copy(source / "narrow.safetensors", folder / name)
    for name in ("model", "detector", "onnx", "weights", "finished"):
        shutil.copy(bee, folder / name / "bee.jpg")
    _images(folder / "images" / "images")
    _listed(folder / "csv")
    _command("pack", str(folder / "shards/photos"), "--out", str(folder / "shards/packed"), "--size", "36")
    shutil.copy(source / "tiny.npz", folder / "arrays")
    _models(source, folder)
    _weights(folder)
    _caffe(folder / "caffe")
    for name in ("a", "b"):
        shutil.copy(source / f"{name}.safetensors", folder / "scores")
    _runs(source, folder)
    _voc(folder / "voc" / "voc", bee)
    shutil.copytree(source / "scenes", folder / "coco" / "scenes")
    _record(folder / "record" / "record.json")
    _imagenet(folder / "imagenet")
    shutil.copytree(source, folder / "options", dirs_exist_ok=True)
    shutil.rmtree(source)


NAMES = (
    "images", "photos", "csv", "shards", "arrays", "model", "detector", "onnx", "weights", "hub", "caffe", "scores",
    "stopped", "finished", "voc", "coco", "record", "imagenet", "options",
)  # fmt: skip


def _command(*words: str) -> None:
    sys.argv = ["resnetlab", *words]
    with contextlib.suppress(SystemExit):
        main()


def _images(folder: Path) -> None:
    """Every format, with what is unusual in some of them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 60)[None, :, None] + np.linspace(0, 50, 48)[:, None, None]
    image = Image.fromarray((smooth + random.integers(0, 6, (48, 60, 3))).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "baseline.jpg")
    image.save(folder / "progressive.jpg", progressive=True, exif=exif)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("L").save(folder / "grey.jpeg")
    image.save(folder / "plain.png")
    image.quantize(16).save(folder / "palette.png", transparency=0)
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200).save(folder / "deep.png")
    image.convert("RGBA").save(folder / "lossy.webp", quality=60)
    image.save(folder / "lossless.webp", lossless=True)
    image.quantize(8).save(folder / "still.gif")
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    image.save(folder / "packed.tiff", compression="tiff_lzw")
    image.save(folder / "pages.tif", save_all=True, append_images=[image.convert("L")])
    image.save(folder / "map.bmp")
    image.quantize(8).save(folder / "palette.bmp")
    image.save(folder / "pixels.ppm")


def _listed(folder: Path) -> None:
    files = sorted((folder / "photos").glob("*/*/*.jpg"))
    rows = [f"{path.relative_to(folder)},{path.parent.name},{path.parent.parent.name}" for path in files]
    (folder / "list.csv").write_text("\n".join(["path,label,split", *rows, ""]))


def _models(source: Path, folder: Path) -> None:
    sound = load(source / "narrow.safetensors")
    known = torch.nn.functional.normalize(torch.rand(20, sound.network.fc.in_features), dim=1)
    trust = Trust(1.5, 40, known, 0.5)
    trusted = replace(sound, trust=trust)
    save(trusted, folder / "model" / "model.safetensors")
    shutil.copy(source / "detector.safetensors", folder / "detector")
    export_onnx(trusted, folder / "onnx" / "model.onnx")


def _weights(folder: Path) -> None:
    torch.manual_seed(0)
    state = build("cifar_resnet8", num_classes=3).state_dict()
    theirs = {key.replace("fc.", "linear."): value for key, value in state.items()}
    torch.save(theirs, folder / "weights" / "theirs.pth")
    (folder / "weights" / "names.txt").write_text("ant\nbee\ncow\n")
    hub = folder / "hub" / "hub"
    hub.mkdir()
    save_file({key: value.contiguous() for key, value in theirs.items()}, hub / "model.safetensors")
    about = {"input_size": [3, 32, 32], "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "center"}
    about |= {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3], "num_classes": 3}
    labels = {"architecture": "resnet8", "label_names": ["ant", "bee", "cow"], "num_classes": 3}
    (hub / "config.json").write_text(json.dumps(labels | {"pretrained_cfg": about}))


def _caffe(folder: Path) -> None:
    """Layers with small arrays: the parts of a network of the release, not a whole one."""
    random = np.random.default_rng(0)
    weight, norm = random.random((4, 3, 3, 3)), [random.random(4), random.random(4), np.ones(1)]
    layers = [layer("conv1", "Convolution", [weight, random.random(4)]), layer("bn_conv1", "BatchNorm", norm)]
    for stage, count in zip("2345", (3, 4, 6, 3), strict=True):
        for block in "abcdef"[:count]:
            for branch in ("2a", "2b", "2c") + (("1",) if block == "a" else ()):
                layers.append(layer(f"res{stage}{block}_branch{branch}", "Convolution", [weight]))
                layers.append(layer(f"bn{stage}{block}_branch{branch}", "BatchNorm", norm))
                layers.append(layer(f"scale{stage}{block}_branch{branch}", "Scale", norm[:2]))
    layers.append(layer("fc1000", "InnerProduct", [random.random((3, 4)), random.random(3)]))
    (folder / "small.caffemodel").write_bytes(b"".join(layers))
    image = random.random((3, 8, 8)).astype("<f4")
    legacy = b"".join(field(k, side) for k, side in enumerate((1, 3, 8, 8), start=1))
    (folder / "mean.binaryproto").write_bytes(legacy + field(5, image.tobytes()))


def _runs(source: Path, folder: Path) -> None:
    """One that finished, and one that was stopped after its second checkpoint."""
    shutil.copy(source / "tiny.npz", folder / "finished")
    shutil.copy(source / "tiny.npz", folder / "stopped")
    words = ("--data", "tiny.npz", "--network", "cifar_resnet8-narrow4", "--threads", "1", "--compile", "no")
    words += ("--batch-size", "8", "--set", "report_every=2", "--iterations", "6", "--out", "run")
    from resnetlab.runs import folder as runs

    here = Path.cwd()
    os.chdir(folder / "finished")
    runs.SAVE_EVERY_SECONDS = 0.0
    _command("train", *words)
    os.chdir(here)
    run = folder / "stopped" / "run"
    shutil.copytree(folder / "finished" / "run", run)
    shutil.move(run / "model.safetensors", folder / "stopped" / "whole.safetensors")
    shutil.copy(run / "metrics.jsonl", folder / "stopped" / "whole.jsonl")
    for name in ("result.json", "evaluation", "curves.png", "sample.png"):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _voc(folder: Path, image: Path) -> None:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for k in range(4):
        shutil.copy(image, folder / "JPEGImages" / f"{k}.jpg")
        objects = "".join(
            f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{5 + k}</xmin><ymin>8</ymin>"
            "<xmax>30</xmax><ymax>40</ymax></bndbox></object>"
            for label in ("ant", "bee")
        )
        size = "<size><width>60</width><height>50</height><depth>3</depth></size>"
        text = f"<annotation><filename>{k}.jpg</filename>{size}{objects}</annotation>"
        (folder / "Annotations" / f"{k}.xml").write_text(text)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("0\n1\n")
    (folder / "ImageSets" / "Main" / "test.txt").write_text("2\n3\n")


def _record(path: Path) -> None:
    line = Line((1.0, 2.0), (3.0, 4.0), "a", low=(2.0, 3.0), high=(4.0, 5.0), notes=("x", "y"))
    panel = Panel("t", "x", "y", (line,), (Bar(1, 2, "b", "#123456"),), ("p", "q"), (("l", "#000000", "test"),), 3.0)
    record = Record(
        "name", "Title", ("One.",), (Table(("a", "b"), (("1", "2"),), "n", "t"),), (Figure("f", (panel,)),)
    )
    path.write_text(json.dumps(replace(record, data={"k": [1.5, None]}).to_json()))


def _imagenet(folder: Path) -> None:
    from resnetlab.data.class_names import imagenet

    ids = list(imagenet())[:4]
    (folder / "val").mkdir()
    for k in range(4):
        (folder / "val" / f"ILSVRC2012_val_{k + 1:08}.JPEG").write_bytes(b"")
    (folder / "val_labels.txt").write_text("".join(f"{each}\n" for each in ids))
    rows = [f"ILSVRC2012_val_{k + 1:08},{each} 1 2 3 4" for k, each in enumerate(ids)]
    (folder / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows, ""]))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
