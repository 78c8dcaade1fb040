"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from resnetlab.choices import VERSIONS, DeviceName, OnBad, StrideOn
from resnetlab.errors import ResnetlabError

if TYPE_CHECKING:
    import torch

TABLES = (".csv", ".json")


@dataclass(frozen=True)
class NetworkOptions:
    """Options of the network, in addition to those in its name."""

    shortcut: Literal["A", "B", "C"] | None = None
    """The paper's option A, B or C. Default: B for ImageNet networks, A for CIFAR networks."""
    stride_on: StrideOn | None = None
    """A bottleneck's stride is on the first 1x1 (v1, the paper's) or on the 3x3 (v1.5, torchvision's and timm's).
    Default: 1x1; on image files of your own 3x3."""

    @property
    def given(self) -> dict[str, Any]:
        """The options as the fields of a network."""
        return {"shortcut": self.shortcut, "version": VERSIONS[self.stride_on] if self.stride_on else None}


@dataclass(frozen=True)
class DetectionSettings:
    """How a detector is run."""

    device: DeviceName = "auto"
    """auto uses the GPU if there is one."""
    threads: int | None = None
    """CPU threads. Default: one per core."""
    workers: int | None = None
    """Threads that read image files. Default: one per core."""
    on_bad: OnBad | None = None
    """At a file that cannot be read: stop, or skip it. Default: name it, go on, and end with status 2."""


@dataclass(frozen=True)
class InferenceSettings:
    """How the network is run."""

    device: DeviceName = "auto"
    """auto uses the GPU if there is one."""
    batch_size: int | None = None
    """Images per batch. Default: 8 on a CPU, 128 on a GPU."""
    threads: int | None = None
    """CPU threads of the network. Default: one per core."""
    workers: int | None = None
    """Threads that read image files. Default: one per core."""
    on_bad: OnBad | None = None
    """At a file that cannot be read: stop, or skip it. Default: name it, go on, and end with status 2."""

    def images_per_batch(self, device: "torch.device") -> int:
        """The batch size on this device."""
        return self.batch_size or (8 if device.type == "cpu" else 128)


@dataclass(frozen=True)
class Outputs:
    """Where results go."""

    out: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]],
        tyro.conf.arg(metavar="FILE-or-FOLDER", help_behavior_hint=""),
    ] = ()
    """Write a table to this .csv or .json file, in place of printing it; of a detector also pictures to this folder.
    May be given several times."""
    json: bool = False
    """Print one JSON object per image, and everything else to standard error."""

    @property
    def tables(self) -> list[Path]:
        """The files among them."""
        return [path for path in self.out if path.suffix in TABLES]

    @property
    def folder(self) -> Path | None:
        """The folder among them.

        Raises:
            ResnetlabError: it is a file, has another suffix, or there are two.
        """
        folders = [path for path in self.out if path.suffix not in TABLES]
        for path in folders:
            if path.is_file() or (path.suffix[1:].isalpha() and not path.is_dir()):
                raise ResnetlabError(
                    f"`out={path}`: expected a file name that ends in .csv or .json, or a folder for pictures"
                )
        if len(folders) > 1:
            raise ResnetlabError(f"`out={folders[1]}`: one folder is enough; tables end in .csv or .json")
        return folders[0] if folders else None
