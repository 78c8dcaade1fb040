"""`resnetlab import` and `resnetlab export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from resnetlab.choices import VERSIONS, Interpolation, Shortcut, StrideOn, ZeroChannels
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, say, watched
from resnetlab.errors import ResnetlabError
from resnetlab.files import resolved

if TYPE_CHECKING:
    from resnetlab.models.modelfile import Model


@command(name="import")
def import_(
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")],
    /,
    *,
    out: Path | None = None,
    as_: Annotated[str | None, tyro.conf.arg(name="as", metavar="NETWORK", help_behavior_hint="")] = None,
    shortcut: Shortcut | None = None,
    stride_on: StrideOn | None = None,
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

    Example: resnetlab import resnet50.pth --out resnet50.safetensors

    Args:
        file: A file of weights, or a folder from a hub with config.json and weights.
        out: The model file. Default: the name of FILE with .safetensors, in the current folder.
        as_: The expected network, e.g. resnet50 or cifar_plain20. Default: detected.
        shortcut: Option A, B or C, or none. Default: detected.
        stride_on: A bottleneck's stride is on the first 1x1 (v1) or on the 3x3 (v1.5); not stored in files.
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
    target = out or Path(f"{resolved(file).stem if file.is_file() else resolved(file).name}.safetensors")
    if target.suffix != ".safetensors":
        raise ResnetlabError(f"`out={target}`: model files end in .safetensors")
    if target.exists() and file.exists() and target.samefile(file):
        raise ResnetlabError(f"{target} would replace the file it is made from; give another name with `out`")
    from resnetlab.data.class_names import read_classes
    from resnetlab.models.importing import Hints, import_weights
    from resnetlab.models.modelfile import save

    named = read_classes(classes) if classes else None
    version = VERSIONS[stride_on] if stride_on else None
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
    to: Literal["torchvision", "timm", "onnx", "torchexport"],
    out: Path | None = None,
    int8: Path | None = None,
) -> None:
    """Write a model for other programs: torchvision, timm, ONNX or torch.export.

    Example: resnetlab export runs/photos --to onnx

    Args:
        model: A run folder, a model file, or weights of another library.
        to: The library or format.
        out: The file, or for timm the folder. Default: in the model's folder.
        int8: For ONNX: quantise weights and activations to 8 bits, with ranges from the images in this folder.
    """
    if int8 and to != "onnx":
        raise ResnetlabError(f"`int8` is for `to=onnx`; {to} takes float32 weights")
    from resnetlab.models.exporting import export_program, export_timm, export_torchvision
    from resnetlab.models.importing import read_model, weights_file
    from resnetlab.models.onnxfile import export_onnx
    from resnetlab.models.published import located

    loaded, source = read_model(model), weights_file(located(model))
    if not model.exists():  # published weights are in the cache, and what is made of them is not
        source = Path(source.name)
    if out and out.exists() and source.exists() and out.samefile(source):
        raise ResnetlabError(f"{out} is the model that is read; give another name with `out`")
    if out and out.is_dir() and to != "timm":
        raise ResnetlabError(f"{out} is a folder; give a file name with `out`")
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
    elif to == "torchexport":
        target = out or source.with_name(f"{source.stem}.pt2")
        difference = export_program(loaded, target)
        say(f'{target}: for torch.export.load("{target}").module(); {_input(loaded)}')
        say(f"Its logits match the network's up to {difference:.0e} of the largest, at two batch sizes.")
    elif int8 is None:
        target = out or source.with_name(f"{source.stem}.onnx")
        difference = export_onnx(loaded, target)
        say(f"{target}: {_input(loaded)}")
        say(f"ONNX Runtime's logits match the network's up to {difference:.0e} of the largest, at two batch sizes.")
    else:
        _export_int8(loaded, int8, out or source.with_name(f"{source.stem}-int8.onnx"))


def _input(model: "Model") -> str:
    """What a deployed model takes, and whether its probabilities are calibrated."""
    channels, height, width = model.preprocessing.image_shape
    trust = "" if model.trust is None else "; logits are calibrated"
    trust += "" if model.limit is None else ", and `distance` is the second output"
    return f"input pixels, uint8 (batch, {height}, {width}, {channels}); normalisation is inside{trust}"


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
