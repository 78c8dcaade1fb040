"""What is damaged, and what reads it: every reader and every command, each on small sound files of its own."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.children import command
from tests.faults.damage import damage
from tests.faults.damage_text import NUMBERS, REALS, TEXTS

Use = Callable[[], None]
NETWORK = "cifar_resnet8-narrow4"
TRAIN = ("train", "--network", NETWORK, "--threads", "1", "--compile", "no", "--workers", "1", "--batch-size", "8")
TRAIN += ("--iterations", "2", "--out", "out")
CROPS = ("--recipe", "modern-short", "--image-size", "32")
SHORT = ("--threads", "1", "--batch-size", "8", "--iterations", "2", "--out", "out")
RESUME = ("train", "--data", "tiny.npz", "--network", NETWORK, "--threads", "1", "--compile", "no")
RESUME += ("--batch-size", "8", "--iterations", "6", "--set", "report_every=2", "--out", "run")


@dataclass(frozen=True)
class Subject:
    """Sound files in the folder `base`; those of the patterns are damaged, and then used in one of several ways.

    A refusal names the damaged file, or one of `names`. `wanted` checks what is there after an answer.
    """

    name: str
    base: str
    files: tuple[str, ...]
    uses: tuple[Use, ...]
    names: tuple[str, ...] = ()
    wanted: Callable[[Path], None] | None = None
    weight: int = 1
    heavy: bool = False
    """Whether its uses take seconds."""

    def share(self, light: bool) -> int:
        """How often it is drawn."""
        return self.weight * (0 if light else 1) if self.heavy else 3 * self.weight

    @property
    def kind(self) -> str:
        """What is damaged, as a name of a folder; several subjects may have it."""
        return self.name.partition(",")[0].replace(" ", "-")


@dataclass(frozen=True)
class Case:
    """A damaged copy of a subject's files, and its use."""

    subject: Subject
    use: Use
    folder: Path
    damaged: Path
    said: str

    def __call__(self) -> None:
        """Use it; an `AssertionError` is a wrong answer."""
        self.use()
        if self.subject.wanted is not None:
            self.subject.wanted(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """What a refusal may name."""
        return (self.damaged.name, *self.subject.names)


def prepared(subject: Subject, base: Path, folder: Path, random: Random) -> Case:
    """A case in an empty folder."""
    shutil.copytree(base / subject.base, folder, symlinks=True)
    paths = sorted({path for pattern in subject.files for path in folder.glob(pattern) if path.is_file()})
    path = random.choice(paths)
    return Case(subject, random.choice(subject.uses), folder, path, damage(random, path))


# ---- uses in Python


def finite(values: Any) -> None:
    """Answers are numbers, and probabilities."""
    import torch

    values = torch.as_tensor(values)
    assert bool(values.isfinite().all()), f"an answer that is not finite: {values.flatten()[:5]}"


def open_images() -> None:
    """Every image in every way that they are read."""
    from resnetlab.data.dataset import File
    from resnetlab.data.decode import crop, read_size
    from resnetlab.data.preprocessing import Fit, fitted, read_image
    from resnetlab.errors import ResnetlabError

    for path in sorted(Path("images").iterdir()):
        refused = None
        for read in (
            lambda p: fitted(Fit.square(40, 32), read_image(p), str(p)),
            lambda p: crop(File(p.name, str(p)).read(), str(p), lambda w, h: (0, 0, w, h), 32),
            lambda p: read_size(File(p.name, str(p)).read(), str(p)),
        ):
            try:
                read(path)
            except ResnetlabError as error:
                refused = error
        if refused:
            raise refused


def list_and_read(source: str, images: bool = True) -> Use:
    """List a source of images and read all of them."""

    def use() -> None:
        from resnetlab.data.dataset import Files
        from resnetlab.data.named import load
        from resnetlab.data.preprocessing import Fit
        from resnetlab.data.reading import read_each
        from resnetlab.data.sources.annotated import is_annotated, list_annotated
        from resnetlab.data.sources.splitting import list_images

        path = Path(source)
        found = load(source) if path.suffix == ".npz" else None
        found = found or (list_annotated(path) if is_annotated(path) else list_images(path))
        assert len(found.classes) >= 1, "no class"
        found.describe()
        found.fingerprint()
        for split in found.splits.values():
            assert isinstance(split, Files) or int(split.labels.max()) < len(found.classes), "a label out of range"
            if isinstance(split, Files) and split.boxes is not None:
                finite(split.boxes.corners)
            for _ in read_each(split, Fit.square(40, 32), threads=1) if images and isinstance(split, Files) else ():
                pass

    return use


def use_model(name: str = "model.safetensors") -> Use:
    """Load a model, and answer."""

    def use() -> None:
        import torch

        from resnetlab.inference.engines import open_engine

        engine = open_engine(Path(name), threads=1, precision="float32")
        pixels = torch.randint(0, 256, (2, *engine.fit.crop, 3 if engine.fit.mode == "RGB" else 1), dtype=torch.uint8)
        answers = engine.run(pixels.numpy())
        finite(answers)
        assert answers.shape[1] - (engine.limit is not None) == len(engine.classes), "names for other outputs"

    return use


def read_scores() -> None:
    """Scores and their errors."""
    from resnetlab.evaluation.scores import Scored

    found = Scored.load(Path("a.safetensors"))
    finite(found.scores)
    assert len(found.names) == len(found.labels)
    found.answers()


def read_mean() -> None:
    """Caffe's mean image."""
    from resnetlab.models.caffe import read_mean_image

    finite(read_mean_image(Path("mean.binaryproto")))


def read_caffe() -> None:
    """A file of layers of Caffe."""
    from resnetlab.models.caffe import read_caffe

    for value in read_caffe(Path("small.caffemodel")).tensors.values():
        finite(value)


def read_weights(name: str) -> Use:
    """Weights of others."""

    def use() -> None:
        from resnetlab.models.importing import import_weights

        model = import_weights(Path(name)).model
        for value in model.network.state_dict().values():
            finite(value)
        finite(model.preprocessing.mean)
        assert bool((model.preprocessing.std > 0).all()), "a standard deviation that is not above 0"

    return use


def read_record() -> None:
    """A record, and its pages."""
    from resnetlab.experiments.earlier import read_record

    read_record(Path("record.json")).markdown()


def read_labels() -> None:
    """ImageNet's files of labels."""
    from resnetlab.data.sources.imagenet_labels import validation_labels

    validation_labels(Path.cwd(), Path("val"))


def take_damaged_checkpoint(folder: Path) -> None:
    """A run that continued ends in the weights of the run that was never stopped."""
    from resnetlab.models.modelfile import load

    before, after = (load(folder / name).network.state_dict() for name in ("whole.safetensors", "run"))
    for key, value in before.items():
        assert value.equal(after[key]), f"{key} is not what it was"
    if "the curves lack" not in Path("/proc/self/fd/1").resolve().read_text(errors="replace"):
        said = (folder / "run" / "metrics.jsonl").read_bytes()
        assert said == (folder / "whole.jsonl").read_bytes(), "the metrics are not what they were"


def sound_model(folder: Path) -> None:
    """A model that was written can be read, and gives numbers."""
    from resnetlab.models.modelfile import load

    for written in ("out/model.safetensors", "i.safetensors"):
        if (folder / written).is_file():
            for value in load(folder / written).network.state_dict().values():
                finite(value)


def sound_csv(folder: Path) -> None:
    """Probabilities that were written are numbers from 0 to 1."""
    import csv

    for written in folder.glob("p.csv"):
        if written.is_file():
            with written.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                for row in csv.DictReader(file):
                    for name, value in row.items():
                        if "probab" in str(name):
                            assert 0 <= float(value) <= 1, f"{name} = {value}"


SUBJECTS = (
    Subject("images", "images", ("images/*",), (open_images,), weight=12),
    Subject(
        "images, commands",
        "images",
        ("images/*",),
        (
            command("predict", "narrow.safetensors", "images", "--out", "p.csv", "--threads", "1", "--workers", "1"),
            command("predict", "narrow.safetensors", "images", "--protocol", "ten-crop", "--threads", "1"),
            command("embed", "narrow.safetensors", "images", "--out", "e.npz", "--threads", "1", "--workers", "1"),
            command("predict", "narrow.safetensors", "images", "--on-bad", "stop", "--json", "--threads", "1"),
            command("predict", "narrow.safetensors", "images", "--explain", "why", "--threads", "1"),
        ),
        names=("none of", "no image"),
        wanted=sound_csv,
        weight=2,
    ),
    Subject(
        "photographs",
        "photos",
        ("photos/*/*/*",),
        (
            command("check-data", "photos", "--workers", "1"),
            command("check-data", "photos", "--workers", "1", "--out", "c.csv"),
            command("pack", "photos", "--out", "p", "--size", "36", "--workers", "1"),
            command("pack", "photos", "--out", "p", "--workers", "1", "--on-bad", "skip"),
            command("evaluate", "narrow.safetensors", "--data", "photos", "--out", "e", "--threads", "1"),
            command("evaluate", "narrow.safetensors", "--data", "photos", "--on-bad", "skip", "--threads", "1"),
        ),
        names=("these classes", "name of a class"),
        wanted=sound_model,
        weight=3,
    ),
    Subject(
        "table of files",
        "csv",
        ("list.csv",),
        (list_and_read("list.csv"), list_and_read("list.csv", images=False)),
        names=("there are no images", "class"),
        weight=8,
    ),
    Subject(
        "table of files, commands",
        "csv",
        ("list.csv",),
        (
            command("check-data", "list.csv", "--workers", "1", "--out", "c.csv"),
            command("evaluate", "narrow.safetensors", "--data", "list.csv", "--out", "e", "--threads", "1"),
        ),
        names=("class", "photos"),
    ),
    Subject(
        "shards",
        "shards",
        ("packed/*.tar", "packed/*.tar", "packed/classes.txt"),
        (list_and_read("packed"), list_and_read("packed", images=False)),
        names=("packed",),
        weight=8,
    ),
    Subject(
        "shards, commands",
        "shards",
        ("packed/*",),
        (
            command("check-data", "packed", "--workers", "1"),
            command("pack", "photos", "--out", "packed", "--size", "36", "--workers", "1"),
        ),
        names=("packed",),
    ),
    Subject("arrays", "arrays", ("tiny.npz",), (list_and_read("tiny.npz"),), weight=8),
    Subject(
        "arrays, commands",
        "arrays",
        ("tiny.npz",),
        (command(*TRAIN, "--data", "tiny.npz"),),
        wanted=sound_model,
    ),
    Subject("model", "model", ("*.safetensors",), (use_model(),), weight=12),
    Subject(
        "model, commands",
        "model",
        ("model.safetensors",),
        (
            command("predict", "model.safetensors", "bee.jpg", "--out", "p.csv", "--threads", "1"),
            command("evaluate", "model.safetensors", "--data", "photos", "--threads", "1"),
            command("export", "model.safetensors", "--to", "torchvision", "--out", "t.pth"),
            command("embed", "model.safetensors", "bee.jpg", "--out", "e.npz", "--threads", "1"),
            command("import", "model.safetensors", "--out", "i.safetensors"),
        ),
        names=("torchvision has no", "are not finite"),
        wanted=sound_csv,
        weight=2,
    ),
    Subject("detector", "detector", ("detector.safetensors",), (
        command("predict", "detector.safetensors", "bee.jpg", "--threads", "1"),
        command("detect", "detector.safetensors", "bee.jpg", "--out", "b.csv", "--threads", "1"),
    )),
    Subject("ONNX", "onnx", ("model.onnx",), (use_model("model.onnx"),), weight=6),
    Subject(
        "ONNX, commands",
        "onnx",
        ("model.onnx",),
        (
            command("predict", "model.onnx", "bee.jpg", "--out", "p.csv", "--threads", "1"),
            command("evaluate", "model.onnx", "--data", "photos", "--threads", "1"),
        ),
        wanted=sound_csv,
    ),
    Subject("weights of others", "weights", ("theirs.pth",), (read_weights("theirs.pth"),), weight=10),
    Subject(
        "weights of others, commands",
        "weights",
        ("theirs.pth",),
        (
            command("import", "theirs.pth", "--out", "i.safetensors"),
            command("predict", "theirs.pth", "bee.jpg", "--out", "p.csv", "--threads", "1"),
        ),
        wanted=sound_model,
    ),
    Subject("weights from a hub", "hub", ("hub/*", "hub/*.json"), (read_weights("hub"),), names=("hub",), weight=5),
    Subject("files of Caffe", "caffe", ("small.caffemodel",), (read_caffe,), weight=4),
    Subject("mean image of Caffe", "caffe", ("mean.binaryproto",), (read_mean,), weight=3),
    Subject("scores", "scores", ("a.safetensors",), (read_scores,), weight=5),
    Subject(
        "scores, commands",
        "scores",
        ("a.safetensors",),
        (
            command("ensemble", "a.safetensors", "b.safetensors", "--out", "c.safetensors"),
            command("ensemble", "a.safetensors", "b.safetensors", "--choose", "1", "--by", "top-1"),
            command("compare", "a.safetensors", "b.safetensors"),
        ),
        names=("top-", "classes", "images"),
    ),
    Subject(
        "photographs, training",
        "photos",
        ("photos/*/*/*",),
        (
            command(*TRAIN, "--data", "photos", *CROPS),
            command(*TRAIN, "--data", "photos", *CROPS, "--on-bad", "skip"),
        ),
        names=("these classes", "name of a class"),
        wanted=sound_model,
        heavy=True,
    ),
    Subject(
        "table of files, training",
        "csv",
        ("list.csv",),
        (command(*TRAIN, "--data", "list.csv", *CROPS),),
        names=("class", "photos"),
        heavy=True,
    ),
    Subject(
        "shards, training",
        "shards",
        ("packed/*",),
        (command(*TRAIN, "--data", "packed", *CROPS),),
        names=("packed",),
        heavy=True,
    ),
    Subject(
        "model, training",
        "model",
        ("model.safetensors",),
        (command("train", "--data", "photos", "--from", "model.safetensors", *SHORT, "--validation", "0"),),
        wanted=sound_model,
        heavy=True,
    ),
    Subject(
        "checkpoints of a run",
        "stopped",
        ("run/checkpoints/*/*", "run/checkpoints/*/*", "run/*.json*"),
        (command(*RESUME),),
        names=("run",),
        wanted=take_damaged_checkpoint,
        weight=3,
        heavy=True,
    ),
    Subject(
        "finished run",
        "finished",
        ("run/*.json*", "run/*.safetensors", "run/evaluation/*"),
        (
            command(*RESUME),
            command("evaluate", "run", "--out", "e", "--threads", "1"),
            command("predict", "run", "bee.jpg", "--threads", "1"),
            command("analyse", "run", "--only", "figure7", "--threads", "1"),
            command("compare", "run", "run", "--data", "tiny.npz"),
        ),
        names=("run",),
        weight=2,
    ),
    Subject(
        "runs that are shown",
        "finished",
        ("run/*.json*", "run/*.png", "run/evaluation/*"),
        (
            command("report", "run", "--no-estimate", "--no-evaluate", "--out", "page"),
            command("runs", "run"),
            command("watch", "run"),
        ),
        names=("run",),
    ),
    Subject(
        "boxes of VOC",
        "voc",
        ("voc/*/*.xml", "voc/ImageSets/Main/*"),
        (list_and_read("voc"),),
        ("voc",),
        weight=6,
    ),
    Subject(
        "boxes of VOC, commands",
        "voc",
        ("voc/*/*", "voc/ImageSets/Main/*"),
        (command("check-data", "voc", "--workers", "1"),),
        ("voc",),
    ),
    Subject("boxes of COCO", "coco", ("scenes/*/*.json",), (list_and_read("scenes"),), ("scenes", "coco"), weight=6),
    Subject(
        "boxes of COCO, commands",
        "coco",
        ("scenes/*/*",),
        (command("check-data", "scenes", "--workers", "1"),),
        ("scenes", "coco"),
    ),
    Subject("records", "record", ("record.json",), (read_record,), weight=4),
    Subject(
        "records, commands",
        "record",
        ("record.json",),
        (command("report", "record.json", "--no-estimate", "--out", "page"),),
        ("record",),
    ),
    Subject(
        "labels of ImageNet",
        "imagenet",
        ("*.txt", "*.csv", "data/*"),
        (read_labels,),
        ("label", "WordNet", "devkit"),
        weight=3,
    ),
    Subject(
        "names of classes",
        "weights",
        ("names.txt",),
        (command("import", "theirs.pth", "--out", "i.safetensors", "--classes", "names.txt"),),
        ("class", "names"),
        weight=1,
    ),
)  # fmt: skip


# ---- values of options and recipes


@dataclass(frozen=True)
class Option:
    """A command with a hostile value of one of its options."""

    words: tuple[str, ...]
    names: tuple[str, ...]

    def __call__(self) -> None:
        """Run it."""
        command(*self.words)()


LONG = ("iterations", "epochs", "folds", "images")  # a large number is a wish that can be had
FIELDS = 0.4  # the share of recipe fields among options


def hostile_option(random: Random) -> Option:
    """A command from the tests of options, with another value of one option or recipe field."""
    from dataclasses import fields

    from resnetlab.training.recipe import Recipe
    from tests.cli.test_options import CASES

    value = str(
        random.choice((*NUMBERS, *REALS, *TEXTS, "0.1", "1", "-5", "1e6", "true", "inf", "3.7", "a=b", "=", "--"))
    )
    value = value.replace("\0", "?").replace("\x1b", "?").replace("\n", " ").encode(errors="replace").decode()
    if random.random() < FIELDS:
        named = random.choice([field.name for field in fields(Recipe) if field.name not in LONG])
        base = random.choice(
            (RESUME[:-4], (*TRAIN, "--data", "photos", "--recipe", "modern-short", "--image-size", "32"))
        )
        return Option((*base[:-2], "--iterations", "2", "--set", f"{named}={value}", "--out", "out"), ())
    words, option, values, _ = random.choice(
        [case for case in CASES if case[0][0] != "analyse" and "several.pth" not in case[0] and case[1] not in LONG]
    )
    flag = f"--{option}"
    if flag in words:
        at = words.index(flag)
        words = (*words[:at], *words[at + 2 :])
    return Option((*words, flag, *[value] * max(1, len(values))), ())
