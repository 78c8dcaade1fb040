"""Models as files that torchvision and timm load without a word about us, where they have such a network."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_safetensors

from resnetlab.errors import ResnetlabError
from resnetlab.files import holds_others, replacing, write_json
from resnetlab.models.modelfile import Model
from resnetlab.models.onnxfile import TOLERANCE, Deployed, header_of, largest_difference, quietly

Library = Literal["torchvision", "timm"]


def export_torchvision(model: Model, path: Path) -> None:
    """Weights for `torchvision.models.<network>(num_classes=...)`, as `.safetensors`, or `.pth` if so named.

    Raises:
        ResnetlabError: torchvision has no network that computes the same, or another suffix.
    """
    _refuse_what_it_has_not(model, "torchvision")
    if model.network.architecture.in_channels != 3:
        raise ResnetlabError("torchvision's networks take 3 channels; export to onnx, or to timm")
    _write_weights(model, path)


def export_timm(model: Model, folder: Path) -> None:
    """A folder for `timm.create_model("local-dir:<folder>", pretrained=True)`: weights, and all about their use.

    Raises:
        ResnetlabError: timm has no network that computes the same, or cannot do this preprocessing.
    """
    _refuse_what_it_has_not(model, "timm")
    about, row = model.preprocessing, model.network.architecture
    if about.mean.shape[1:] != (1, 1):
        raise ResnetlabError(
            "its preprocessing subtracts a mean image, and timm's a mean by channel only; "
            "export to onnx, which has the preprocessing inside"
        )
    (height, width), (rows, columns) = about.fit.resize, about.fit.crop
    if height != width or rows != columns:
        raise ResnetlabError("its images are not square, and timm has no preprocessing for that; export to onnx")
    share = rows / height if math.floor(rows / (rows / height)) == height else rows / (height + 0.5)
    config: dict[str, Any] = {
        "architecture": row.name,
        "num_classes": row.num_classes,
        "label_names": list(model.classes),
        "pretrained_cfg": {
            "input_size": [row.in_channels, rows, columns],
            "interpolation": about.fit.interpolation,
            "crop_pct": share,
            "crop_mode": "center",
            "mean": about.mean.flatten().tolist(),
            "std": about.std.flatten().tolist(),
            "num_classes": row.num_classes,
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }
    if row.in_channels != 3:
        config["model_args"] = {"in_chans": row.in_channels}
    if holds_others(folder, ("model.safetensors", "config.json")):
        raise ResnetlabError(f"{folder} is a file or holds other files; give a folder of its own with `out`")
    _write_weights(model, folder / "model.safetensors")
    write_json(folder / "config.json", config)


def export_program(model: Model, path: Path) -> float:
    """A program of `torch.export`, for `torch.export.load`: from 8-bit pixels to logits, as in ONNX files.

    Its extra file `resnetlab.json` has class names and preprocessing. Returns the largest difference between the
    program's logits and the network's, as a share of the largest.

    Raises:
        ResnetlabError: another suffix, or the logits differ.
    """
    if path.suffix != ".pt2":
        raise ResnetlabError(f"{path}: expected a name that ends in .pt2")
    shape = (*model.fit.crop, len(model.preprocessing.std))
    pixels = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    with quietly():
        program = torch.export.export(Deployed(model).eval(), (pixels,), dynamic_shapes=({0: batch},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # which has paths of this machine
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                torch.export.save(program, file, extra_files={"resnetlab.json": json.dumps(header_of(model))})
            with temporary.open("rb") as file:
                loaded = torch.export.load(file).module()
            difference = largest_difference(
                model, lambda images: loaded(torch.from_numpy(images))[0].detach().numpy()
            )
            if difference > TOLERANCE:
                raise ResnetlabError(
                    f"the program's logits differ from the network's by {difference:.1e} of the largest"
                )
    return difference


def _refuse_what_it_has_not(model: Model, library: Library) -> None:
    row = model.network.architecture
    wrong = {
        "plain networks": not row.is_residual,
        "networks for CIFAR": row.stem == "cifar",
        f"shortcut of option {row.shortcut}": row.shortcut in ("A", "C"),
        "stride on a bottleneck's first 1x1 (version v1)": row.block == "bottleneck" and row.version == "v1",
        "narrower networks": row.narrow > 1,
        "maximum pooling that rounds up, as the authors'": row.max_pool == "ceil",
    }
    if found := [what for what, is_so in wrong.items() if is_so]:
        raise ResnetlabError(
            f"{library} has no network that computes the same as this {row.label}, for it has no "
            f"{' and no '.join(found)}; export to onnx instead"
        )


def _write_weights(model: Model, path: Path) -> None:
    tensors = {key: value.cpu().contiguous() for key, value in model.calibrated.state_dict().items()}
    if path.suffix not in (".safetensors", ".pth"):
        raise ResnetlabError(f"{path}: expected a name that ends in .safetensors or .pth")
    about = json.dumps({"classes": model.classes, "preprocessing": model.preprocessing.fit.describe()})
    with replacing(path) as temporary:
        if path.suffix == ".pth":
            torch.save(tensors, temporary)
        else:
            temporary.write_bytes(to_safetensors(tensors, {"format": "pt", "exported": about}))
