"""`resnetlab import`, `resnetlab export` and `resnetlab predict`."""

import time
from csv import writer as csv_writer
from pathlib import Path
from typing import Annotated, Literal

import tyro

from resnetlab.cli.common import Count, Name, Place, app, at_least_one, complain, say, watched
from resnetlab.data.labels import imagenet, read_classes, spoken
from resnetlab.data.preprocessing import Interpolation
from resnetlab.errors import ResnetlabError
from resnetlab.experiments.execution import Device, choose_device
from resnetlab.files import replacing
from resnetlab.inference.engines import EngineName, Precision, open_engine
from resnetlab.inference.int8 import export_int8, split
from resnetlab.inference.predict import Prediction, Unreadable, find_images, predict
from resnetlab.models import Model, load, save
from resnetlab.models.exporting import export_timm, export_torchvision
from resnetlab.models.importing import Hints, import_weights
from resnetlab.models.modelfile import model_file
from resnetlab.models.onnxfile import export_onnx
from resnetlab.models.sidecars import Channels
from resnetlab.networks.resnet import Shortcut, Version, ZeroChannels

Numbers = Annotated[tuple[float, ...], tyro.conf.arg(metavar="NUMBER ...")]


@app.command(name="import")
def import_(
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")],
    /,
    *,
    out: Place = None,
    as_: Annotated[str | None, tyro.conf.arg(name="as", metavar="NETWORK")] = None,
    shortcut: Annotated[Shortcut | None, tyro.conf.arg(metavar="{none,A,B,C}")] = None,
    version: Annotated[Version | None, tyro.conf.arg(metavar="{v1,v1.5}")] = None,
    zero_channels: Annotated[ZeroChannels | None, tyro.conf.arg(metavar="{end,both}")] = None,
    classes: Annotated[str | None, tyro.conf.arg(metavar="NAME-OR-FILE")] = None,
    mean: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NUMBER ... or FILE")] = (),
    std: Numbers = (),
    resize: Count = None,
    crop: Count = None,
    interpolation: Annotated[Interpolation | None, tyro.conf.arg(metavar="KIND")] = None,
    entry: Name = None,
) -> None:
    """Turn other people's weights into a model file: recognised, converted, verified.

    Reads torchvision's, timm's, transformers' and CIFAR repositories' checkpoints (.pth, .th, .bin, .safetensors) and
    the authors' Caffe release (.caffemodel). Options are only needed for what the file does not say.

    Args:
        file: A file of weights, or a folder from a hub with config.json and weights in it.
        out: The model file; left out, the name of FILE with .safetensors, in this folder.
        as_: The network it must be, e.g. resnet50 or cifar_plain20; left out, recognised.
        shortcut: Option A, B or C, or none; left out, recognised.
        version: Stride of a bottleneck on the first 1x1 (v1) or on the 3x3 (v1.5); files do not tell.
        zero_channels: Where option A has its zeros; files do not tell.
        classes: imagenet, cifar10, cifar100 or a text file with one name a line, in the order of the outputs.
        mean: Of each channel, R G B from 0 to 1; or a file with Caffe's mean image.
        std: Standard deviation of each channel, R G B from 0 to 1.
        resize: Shorter side in pixels that images are resized to.
        crop: Side of the centre square that is cut out then.
        interpolation: nearest, bilinear, bicubic or lanczos.
        entry: Which network of a checkpoint that holds several, e.g. model_ema.
    """
    at_least_one(resize=resize, crop=crop)
    target = out or Path(f"{file.resolve().stem if file.is_file() else file.resolve().name}.safetensors")
    if target.suffix != ".safetensors":
        raise ResnetlabError(f"--out {target}: model files end in .safetensors")
    if target.exists() and file.exists() and target.samefile(file):
        raise ResnetlabError(f"{target} would replace the file it is made from; give another name with --out")
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
    say(f"Every key found its place, and no key is left over: {target}")


