"""What devices can do: fast bfloat16, and the widest numbers for exact counts."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def has_fast_bfloat16(device: "torch.device") -> bool:
    """Whether the processor or the graphics card has matrix units for bfloat16; on Apple's GPUs we do not use it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and has_bfloat16_tiles()


def has_bfloat16_tiles() -> bool:
    """Whether the processor multiplies matrices of bfloat16 (AMX); known on Linux only."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()


def widest(device: "torch.device") -> "torch.dtype":
    """float64, in which counts and sums are exact; float32 on Apple's GPUs (MPS), which have no float64."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def widened(numbers: "torch.Tensor") -> "torch.Tensor":
    """The numbers in the widest type that their device has."""
    return numbers.to(widest(numbers.device))
