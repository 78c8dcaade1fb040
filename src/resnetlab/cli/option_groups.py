"""Options that several commands share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resnetlab.choices import DeviceName, Version

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class NetworkOptions:
    """Options of the network, in addition to those in its name."""

    shortcut: Literal["A", "B", "C"] | None = None
    """The paper's option A, B or C. Default: B for ImageNet networks, A for CIFAR networks."""
    version: Version | None = None
    """Stride of a bottleneck on the first 1x1 (v1, the paper's) or on the 3x3 (v1.5, torchvision's). Default: v1."""


@dataclass(frozen=True)
class DetectionSettings:
    """How a detector is run."""

    device: DeviceName = "auto"
    """auto uses the GPU if there is one."""
    threads: int | None = None
    """CPU threads. Default: one per core."""


@dataclass(frozen=True)
class InferenceSettings:
    """How the network is run."""

    device: DeviceName = "auto"
    """auto uses the GPU if there is one."""
    batch_size: int | None = None
    """Images per batch. Default: 8 on a CPU, 128 on a GPU."""
    threads: int | None = None
    """CPU threads. Default: one per core."""

    def images_per_batch(self, device: "torch.device") -> int:
        """The batch size on this device."""
        return self.batch_size or (8 if device.type == "cpu" else 128)
