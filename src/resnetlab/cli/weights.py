"""`resnetlab import`, `resnetlab export` and `resnetlab predict`."""

import time
from csv import writer as csv_writer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from resnetlab.choices import EngineName, EnginePrecision, Interpolation, Shortcut, Version, ZeroChannels
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, counted, ends_in, say, watched
from resnetlab.cli.option_groups import DetectionSettings, InferenceSettings
from resnetlab.errors import ResnetlabError
from resnetlab.files import places_under, replacing

if TYPE_CHECKING:
    import torch

    from resnetlab.inference.predict import Prediction
    from resnetlab.models.modelfile import Model


@command(name="import")
def import_(
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")],
    /,
    *,
    out: Path | None = None,
    as_: Annotated[str | None, tyro.conf.arg(name="as", metavar="NETWORK", help_behavior_hint="")] = None,
    shortcut: Shortcut | None = None,
    version: Version | None = None,
    zero_channels: ZeroChannels | None = None,
    classes: str | None = None,
    mean: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NUMBER ... or FILE", help_behavior_hint="")] = (),
    std: tuple[float, ...] = (),
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Interpolation | None = None,
    entry: str | None = None,
) -> None:
    """Convert weights of another library into a model file, and verify them.

    Reads checkpoints of torchvision, timm, transformers and CIFAR repositories (.pth, .th, .bin, .safetensors) and
    the authors' Caffe release (.caffemodel). Options are only needed for information that the file does not have.

    Args:
        file: A file of weights, or a folder from a hub with config.json and weights.
        out: The model file. Default: the name of FILE with .safetensors, in the current folder.
        as_: The expected network, e.g. resnet50 or cifar_plain20. Default: detected.
        shortcut: Option A, B or C, or none. Default: detected.
        version: Stride of a bottleneck on the first 1x1 (v1) or on the 3x3 (v1.5); not stored in files.
        zero_channels: Position of option A's zero channels; not stored in files.
        classes: imagenet, cifar10, cifar100 or a text file with one name per line, in the order of the outputs.
        mean: Mean of each channel, R G B from 0 to 1; or a file with Caffe's mean image.
        std: Standard deviation of each channel, R G B from 0 to 1.
        resize: Resize the shorter side of images to this many pixels.
        crop: Side in pixels of the centre crop after resizing.
        interpolation: nearest, bilinear, bicubic or lanczos.
        entry: The network to take from a checkpoint with several, e.g. model_ema.
    """
    at_least_one(resize=resize, crop=crop)
    target = out or Path(f"{file.resolve().stem if file.is_file() else file.resolve().name}.safetensors")
    if target.suffix != ".safetensors":
        raise ResnetlabError(f"`out={target}`: model files end in .safetensors")
    if target.exists() and file.exists() and target.samefile(file):
        raise ResnetlabError(f"{target} would replace the file it is made from; give another name with `out`")
    from resnetlab.data.class_names import read_classes
    from resnetlab.models.importing import Hints, import_weights
    from resnetlab.models.modelfile import save

    named = read_classes(classes) if classes else None
    hints = Hints(
        as_, shortcut, version, zero_channels, named, _mean(mean), std or None, resize, crop, interpolation, entry
    )
    imported = import_weights(file, hints)
    row = imported.model.network.architecture
    save(imported.model, target)
    details = [f"shortcut {row.shortcut}"] + [f"version {row.version}"] * (row.block == "bottleneck")
    details += [f"zero channels {row.zero_channels}"] * (row.shortcut == "A")
    say(f"{file}: {row.name} ({', '.join(details)}), {row.num_classes:,} classes, names of {imported.kind}")
    for note in imported.notes:
        say(f"  {note}")
    say(f"All keys match: {target}")


