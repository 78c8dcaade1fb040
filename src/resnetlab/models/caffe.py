"""The authors' Caffe release (ResNet-50, 101, 152) as our networks, read without Caffe.

What differs there, and becomes ours here without changing what the network computes: batch normalisation is two
layers, BatchNorm with sums and their count, and Scale; `conv1` of ResNet-50 has a bias; pixels are BGR from 0 to 255;
the maximum pooling has no border and rounds up.
"""

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular
from resnetlab.models.recognise import Tensors, Weights, fit
from resnetlab.networks.architecture import IMAGENET, architecture

MOST = 1 << 31  # bytes, the limit of protocol buffers
EPS = 1e-5  # of our batch normalisation
SCHEMA = {  # the fields of caffe.proto that are read here: name, number, type, repeated or not
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [
        ("num", 1, "int32", False),
        ("channels", 2, "int32", False),
        ("height", 3, "int32", False),
        ("width", 4, "int32", False),
        ("data", 5, "float", True),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, "double", True),
    ],
    "ConvolutionParameter": [("stride", 6, "uint32", True)],
    "PoolingParameter": [("pad", 4, "uint32", False)],
    "BatchNormParameter": [("eps", 3, "float", False)],
    "LayerParameter": [
        ("name", 1, "string", False),
        ("type", 2, "string", False),
        ("blobs", 7, "BlobProto", True),
        ("convolution_param", 106, "ConvolutionParameter", False),
        ("pooling_param", 121, "PoolingParameter", False),
        ("batch_norm_param", 139, "BatchNormParameter", False),
    ],
    "NetParameter": [("name", 1, "string", False), ("layer", 100, "LayerParameter", True)],
}
STAGE = r"([2-5])([a-z]\d*)_branch(1|2[abc])"  # res3b2_branch2a: conv3_x, third block, its first convolution


def read_caffe(path: Path) -> Weights:
    """The network in a `.caffemodel` of the authors' release, for RGB pixels of 0 to 1 less the mean.

    Raises:
        ResnetlabError: no protocol buffer of Caffe, or not one of the networks, or protobuf is not installed.
    """
    layers = {str(layer.name): layer for layer in _parse("NetParameter", path).layer}
    if not layers:
        raise ResnetlabError(f"{path} holds no layers of Caffe; expected a .caffemodel")
    names = _our_names(layers)
    counts = [len({our.split(".")[1] for our in names if our.startswith(f"layer{k}.")}) for k in (1, 2, 3, 4)]
    known = [
        name for name, (block, blocks, _) in IMAGENET.items() if (block, blocks) == ("bottleneck", tuple(counts))
    ]
    if not known:
        found = ", ".join(str(count) for count in counts)
        raise ResnetlabError(f"{path} has stages of {found} bottlenecks; expected the authors' ResNet-50, 101 or 152")
    strides = list(layers["res3a_branch2a"].convolution_param.stride) if "res3a_branch2a" in layers else []
    row = replace(
        architecture(known[0]),
        version="v1.5" if strides == [1] else "v1",
        max_pool="padded" if "pool1" in layers and layers["pool1"].pooling_param.pad else "ceil",
    )
    try:
        tensors = _tensors(layers, names)
        if "fc.weight" in tensors:
            row = replace(row, num_classes=len(tensors["fc.weight"]))
        unread = [name for name, layer in layers.items() if layer.blobs and name not in names.values()]
        tensors |= {name: torch.zeros(0) for name in unread}
        return Weights("caffe", row, fit(tensors, row, names))
    except (ResnetlabError, RuntimeError, LookupError) as error:  # of PyTorch: shapes that do not go together
        raise ResnetlabError(f"{path} is no {row.name} of the authors' release: {error}") from None


def read_mean_image(path: Path) -> Float[Tensor, "c h w"]:
    """The mean image in a `.binaryproto`, turned from BGR of 0 to 255 to RGB of 0 to 1.

    Raises:
        ResnetlabError: the file holds no such image.
    """
    try:
        mean = _array(_parse("BlobProto", path))
    except ResnetlabError as error:
        raise ResnetlabError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    if mean.ndim == 4 and len(mean) == 1:
        mean = mean[0]
    if mean.ndim != 3 or len(mean) != 3:
        raise ResnetlabError(f"{path} holds an array of shape {list(mean.shape)}; expected a mean image [1, 3, h, w]")
    if not mean.isfinite().all():
        raise ResnetlabError(f"{path} holds values that are not numbers")
    return mean.flip(0) / 255


