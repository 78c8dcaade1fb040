"""Detection as a user types it: train, evaluate, predict and detect, and how mistakes are refused."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from csv import DictReader
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.cli import main
from resnetlab.data.dataset import Dataset, Files
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.data.sources import digit_scenes as module
from resnetlab.experiments.sections import _by_number, of_run
from resnetlab.models.modelfile import Model, save
from resnetlab.networks.resnet import build
from resnetlab.runs.finished import finished_runs

Command = Callable[..., int]
TRAIN = (
    "train",
    "--data",
    "digit-scenes",
    "--network",
    "resnet18-narrow16",
    "--iterations",
    "2",
    "--image-size",
    "64",
)
TRAIN += ("--threads", "1", "--workers", "1", "--set", "exact_statistics=no", "batch_size=2", "--detector")
TRAIN += ("anchor_sizes=16,32", "train_proposals=40", "test_proposals=20")
CLASSES = "0123456789"


@pytest.fixture(scope="module")
def few() -> Iterator[Dataset]:
    """8 + 5 of the scenes of digits, also for the commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRAIN", 8)
        patch.setattr(module, "TEST", 5)
        found = module.digit_scenes()
        patch.setattr("resnetlab.data.named.digit_scenes", lambda: found)
        yield found


@pytest.fixture(scope="module")
def trained(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of TRAIN, not to be changed."""
    folder = tmp_path_factory.mktemp("detection")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["resnetlab", *TRAIN, "--out", "run"])
        main()
    return folder / "run"


@pytest.fixture
def run(command: Command, trained: Path) -> Path:
    """A copy in the current folder."""
    shutil.copytree(trained, "run")
    return Path("run")


@pytest.fixture(scope="module")
def examples(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two scenes, a grey one, one that is turned by its EXIF, and a file that is no image."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "more").mkdir(parents=True)
    test = few.test
    assert isinstance(test, Files)
    for k in (0, 1):
        test.open(k).save(folder / f"{k}.png")
    test.open(2).convert("L").save(folder / "grey.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    test.open(3).save(folder / "more" / "turned.jpg", exif=exif)
    (folder / "bad.jpg").write_bytes(b"x")
    return folder


@pytest.fixture
def pictures(command: Command, examples: Path) -> Path:
    """The examples in the current folder."""
    shutil.copytree(examples, "pictures")
    return Path("pictures")


@pytest.fixture(scope="module")
def everything(trained: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run, the pictures and a model for classification, not to be changed."""
    folder = tmp_path_factory.mktemp("everything")
    shutil.copytree(trained, folder / "run")
    shutil.copytree(examples, folder / "pictures")
    usual = Preprocessing.by_channel(Fit.square(32), IMAGENET_MEAN, IMAGENET_STD)
    network = build("resnet18-narrow16", num_classes=2)
    save(Model(network, usual, ("a", "b"), {}), folder / "classifier.safetensors")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(DictReader(file))


# Training and evaluation


def test_the_page_of_a_detector_has_its_pictures_with_boxes(run: Path) -> None:
    (finished,) = finished_runs([run]).values()
    section = of_run("run-1", run, finished)
    assert sum(picture.caption.startswith("What was found in ") for picture in section.pictures) == 5
    numbers, classes = section.record.tables
    assert dict(numbers.rows)["test AP50 %"] == f"{finished.final('test'):.2f}"
    assert len(classes.rows) == len(finished.config["data"]["classes"])
    assert classes.header == ("class", "boxes", "AP50 %", "AP %", "VOC, 11 points %", "VOC, area %")
    stored = rows(run / "evaluation" / "per_class.csv")
    shares = [row["ap50"] and f"{100 * float(row['ap50']):.2f}" for row in stored]
    assert [row[2] for row in classes.rows] == shares
    assert any(shares)
    numbered = [Path(f"test {k}.jpg") for k in (1, 2, 10, 11)]
    assert sorted([numbered[k] for k in (3, 1, 0, 2)], key=_by_number) == numbered


def test_the_list_of_runs_says_what_its_numbers_are(
    command: Command, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("runs", "run") == 0
    assert "Training: loss; test: AP50 %." in " ".join(capsys.readouterr().out.split())


def test_nothing_found_says_what_to_try(
    command: Command, run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("detect", "run", "pictures/0.png", "--score", "0.999") == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "Nothing has a score of at least 0.999; --score 0.2 shows less certain objects. Shorter side" in shown


def test_a_run_folder_has_everything(run: Path, few: Dataset) -> None:
    for name in ("curves.png", "sample.png", "model.safetensors", "result.json"):
        assert (run / name).stat().st_size > 500
    result = json.loads((run / "result.json").read_text())
    evaluation = run / "evaluation"
    found = json.loads((evaluation / "metrics.json").read_text())
    assert 100 * found["coco_101_points"]["ap50"] == pytest.approx(result["test_AP50"])
    assert 100 * found["coco_101_points"]["ap"] == pytest.approx(result["test_AP"])
    test = few.test
    assert isinstance(test, Files)
    assert test.boxes is not None
    boxes = int(test.boxes.counts.sum())
    assert (found["images"], found["boxes"], found["split"], found["data"]) == (5, boxes, "test", "digit-scenes")
    assert found["options"]["anchor_sizes"] == [16, 32]
    classes = rows(evaluation / "per_class.csv")
    assert [row["class"] for row in classes] == list(CLASSES)
    assert sum(int(row["boxes"]) for row in classes) == boxes
    assert [bool(row["ap50"]) for row in classes] == [int(row["boxes"]) > 0 for row in classes]
    table = rows(evaluation / "detections.csv")
    listed = json.loads((evaluation / "detections.json").read_text())
    assert len(table) == len(listed) > 20
    for row, entry in zip(table, listed, strict=True):
        assert entry.keys() == {"image_id", "category_id", "bbox", "score"}
        assert (row["image"], CLASSES.index(row["class"]) + 1) == (entry["image_id"], entry["category_id"])
        left, top, right, bottom = (float(row[side]) for side in ("left", "top", "right", "bottom"))
        assert 0 <= left < right <= 192
        assert 0 <= top < bottom <= 160
        assert entry["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.15)
        assert entry["score"] == pytest.approx(float(row["score"]), abs=1e-4)
    assert sorted(path.name for path in (evaluation / "pictures").iterdir()) == [f"test {k}.jpg" for k in range(5)]
    with Image.open(evaluation / "pictures" / "test 0.jpg") as picture:
        assert picture.size == (192, 160)


def test_what_training_says_and_that_the_same_command_changes_nothing(
    command: Command, run: Path, few: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert command(*TRAIN, "--out", "run") == 0
    text = capsys.readouterr().out
    assert "digit-scenes: 8 training and 5 test images with" in text
    assert "2 steps of 2 images of 64 pixels on the shorter side" in text
    assert "test AP50 %" in text
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == before
    assert command(*TRAIN[:-1], "test_proposals=30", "--out", "run") == 2
    assert "task.options.test_proposals is 20 there and 30 here" in capsys.readouterr().err


def test_evaluate(command: Command, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after training, and with the options of testing, which change what is found."""
    usual = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert command("evaluate", "run", "--out", "again") == 0
    text = capsys.readouterr().out
    assert "Faster R-CNN, ResNet-18 B of 1/16 width on digit-scenes, test: 5 images" in text
    assert f"AP50 {100 * usual['coco_101_points']['ap50']:.2f} %" in text
    assert "Pascal VOC, IoU 0.5: mAP" in text
    assert json.loads(Path("again/metrics.json").read_text()) == usual
    first = Path("again/detections.csv").read_text()
    assert first == (run / "evaluation" / "detections.csv").read_text()
    for number, (words, said) in enumerate(
        (
            (("--scales", "32", "64"), "Shorter side 32, 64 pixels"),
            (("--detector", "refine=yes", "voting=0.4"), "box refinement, voting at IoU 0.4"),
            (("--with", "run/model.safetensors"), "2 detectors together on digit-scenes"),
            (("--split", "train"), "8 images"),
        )
    ):
        assert command("evaluate", "run", *words, "--out", str(number)) == 0
        assert said in " ".join(capsys.readouterr().out.split())
        assert (Path(f"{number}/detections.csv").read_text() == first) == ("--with" in words)
    (Path("again") / "thesis.tex").write_text("x")
    assert command("evaluate", "run", "--out", "again") == 2
    assert "holds other files than an evaluation" in capsys.readouterr().err


def test_a_run_is_continued_by_another_that_starts_from_it(
    command: Command, run: Path, few: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in TRAIN if word not in ("--network", "resnet18-narrow16")]
    assert command(*words, "--from", "run", "--out", "tuned") == 0
    assert "its last layers are kept, because the class names match" in capsys.readouterr().out
    words[words.index("anchor_sizes=16,32")] = "anchor_sizes=16"
    assert command(*words, "--from", "run", "--out", "other") == 2
    assert "run has the detector's option anchor_sizes=(16, 32), and here it is (16,)" in capsys.readouterr().err


# Images of one's own


def test_detect(command: Command, run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A corrupt file among good ones is named; the others are written."""
    out = ("--out", "drawn", "--out", "found.csv", "--out", "found.json")
    assert command("detect", "run", "pictures", *out, "--score", "0.01") == 2
    shown = capsys.readouterr()
    assert "pictures/bad.jpg is not a readable image; repair or remove it" in shown.err
    assert shown.err.endswith("error: 1 of 5 files could not be read; they are named above\n")
    assert "Traceback" not in shown.err
    table, listed = rows(Path("found.csv")), json.loads(Path("found.json").read_text())
    names = ["pictures/0.png", "pictures/1.png", "pictures/grey.jpg", "pictures/more/turned.jpg"]
    assert list(dict.fromkeys(row["image"] for row in table)) == names
    assert [entry["image_id"] for entry in listed] == [row["image"] for row in table]
    assert f"{len(table):,} objects in 4 images in" in shown.out
    for row in table:
        width, height = (160, 192) if "turned" in row["image"] else (192, 160)
        assert 0 <= float(row["left"]) < float(row["right"]) <= width
        assert 0 <= float(row["top"]) < float(row["bottom"]) <= height
        assert 0.01 <= float(row["score"]) <= 1
    drawn = sorted(path.relative_to("drawn").as_posix() for path in Path("drawn").rglob("*.jpg"))
    assert drawn == ["0.jpg", "1.jpg", "grey.jpg", "more/turned.jpg"]
    with Image.open("drawn/more/turned.jpg") as turned, Image.open("drawn/0.jpg") as plain:
        assert (turned.size, plain.size) == ((160, 192), (192, 160))
        with Image.open("pictures/0.png") as before:
            assert np.abs(np.asarray(plain).astype(int) - np.asarray(before)).max() > 100  # boxes are drawn
    assert command("detect", "run", "pictures/0.png", "--score", "0.01", "--out", "one.csv") == 0
    assert rows(Path("one.csv")) == [row for row in table if row["image"] == names[0]]
    assert "Model" not in capsys.readouterr().err


def test_predict_and_detect_say_the_same(
    command: Command, run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for name in ("predict", "detect"):
        assert command(name, "run", "pictures/0.png", "pictures/more") == 0
        first, second, last = capsys.readouterr().out.splitlines()
        assert first.startswith("pictures/0.png: ")
        assert second.startswith("pictures/more/turned.jpg: ")
        assert " in 2 images in " in last
        said.append((first, second))
    assert said[0] == said[1]
    assert (
        command("detect", "run", "pictures/0.png", "--score", "0.01", "--with", "run", "--detector", "nms=0.4") == 0
    )
    boxes = sum(int(count or 1) for count in re.findall(r"(?: x(\d+))? \(\d+%", capsys.readouterr().out))
    command("detect", "run", "pictures/0.png", "--score", "0.01", "--detector", "nms=0.4")
    assert f"{boxes} objects in 1 image" in capsys.readouterr().out  # each class with its number of boxes


# Mistakes

DETECTOR = (
    (("evaluate", "run", "--protocol", "center"), "--protocol center takes no effect with a detector"),
    (("evaluate", "run", "--precision", "bfloat16"), "--precision takes no effect in detection"),
    (("evaluate", "run", "--batch-size", "3"), "--batch-size takes no effect in detection"),
    (("evaluate", "run", "--detector", "nmss=0.3"), "the detector has no field 'nmss': did you mean nms?"),
    (("evaluate", "run", "--detector", "pooling=align"), "pooling is fixed by the training; for a test choose"),
    (("evaluate", "run", "--detector", "nms=2"), "nms is 2.0; it must be more than 0 and at most 1"),
    (("evaluate", "run", "--detector", "refine=maybe"), "refine=maybe: the value must be yes or no"),
    (("evaluate", "run", "--scales", "16"), "scales is (16,); it must be 32 to 16,384 each"),
    (("evaluate", "run", "--scales", "64", "--detector", "scales=64"), "scales is given twice"),
    (("evaluate", "run", "--data", "digits"), "digits has no boxes; a detector is tested on images with boxes"),
    (("evaluate", "run", "--split", "validation"), "has no validation images; it has train, test"),
    (("evaluate", "run", "--with", "classifier.safetensors"), "classifier.safetensors is no detector"),
    (("predict", "run", "pictures", "--top", "3"), "--top takes no effect with a detector"),
    (("predict", "run", "pictures", "--engine", "torch"), "--engine takes no effect with a detector"),
    (("predict", "run", "pictures", "--precision", "bfloat16"), "--precision takes no effect with a detector"),
    (("detect", "run", "pictures", "--score", "2"), "--score 2: it must be at least 0 and less than 1"),
    (("detect", "run", "pictures", "--score", "-1"), "--score -1: it must be at least 0 and less than 1"),
    (("detect", "run", "pictures", "--out", "found.txt"), "expected a file name that ends in .csv"),
    (("detect", "run", "pictures", "--out", "classifier.safetensors"), "or a folder for pictures"),
    (("detect", "run", "pictures", "--out", "a", "--out", "b"), "one folder is enough"),
    (("predict", "run", "pictures", "--json", "--unsure", "0.5"), "--unsure takes no effect with a detector"),
    (("predict", "run", "pictures", "--batch-size", "2"), "--batch-size takes no effect with a detector"),
    (("evaluate", "run", "--detector", "preset=paper"), "a preset has options of the detector's training"),
    (("evaluate", "run", "--detector", "voting=0.4"), "voting takes no effect without refine; add e.g. refine=yes"),
    (("detect", "run", "pictures", "--detector", "canonical=99"), "canonical takes no effect without scales"),
    (("detect", "run", "pictures", "--threads", "0"), "it must be at least 1"),
    (("detect", "run", "pictures", "--detector", "context=yes"), "context is fixed by the training"),
    (("detect", "nowhere", "pictures"), "nowhere does not exist"),
    (("embed", "run", "pictures", "--out", "f.npz"), "is a model for detection; expected one for classification"),
    (
        ("export", "run", "--to", "onnx"),
        "expected one for classification; `resnetlab detect` and `resnetlab evaluate`",
    ),
)
CLASSIFIER = (
    (
        ("evaluate", "classifier.safetensors", "--data", "digits", "--detector", "nms=0.3"),
        "--detector takes no effect",
    ),
    (
        ("evaluate", "classifier.safetensors", "--data", "digits", "--with", "run"),
        "--with takes no effect with a model",
    ),
    (
        ("predict", "classifier.safetensors", "pictures", "--out", "drawn"),
        "a table ends in .csv or .json; pictures are for detectors",
    ),
    (("detect", "classifier.safetensors", "pictures"), "is no detector; `resnetlab predict` takes models"),
    (("detect", "resnet18", "pictures"), "resnet18 is no detector; `resnetlab predict` takes models"),
)
TRAINING = (
    ((*TRAIN, "nmss=1"), "the detector has no field 'nmss': did you mean nms?"),
    ((*TRAIN, "preset=papr"), "unknown preset 'papr': did you mean paper?"),
    ((*TRAIN, "refined=each-class"), "refined takes no effect without refine"),
    ((*TRAIN, "--network", "cifar_resnet8"), "cifar_resnet8 is for small images"),
    ((*TRAIN, "least_side=-1"), "least_side is -1.0; it must be at least 0"),
    ((*TRAIN, "anchor_sizes=8"), "anchor_sizes is given twice"),
    ((*TRAIN, "--task", "classification"), "takes no effect with the task classification"),
    (
        (*TRAIN[:-4], "--task", "classification"),
        "digit-scenes has boxes, and the task classification needs one label",
    ),
    ((*TRAIN, "--compile", "yes"), "are not compiled; remove --compile yes"),
    ((*TRAIN, "--balance", "loss"), "balance takes no effect with the task detection"),
    ((*TRAIN, "--recipe", "modern-short"), "crop=area, which is not for detection"),
    (("train", "--data", "digits", "--network", "resnet18-narrow16", "--task", "detection"), "digits has no boxes"),
    (
        ("train", "--data", "digits", "--network", "cifar_resnet8", "--detector", "nms=0.4"),
        "--detector nms=0.4 takes no",
    ),
)


@pytest.mark.parametrize(("words", "said"), [*DETECTOR, *CLASSIFIER, *TRAINING], ids=lambda each: "")
def test_mistakes_end_in_one_line_and_status_2(
    command: Command,
    everything: Path,
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(everything)
    before = sorted(everything.rglob("*"))
    assert command(*words) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert sorted(everything.rglob("*")) == before
