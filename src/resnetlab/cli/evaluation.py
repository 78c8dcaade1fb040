"""`resnetlab evaluate`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from resnetlab.choices import DeviceName, OnBad, ProtocolName, SplitName, TestPrecision
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, main_process, print_table, say, watched
from resnetlab.errors import ResnetlabError
from resnetlab.runs.settings import Settings

if TYPE_CHECKING:
    from resnetlab.evaluation.answers import Answers
    from resnetlab.evaluation.evaluate import EvaluationSet
    from resnetlab.evaluation.protocol import Protocol
    from resnetlab.evaluation.scores import Scored
    from resnetlab.models.modelfile import Model
    from resnetlab.models.onnxfile import OnnxModel

SHOWN = 20  # classes
SMALL_MAP = 3  # positions
WORST = 10


@dataclass(frozen=True)
class TestData:
    """The test data."""

    data: str | None = None
    """The data set, by name or path. Default: the model's training data set."""
    split: SplitName | None = None
    """The images to test on. Default: the test split. For data without a split: the tenth that training holds out, or
    all images if the model is of another library."""
    data_dir: Path | None = None
    """Folder of cifar10 and cifar100, also for downloads. Default: as in training."""
    on_bad: OnBad = "stop"
    """Stop at an unreadable file, or skip and count it."""


@dataclass(frozen=True)
class TestSettings:
    """How testing is executed."""

    precision: TestPrecision = "float32"
    """bfloat16 is faster on hardware with matrix units for it."""
    device: DeviceName = "auto"
    """auto uses the GPU if there is one."""
    batch_size: int | None = None
    """Views of the model's image size per batch. Default: 10 on a CPU, 512 on a GPU."""
    threads: int | None = None
    """CPU threads of the network. Default: one per core."""
    workers: int | None = None
    """Threads that read image files. Default: one per core."""


@command
def evaluate(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    protocol: ProtocolName | None = None,
    scales: tuple[int, ...] = (),
    out: Path | None = None,
    detector: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTION=VALUE ...", help_behavior_hint="")] = (),
    with_: Annotated[tuple[Path, ...], tyro.conf.arg(name="with", metavar="MODEL ...", help_behavior_hint="")] = (),
    on: TestData = TestData(),
    settings: TestSettings = TestSettings(),
) -> None:
    """Test a network under one of the paper's protocols, or a detector, with the preprocessing of its model file.

    Example: resnetlab evaluate runs/photos --out evaluation

    Args:
        model: A run folder, a model file, weights of another library, or an ONNX file of `resnetlab export`.
        protocol: center: one centre crop; ten-crop: four corners and centre, also mirrored; dense: the whole image at
            several scales, fully convolutionally. Default: center.
        scales: Shorter sides in pixels for dense, and for multi-scale testing of a detector. Default for dense: 224
            256 384 480 640, scaled with the model's crop size.
        out: Write numbers, predictions, scores, tables by class and pictures to this folder.
        detector: Of a detector, other options of testing, e.g. refine=yes nms=0.5.
        with_: Of a detector, more detectors of the same classes, as an ensemble.
        on: The test data.
        settings: How testing is executed.
    """
    at_least_one(settings)
    from resnetlab.models.modelfile import task_of
    from resnetlab.models.published import located

    model = located(model)
    if task_of(model) == "detection":
        from resnetlab.cli.detecting import evaluate_detector, option_of

        if protocol:
            raise ResnetlabError(f"`protocol={protocol}` takes no effect with a detector; see `detector`")
        evaluate_detector((model, *with_), on, settings, (*detector, *option_of(scales)), out)
        return
    if detector or with_:
        name = "detector" if detector else "with"
        raise ResnetlabError(f"`{name}` takes no effect with a model for classification")
    test_classifier(model, protocol or "center", scales, out, on, settings)


@dataclass(frozen=True)
class Tested:
    """A model, the images that it was tested on, what it says of them, and how long that took."""

    model: "Model | OnnxModel"
    images: "EvaluationSet"
    scored: "Scored"
    remark: str
    seconds: float