def _our_names(layers: dict[str, Any]) -> dict[str, str]:
    """Which layer of theirs each of our modules is: `layer2.1.conv1` is `res3b_branch2a`."""
    suffixes = {stage: set[str]() for stage in "2345"}
    for name in layers:
        if match := re.fullmatch("res" + STAGE, name):
            suffixes[match[1]].add(match[2])
    order = {stage: sorted(found, key=lambda s: (s[0], int(s[1:] or 0))) for stage, found in suffixes.items()}
    names = {"conv1": "conv1", "bn1": "bn_conv1", "bn1.affine": "scale_conv1", "fc": "fc1000"}
    for name in layers:
        if not (match := re.fullmatch("(res|bn|scale)" + STAGE, name)):
            continue
        what, stage, suffix, branch = match.groups()
        block = f"layer{int(stage) - 1}.{order[stage].index(suffix)}." if suffix in order[stage] else f"{name}."
        k = "abc".index(branch[-1]) + 1 if branch != "1" else 0
        module = {"res": f"conv{k}", "bn": f"bn{k}", "scale": f"bn{k}.affine"}[what]
        if branch == "1":
            module = {"res": "downsample.0", "bn": "downsample.1", "scale": "downsample.1.affine"}[what]
        names[block + module] = name
    return {our: name for our, name in names.items() if name in layers}


def _tensors(layers: dict[str, Any], names: dict[str, str]) -> Tensors:
    """Our state dict. A bias before batch normalisation moves its mean; another eps its variance."""
    tensors: Tensors = {}
    biases: Tensors = {}
    for our, name in names.items():
        blobs = [_array(blob) for blob in layers[name].blobs]
        if our.endswith(".affine"):
            _check(name, blobs, 2)
            norm = our.removesuffix(".affine")
            tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = blobs
        elif "bn" in our or our.endswith("downsample.1"):
            _check(name, blobs, 3)
            count = float(blobs[2])
            scale = 1 / count if count else 0.0
            parameters = layers[name].batch_norm_param
            more = parameters.eps - EPS if parameters.HasField("eps") else 0
            tensors[f"{our}.running_mean"] = blobs[0] * scale
            tensors[f"{our}.running_var"] = blobs[1] * scale + (more if abs(more) > EPS / 1e6 else 0)
        elif our == "fc":
            _check(name, blobs, 2)
            tensors["fc.weight"], tensors["fc.bias"] = blobs[0].flatten(0, -2), blobs[1].flatten()
        else:
            _check(name, blobs, 1, 2)
            tensors[f"{our}.weight"] = blobs[0]
            if len(blobs) == 2:
                biases[our.replace("conv", "bn").replace("downsample.0", "downsample.1")] = blobs[1].flatten()
    for norm, bias in biases.items():
        tensors[f"{norm}.running_mean"] = tensors[f"{norm}.running_mean"] - bias
    if "conv1.weight" in tensors:
        tensors["conv1.weight"] = tensors["conv1.weight"].flip(1) * 255
    return tensors


def _check(name: str, blobs: list[Tensor], *counts: int) -> None:
    if len(blobs) not in counts:
        raise ResnetlabError(f"layer {name} has {len(blobs)} arrays; expected {' or '.join(str(c) for c in counts)}")


def _array(blob: Any) -> Tensor:
    data = np.array(blob.double_data if blob.double_data else blob.data, dtype=np.float32)
    shape = list(blob.shape.dim) if blob.HasField("shape") else [blob.num, blob.channels, blob.height, blob.width]
    if int(np.prod(shape)) != data.size:
        raise ResnetlabError(f"an array of {data.size} numbers is said to have shape {shape}; the file is damaged")
    return torch.from_numpy(data).reshape(shape)


def _parse(message: str, path: Path) -> Any:
    try:
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError:
        raise ResnetlabError(f"reading {path} needs protobuf: pip install 'resnetlab[caffe]'") from None
    try:
        return _messages()[message].FromString(read_regular(path, most=MOST))
    except (OSError, DecodeError) as error:
        raise ResnetlabError(f"{path} is cut short, or not a file of Caffe: {error}") from error


@functools.cache
def _messages() -> dict[str, Any]:
    """The classes of SCHEMA's messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="resnetlab/caffe.proto", package="resnetlab.caffe", syntax="proto2"
    )
    types = descriptor_pb2.FieldDescriptorProto
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
            if kind in SCHEMA:
                place = f".resnetlab.caffe.{kind}"
                message.field.add(name=field, number=number, label=label, type=types.TYPE_MESSAGE, type_name=place)
            else:
                scalar = types.Type.Value(f"TYPE_{kind.upper()}")
                message.field.add(name=field, number=number, label=label, type=scalar)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"resnetlab.caffe.{name}") for name in SCHEMA}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}