@command
def export(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    to: Literal["torchvision", "timm", "onnx"],
    out: Path | None = None,
    int8: Path | None = None,
) -> None:
    """Write a model for other programs: torchvision, timm or ONNX.

    Args:
        model: A run folder, a model file, or weights of another library.
        to: The library or format.
        out: The file, or for timm the folder. Default: in the model's folder.
        int8: For ONNX: quantise weights and activations to 8 bits, with ranges from the images in this folder.
    """
    if int8 and to != "onnx":
        raise ResnetlabError(f"`int8` is for `to=onnx`; {to} takes float32 weights")
    from resnetlab.models.exporting import export_timm, export_torchvision
    from resnetlab.models.importing import read_model, weights_file
    from resnetlab.models.onnxfile import export_onnx
    from resnetlab.models.published import located

    loaded, source = read_model(model), weights_file(located(model))
    if not model.exists():  # published weights are in the cache, and what is made of them is not
        source = Path(source.name)
    name = loaded.network.architecture.name
    if to == "torchvision":
        target = out or source.with_name(f"{source.stem}-torchvision.safetensors")
        export_torchvision(loaded, target)
        read = "torch.load" if target.suffix == ".pth" else "safetensors.torch.load_file"
        use = f"torchvision.models.{name}(num_classes={len(loaded.classes)}), by load_state_dict({read}(...))"
        say(f"{target}: for {use}")
        say("Class names and preprocessing stay in the model file; torchvision's format cannot store them.")
    elif to == "timm":
        target = out or source.with_name(f"{source.stem}-timm")
        export_timm(loaded, target)
        say(f'{target}: for timm.create_model("local-dir:{target}", pretrained=True)')
    elif int8 is None:
        target = out or source.with_name(f"{source.stem}.onnx")
        difference = export_onnx(loaded, target)
        channels, height, width = loaded.preprocessing.image_shape
        say(f"{target}: input pixels, uint8 (batch, {height}, {width}, {channels}); normalisation is inside")
        say(f"ONNX Runtime's logits match the network's up to {difference:.0e} of the largest, at two batch sizes.")
    else:
        _export_int8(loaded, int8, out or source.with_name(f"{source.stem}-int8.onnx"))


@command(name="predict")
def predict_(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES-or-FOLDER", help_behavior_hint="")
    ],
    /,
    *,
    csv: Path | None = None,
    out: Path | None = None,
    explain: Path | None = None,
    unsure: float | None = None,
    top: int | None = None,
    engine: EngineName | None = None,
    precision: EnginePrecision = "auto",
    settings: InferenceSettings = InferenceSettings(),  # noqa: B008 -- frozen
) -> None:
    """Print the most likely classes of images, or the objects in them, with the preprocessing of the model file.

    Args:
        model: A run folder, a model file, weights of another library, or an ONNX file from `resnetlab export`.
        images: Image files, and folders that are searched at any depth.
        csv: Write the predictions to this file instead of printing them.
        out: Of a detector, write the pictures with boxes to this folder.
        explain: Write pictures to this folder that show where the network sees the two likeliest classes.
        unsure: Mark images whose likeliest class has a lower probability than this, from 0 to 1.
        top: Classes per image. Default: 5.
        engine: Default: torch, or onnxruntime for an ONNX file.
        precision: auto uses bfloat16 on hardware with matrix units for it.
        settings: How the network is run.
    """
    at_least_one(settings, top=top)
    ends_in("csv", csv, ".csv")
    from resnetlab.models.modelfile import task_of
    from resnetlab.models.published import located

    model = located(model)
    if task_of(model) == "detection":
        from resnetlab.cli.detecting import LIKELY, Written, find

        for name, given in (
            ("explain", explain),
            ("unsure", unsure),
            ("top", top),
            ("engine", engine),
            ("precision", precision != "auto"),
            ("batch_size", settings.batch_size),
        ):
            if given:
                raise ResnetlabError(f"`{name}` takes no effect with a detector; see `resnetlab detect --help`")
        how = DetectionSettings(settings.device, settings.threads)
        find((model,), images, Written(out, csv), (f"score={LIKELY}",), how)
        return
    if out:
        raise ResnetlabError("`out` is for the pictures of a detector; `csv` takes the classes")
    top = top or 5
    from resnetlab.data.class_names import spoken
    from resnetlab.inference.engines import open_engine
    from resnetlab.inference.predict import Unreadable, find_images, predict
    from resnetlab.models.importing import read_model
    from resnetlab.models.modelfile import Model
    from resnetlab.runs.settings import choose_device

    if explain and (engine not in (None, "torch") or model.suffix == ".onnx"):
        raise ResnetlabError("`explain` needs the network itself: a model file or a run, with the engine torch")
    if explain and explain.is_file():
        raise ResnetlabError(f"{explain} is a file; give a folder for the pictures with `explain`")
    if unsure is not None and not 0 < unsure <= 1:
        raise ResnetlabError(f"`unsure={unsure:g}`: it must be more than 0 and at most 1")
    paths = find_images(images)
    on_torch = (engine or ("onnxruntime" if model.suffix == ".onnx" else "torch")) == "torch"
    where = choose_device("cpu" if settings.device == "auto" and not on_torch else settings.device)
    read_once = read_model(model) if explain else model
    opened = open_engine(read_once, engine, device=where, precision=precision, threads=settings.threads)
    size = settings.images_per_batch(where)
    started, unreadable, doubtful, strange, rows = time.perf_counter(), 0, 0, 0, []
    for found in watched(predict(opened, paths, top=top, batch_size=size), "predicting", len(paths)):
        if isinstance(found, Unreadable):
            unreadable += 1
            complain(found.reason)
            continue
        is_unsure = unsure is not None and found.probabilities[0] < unsure
        doubtful += is_unsure
        strange += bool(found.unfamiliar)
        if csv:
            rows.append((found, is_unsure))
        else:
            ranked = zip(found.classes, found.probabilities, strict=True)
            mark = "unlike the training images: " * bool(found.unfamiliar) + "unsure: " * is_unsure
            say(f"{found.path}: {mark}" + ", ".join(f"{spoken(name)} {share:.1%}" for name, share in ranked))
    seconds = time.perf_counter() - started
    read, place = len(paths) - unreadable, f": {csv}" if csv else ""
    if csv:
        _write_csv(csv, rows, unsure is not None)
    if explain and isinstance(read_once, Model):
        _explain(read_once, paths, explain, where, size)
    doubt = f", {doubtful:,} unsure" if unsure is not None else ""
    doubt += f", {strange:,} unlike the training images" if opened.limit is not None else ""
    say(f"{counted(read, 'image')}{doubt} in {seconds:.1f} s, {read / seconds:.1f} images/s ({opened.about}){place}")
    if unreadable:
        raise ResnetlabError(f"{unreadable:,} of {len(paths):,} files could not be read; they are named above")


