"""The words that options take. A leaf that imports nothing heavy, so that the command line starts at once."""

from typing import Literal

Shortcut = Literal["none", "A", "B", "C"]
Version = Literal["v1", "v1.5"]
StrideOn = Literal["1x1", "3x3"]
VERSIONS: dict[StrideOn, Version] = {"1x1": "v1", "3x3": "v1.5"}
"""Of bottleneck networks, by the convolution with the stride."""
ZeroChannels = Literal["end", "both"]
MaxPool = Literal["padded", "ceil"]

OnBad = Literal["stop", "skip"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
SplitName = Literal["test", "validation", "train", "all"]

TaskName = Literal["classification", "detection"]

ProtocolName = Literal["center", "ten-crop", "dense"]
TestPrecision = Literal["float32", "bfloat16"]
RankedBy = Literal["top-1", "top-5"]

EngineName = Literal["torch", "onnxruntime", "openvino"]
EnginePrecision = Literal["auto", "float32", "bfloat16"]

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Switch = Literal["auto", "yes", "no"]
Kernels = Literal["auto", "torch", "triton"]