def scored_by(
    model: Path, protocol: ProtocolName, scales: tuple[int, ...], on: TestData, settings: TestSettings
) -> Tested:
    """Test a network for classification under a protocol."""
    import torch

    from resnetlab.evaluation.evaluate import images_for
    from resnetlab.evaluation.protocol import protocol as chosen_protocol
    from resnetlab.models.importing import read_model
    from resnetlab.models.published import located
    from resnetlab.runs.settings import choose_device
    from resnetlab.training.distributed import World, joined

    if model.suffix == ".onnx":
        return _scored_by_onnx(model, protocol, on, settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = located(model)
    trained = read_model(model)
    fit = trained.preprocessing.fit
    chosen = chosen_protocol(protocol, fit, scales)
    source, data_dir = source_of(model, trained.provenance, on)
    images = images_for(trained, source, data_dir, on.split, on.on_bad, settings.workers)
    if protocol == "dense" and min(trained.network.map_size(*fit.crop)) < SMALL_MAP:
        complain(
            f"The last feature map of a {max(fit.crop)}-pixel crop has one or two positions, which see mostly zero "
            "padding; dense testing of larger images gives the network inputs unlike those in training"
        )
    device = World.here().device(choose_device(settings.device).type)
    with joined(device):
        began = time.perf_counter()
        scored, remark = _tested(trained, images, chosen, settings, model, device)
        return Tested(trained, images, scored, remark, time.perf_counter() - began)


def _scored_by_onnx(path: Path, protocol: ProtocolName, on: TestData, settings: TestSettings) -> Tested:
    """Test an ONNX file by ONNX Runtime, as it will be deployed."""
    from resnetlab.evaluation.evaluate import images_for
    from resnetlab.inference.engines import open_engine
    from resnetlab.models.onnxfile import read_onnx
    from resnetlab.tasks.deployed import evaluate_deployed

    if protocol != "center":
        raise ResnetlabError(f"`protocol={protocol}` needs the network itself; an ONNX file takes single views")
    if settings.precision != "float32":
        raise ResnetlabError(f"`precision={settings.precision}` takes no effect with an ONNX file, which has its own")
    if settings.device not in ("auto", "cpu"):
        raise ResnetlabError(f"`device={settings.device}`: ONNX files run on the CPU")
    deployed = read_onnx(path)
    source, data_dir = source_of(path, deployed.provenance, on)
    images = images_for(deployed, source, data_dir, on.split, on.on_bad, settings.workers)
    engine = open_engine(path, threads=settings.threads)
    watch = lambda items: watched(items, "evaluating", len(images))
    began = time.perf_counter()
    scored, remark = evaluate_deployed(engine, images, settings.batch_size or 8, watch, {"model": path.name})
    return Tested(deployed, images, scored, remark, time.perf_counter() - began)


def test_classifier(
    model: Path,
    protocol: ProtocolName,
    scales: tuple[int, ...],
    out: Path | None,
    on: TestData,
    settings: TestSettings,
) -> None:
    """Test a network for classification under a protocol, print what came of it, and write it."""
    if out:
        from resnetlab.files import refuse_others
        from resnetlab.report.evaluation_files import FILES

        refuse_others(out, FILES)
    found = scored_by(model, protocol, scales, on, settings)
    count = len(found.scored.names)
    _tell(found.model, found.images, found.scored, found.remark, protocol)
    say(f"{count:,} images in {found.seconds:.1f} s, {count / found.seconds:.1f} images/s")
    _print_classes(found.scored.answers(), out)
    if out and main_process:
        from resnetlab.report.evaluation_files import write_tested

        write_tested(out, found.model, found.images, found.scored)
        say(f"Numbers, scores, tables, confusion matrix, the most confident mistakes and why they were made: {out}")


def evaluation_of_run(folder: Path, settings: Settings) -> None:
    """Evaluate a finished run on its test images into its folder, unless this was done; in all processes together."""
    from resnetlab.evaluation.scores import SCORES, Scored
    from resnetlab.runs.scores_of_run import score_run
    from resnetlab.runs.settings import choose_device
    from resnetlab.runs.stored import evaluation_folder
    from resnetlab.training.distributed import World, any_of, joined

    device = World.here().device(choose_device(settings.device).type)
    with joined(device):
        if any_of((evaluation_folder(folder) / SCORES).exists(), device):  # written last
            if main_process:
                _say_error(Scored.load(evaluation_folder(folder)))
            return
        watch = lambda items, total: watched(items, "evaluating", total)
        found = score_run(folder, "center", settings.device, settings.workers, "skip", watch)
    if main_process:
        from resnetlab.report.evaluation_files import write_tested

        write_tested(evaluation_folder(folder), found.model, found.images, found.scored)
        _say_error(found.scored)


def _say_error(scored: "Scored") -> None:
    """Print the test error."""
    from resnetlab.evaluation.certainty import error_in_words

    said = error_in_words(scored.answers(), "test ")
    say(said[0].upper() + said[1:])


def write_folds(root: Path, runs: Sequence[Path]) -> str:
    """Write the evaluation of all folds together into `root`/evaluation, and say what came of it."""
    from resnetlab.evaluation.cross_validation import cross_validated
    from resnetlab.evaluation.evaluate import EvaluationSet, images_for
    from resnetlab.evaluation.scores import SCORES, Scored
    from resnetlab.models.modelfile import load
    from resnetlab.report.evaluation_files import write_evaluation
    from resnetlab.runs.stored import evaluation_folder, read_settings

    found = cross_validated([Scored.load(evaluation_folder(folder) / SCORES) for folder in runs])
    pooled, images = found.pooled, list[EvaluationSet]()
    for folder, scored in zip(runs, found.folds, strict=True):
        settings = read_settings(folder)
        of_fold = images_for(load(folder), settings["source"], Path(settings["data_dir"]), "test")
        images += [of_fold] * len(scored.names)
    names = [name for scored in found.folds for name in scored.names]
    title = "{network} on {data}, {protocol}".format(**pooled.about)
    about = {"title": title, **pooled.about, "errors_of_folds": found.errors}
    place = evaluation_folder(root)
    place.mkdir(parents=True, exist_ok=True)
    write_evaluation(place, pooled, lambda k: images[k].pixels_of(names[k]), about)
    pooled.save(place / SCORES)
    return found.in_words()


def beside(trained: "Model | OnnxModel", protocol: ProtocolName) -> str:
    """The result of the paper, or the authors' release, for a network and a protocol; empty if there is none."""
    from resnetlab.data.class_names import imagenet
    from resnetlab.paper.curves import figure4
    from resnetlab.paper.tables import printed

    row = trained.architecture
    if trained.classes != tuple(imagenet()) or row.narrow > 1:
        return ""
    if (found := printed(row.name, row.shortcut, protocol)) is not None:
        where = f"Table {found.table}" if found.table else "the authors' release"
        top5 = "" if found.top5_error is None else f", top-5 error {found.top5_error:.2f} %"
        return f"The paper's {found.method}: error {found.top1_error:.2f} %{top5} ({where}: {found.protocol})"
    if protocol == "center" and (curve := figure4(row.name, row.shortcut, "val")):
        return (
            f"The paper's {row.label}: error {curve[-1][1]:.1f} % at the end of Figure 4, ImageNet val, 1 centre crop"
        )
    return ""


def _tell(
    trained: "Model | OnnxModel", images: "EvaluationSet", scored: "Scored", remark: str, protocol: ProtocolName
) -> None:
    """Print the errors, the paper's result, and warnings."""
    from resnetlab.evaluation.answers import TOP
    from resnetlab.evaluation.calibration import expected_calibration_error
    from resnetlab.evaluation.certainty import error_in_words

    found, row = scored.answers(), trained.architecture
    width = f" of 1/{row.narrow} width" if row.narrow > 1 else ""
    which = "" if images.split == "all" else f"{images.split} "
    top5 = f", top-5 error {found.top5_error:.2f} %" if len(found.classes) > TOP else ""
    say(
        f"{row.title}{width} on {images.data}: {error_in_words(found, which)}{top5}, {scored.about['protocol']}; "
        f"{trained.origin}{remark}"
    )
    auc = "" if found.auc is None else f", AUC {found.auc:.3f}"
    gap = f"expected calibration error {expected_calibration_error(found):.1f} points"
    if scored.temperature != 1:
        before = expected_calibration_error(scored.answers(calibrated=False))
        gap += f" ({before:.1f} before the temperature of {scored.temperature:.2f})"
    say(f"Macro-F1 {found.macro_f1:.3f}, balanced accuracy {100 * found.balanced_accuracy:.2f} %{auc}, {gap}")
    if printed := beside(trained, protocol):
        say(printed)
    if images.skipped:
        skipped = len(images.skipped)
        complain(f"{skipped:,} files could not be read and are not counted, {min(images.skipped)} among them")
    if images.note:
        say(f"{images.data}: {images.note}")
    if found.at_chance and found.errors:
        from resnetlab.evaluation.chance import likely_cause

        complain(f"Guessing gives the same error. {likely_cause(found)}")


def source_of(model: Path, provenance: dict[str, Any], on: TestData) -> tuple[str, Path]:
    """The name or path of the test data, and the folder of downloaded data.

    Raises:
        ResnetlabError: neither the options nor the model say it.
    """
    from resnetlab.data.named import NAMED
    from resnetlab.runs.stored import read_settings

    source, data_dir = on.data, on.data_dir
    if model.is_dir() and "imported" not in provenance:
        settings = read_settings(model)
        if source is None and settings["source"] not in NAMED and not Path(settings["source"]).exists():
            raise ResnetlabError(
                f"{model} was trained on {settings['source']}, which is not there; say where it is now with `data`"
            )
        source, data_dir = source or settings["source"], data_dir or Path(settings["data_dir"])
    if source is None:
        source = provenance.get("data", {}).get("name")
        if source not in NAMED:
            known = f"was trained on {source}" if source else "does not say what it was trained on"
            raise ResnetlabError(f"{model} {known}; give the data set to test on with `data`")
    if on.data_dir and not (source in NAMED and NAMED[source].downloaded):
        raise ResnetlabError(f"`data_dir` takes no effect with {source}; it is for cifar10 and cifar100")
    return source, data_dir or Path("data")


def _tested(
    trained: "Model", images: "EvaluationSet", protocol: "Protocol", settings: TestSettings, model: Path, device: Any
) -> tuple["Scored", str]:
    from resnetlab.evaluation.evaluate import evaluate as test
    from resnetlab.training.distributed import World

    total = -(-len(images) // World.here().size)
    watch = lambda items: watched(items, "evaluating", total)
    rows, columns = trained.preprocessing.fit.crop
    pixels = settings.batch_size * rows * columns if settings.batch_size else None
    precision, about = settings.precision, {"model": model.name}
    try:
        return test(trained, images, protocol, device, precision=precision, pixels=pixels, watch=watch, about=about)
    except ResnetlabError as error:
        raise ResnetlabError(
            str(error) if images.data in str(error) else f"{images.data}, {model}: {error}"
        ) from None


def _print_classes(found: "Answers", out: Path | None) -> None:
    from resnetlab.data.class_names import spoken
    from resnetlab.report.evaluation_files import worst_first
    from resnetlab.report.record import Table

    classes = [row for row in found.by_class() if row.images]
    few = len(classes) <= SHOWN
    title = (
        "" if few else f"the {WORST} worst of {len(classes):,} classes" + ("" if out else "; --out FOLDER has all")
    )
    rows = []
    for row in classes if few else worst_first(classes)[:WORST]:
        shares = ("-" if share is None else f"{100 * share:.1f} %" for share in (row.precision, row.recall, row.f1))
        rows.append((spoken(row.name), f"{row.images:,}", *shares))
    absent = len(found.classes) - len(classes)
    note = f"{absent:,} other classes of the model have no images here." if absent else ""
    print_table(Table(("class", "images", "precision", "recall", "F1"), tuple(rows), note, title))