def _explain(model: "Model", paths: list[Path], folder: Path, device: "torch.device", batch_size: int) -> None:
    """Write a picture for each readable image: the image, and the maps of its likeliest classes."""
    import numpy as np

    from resnetlab.inference.explain import explain
    from resnetlab.inference.predict import read_batches
    from resnetlab.report.explanations import class_titles, draw_explanations

    model.network.to(device)
    places, made = places_under(folder, paths, ".png"), 0
    batches = read_batches(model.preprocessing.fit, paths, batch_size)
    for batch in watched(batches, "explaining", -(-len(paths) // batch_size)):
        read = [(path, pixels) for path, pixels in batch if not isinstance(pixels, str)]
        if not read:
            continue
        found = explain(model, np.stack([pixels for _, pixels in read]))
        for (path, _), each in zip(read, found, strict=True):
            place = places[Path(str(path))]
            draw_explanations([each], [class_titles(each, str(path))], place)
            made += 1
    say(f"{counted(made, 'picture')} of where the network sees the likeliest classes: {folder}")


def _export_int8(model: "Model", folder: Path, target: Path) -> None:
    from resnetlab.inference.int8 import export_int8, split
    from resnetlab.inference.predict import find_images

    calibration, held_out = split(find_images([folder]))
    parts = [watched(paths, text) for paths, text in ((calibration, "ranges"), (held_out, "comparing"))]
    agreement = export_int8(model, target, *parts)
    say(f"{target}: int8, with ranges from {len(calibration):,} images of {folder}")
    say(f"Same top-1 class as float32: {agreement.percent:.2f} % of {agreement.images:,} other images of that folder")


def _mean(words: tuple[str, ...]) -> tuple[float, ...] | Path | None:
    try:
        return tuple(float(word) for word in words) or None
    except ValueError:
        if len(words) == 1 and Path(words[0]).is_file():
            return Path(words[0])
        raise ResnetlabError(f"`mean={' '.join(words)}`: expected numbers or a file with a mean image") from None


def _write_csv(path: Path, rows: "list[tuple[Prediction, bool]]", with_doubt: bool) -> None:
    """Write the columns image, then for each rank class (for ImageNet with English name) and probability.

    With `with_doubt` a column says yes of images that are unsure, otherwise no; and one of images unlike the training
    images, if the model can say.
    """
    from resnetlab.data.class_names import imagenet

    english = imagenet() if any(name in imagenet() for row, _ in rows for name in row.classes) else None
    ranks = range(1, 1 + max((len(row.classes) for row, _ in rows), default=0))
    kinds = ("class", "name", "probability") if english else ("class", "probability")
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv_writer(file)
        judged = any(row.unfamiliar is not None for row, _ in rows)
        last = ["unsure"] * with_doubt + ["unfamiliar"] * judged
        writer.writerow(["image", *(f"{kind}_{rank}" for rank in ranks for kind in kinds), *last])
        for row, is_unsure in rows:
            cells: list[str] = []
            for name, share in zip(row.classes, row.probabilities, strict=True):
                cells += [name, english.get(name, ""), f"{share:.6f}"] if english else [name, f"{share:.6f}"]
            marks = [is_unsure] * with_doubt + [bool(row.unfamiliar)] * judged
            writer.writerow([str(row.path), *cells, *("yes" if mark else "no" for mark in marks)])