@app.command
def export(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    to: Literal["torchvision", "timm", "onnx"],
    out: Place = None,
    int8: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Write a model for other programs: torchvision, timm or ONNX.

    Args:
        model: A run folder or a model file.
        to: The library or format.
        out: The file, or for timm the folder; left out, beside the model.
        int8: For ONNX: 8-bit weights and activations, whose ranges are taken from the images of this folder.
    """
    if int8 and to != "onnx":
        raise ResnetlabError(f"--int8 is for --to onnx; {to} takes float32 weights")
    loaded, source = load(model), model_file(model)
    name = loaded.network.architecture.name
    if to == "torchvision":
        target = out or source.with_name(f"{source.stem}-torchvision.safetensors")
        export_torchvision(loaded, target)
        read = "torch.load" if target.suffix == ".pth" else "safetensors.torch.load_file"
        use = f"torchvision.models.{name}(num_classes={len(loaded.classes)}), by load_state_dict({read}(...))"
        say(f"{target}: for {use}")
        say("Class names and preprocessing stay in the model file; torchvision's weights have no place for them.")
    elif to == "timm":
        target = out or source.with_name(f"{source.stem}-timm")
        export_timm(loaded, target)
        say(f'{target}: for timm.create_model("local-dir:{target}", pretrained=True)')
    elif int8 is None:
        target = out or source.with_name(f"{source.stem}.onnx")
        difference = export_onnx(loaded, target)
        channels, height, width = loaded.preprocessing.image_shape
        say(f"{target}: input pixels, uint8 (batch, {height}, {width}, {channels}); normalisation is inside")
        say(f"ONNX Runtime's logits are the network's but for {difference:.0e} of the largest, at two batch sizes.")
    else:
        _export_int8(loaded, int8, out or source.with_name(f"{source.stem}-int8.onnx"))


@app.command(name="predict")
def predict_(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES-or-FOLDER")],
    /,
    *,
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    top: int = 5,
    engine: Annotated[EngineName | None, tyro.conf.arg(metavar="{torch,onnxruntime,openvino}")] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    batch_size: Count = None,
    threads: Count = None,
) -> None:
    """Print the likeliest classes of images, prepared as the model file says.

    Args:
        model: A run folder, a model file, or an ONNX file made by `resnetlab export`.
        images: Image files, and folders of them at any depth.
        csv: Write the predictions to this file instead of printing them.
        top: How many classes of each image.
        engine: Left out, torch, or onnxruntime for an ONNX file.
        precision: auto takes bfloat16 where the processor or card has matrix units for it.
        device: auto takes the GPU where there is one.
        batch_size: Images at a time; left out, 8 on a processor, 128 on a card.
        threads: Processor threads; left out, one a core.
    """
    at_least_one(top=top, batch_size=batch_size, threads=threads)
    if csv and (csv.suffix != ".csv" or csv.is_dir()):
        raise ResnetlabError(f"--csv {csv}: expected the name of a file that ends in .csv")
    paths = find_images(images)
    on_torch = (engine or ("onnxruntime" if model.suffix == ".onnx" else "torch")) == "torch"
    where = choose_device("cpu" if device == "auto" and not on_torch else device)
    opened = open_engine(model, engine, device=where, precision=precision, threads=threads)
    size = batch_size or (8 if where.type == "cpu" else 128)
    started, unreadable, rows = time.perf_counter(), 0, []
    for found in watched(predict(opened, paths, top=top, batch_size=size), "predicting", len(paths)):
        if isinstance(found, Unreadable):
            unreadable += 1
            complain(found.reason)
        elif csv:
            rows.append(found)
        else:
            ranked = zip(found.classes, found.probabilities, strict=True)
            say(f"{found.path}: " + ", ".join(f"{spoken(name)} {share:.1%}" for name, share in ranked))
    seconds = time.perf_counter() - started
    read, place = len(paths) - unreadable, f": {csv}" if csv else ""
    if csv:
        _write_csv(csv, rows)
    say(
        f"{read:,} image{'s' * (read != 1)} in {seconds:.1f} s, {read / seconds:.1f} images/s ({opened.about}){place}"
    )
    if unreadable:
        raise ResnetlabError(f"{unreadable:,} of {len(paths):,} files could not be read; they are named above")


def _export_int8(model: Model, folder: Path, target: Path) -> None:
    calibration, held_out = split(find_images([folder]))
    parts = [watched(paths, text) for paths, text in ((calibration, "ranges"), (held_out, "comparing"))]
    agreement = export_int8(model, target, *parts)
    say(f"{target}: int8, ranges from {len(calibration):,} images of {folder}")
    say(f"Top-1 as in float32: {agreement.percent:.2f} % of {agreement.images:,} other images there")


def _mean(words: tuple[str, ...]) -> Channels | Path | None:
    try:
        return tuple(float(word) for word in words) or None
    except ValueError:
        if len(words) == 1 and Path(words[0]).is_file():
            return Path(words[0])
        raise ResnetlabError(f"--mean {' '.join(words)}: neither numbers nor a file with a mean image") from None


def _write_csv(path: Path, rows: list[Prediction]) -> None:
    """Columns: image, then class (and its English name, where it is ImageNet's) and probability of each rank."""
    english = imagenet() if any(name in imagenet() for row in rows for name in row.classes) else None
    ranks = range(1, 1 + max((len(row.classes) for row in rows), default=0))
    kinds = ("class", "name", "probability") if english else ("class", "probability")
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(["image", *(f"{kind}_{rank}" for rank in ranks for kind in kinds)])
        for row in rows:
            cells: list[str] = []
            for name, share in zip(row.classes, row.probabilities, strict=True):
                cells += [name, english.get(name, ""), f"{share:.6f}"] if english else [name, f"{share:.6f}"]
            writer.writerow([str(row.path), *cells])
