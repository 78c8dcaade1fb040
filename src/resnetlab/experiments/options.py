"""The options of experiments. Imports nothing heavy, for the command line."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from resnetlab.errors import ResnetlabError
from resnetlab.runs.settings import Settings
from resnetlab.training.resolve import RecipeOptions

LEAST_IMAGES = 100
ScaleName = Literal["digits", "short", "folder", "full"]


@dataclass(frozen=True)
class Options:
    """The given options; None keeps the experiment's value."""

    scale: ScaleName | None = None
    """digits takes minutes on a laptop, with narrower networks for Tables 2 to 5 and Figure 4; short is CIFAR-10 by a
    tenth of the paper's schedule, a night on a laptop; folder uses your own images from --data; full is the paper's
    experiment, on CIFAR-10 or ImageNet. Default: digits."""
    dry_run: bool = False
    """Measure each network for some seconds, and print the expected time and disk space."""
    seeds: int = 1
    """Runs per network, for mean and spread."""
    networks: tuple[str, ...] = ()
    """Only these networks, e.g. cifar_plain20 cifar_resnet56 or, with an option, resnet34-A; for detection also with
    an option of the detector, resnet50+context."""
    narrow: int | None = None
    """Divide the widths of the networks of Tables 2 to 5, 7 to 12 and Figure 4 by this. Default: 8 for digits,
    otherwise as the names say."""
    data: str | None = None
    """Another data set instead of the scale's; a folder of images for Tables 2 to 5 and Figure 4."""
    data_dir: Path | None = None
    """Folder of CIFAR (or download target) and of imagenet/; or an .npz file in place of CIFAR. Default: data."""
    out: Path = Path("runs")
    """The folder for all runs and reports."""
    jobs: int | None = None
    """Concurrent runs. Default: four on a GPU; on a CPU one per core for digits, otherwise one."""
    rounds: int | None = None
    """How often `cost` measures each network. Default: 5 on a CPU, 15 on a GPU."""
    images: int | None = None
    """Images of each split that figure7, gradients, lesions, ... measure on. Default: 2000, or all if fewer."""
    surface: int | None = None
    """landscape: also the loss surface in two directions, at N x N points; its cost is printed first."""
    weights: Path | None = None
    """table7 to table12: start from the weights NETWORK.safetensors or NETWORK.pth in this folder."""
    recipe: RecipeOptions = field(default_factory=RecipeOptions)
    """Changes to the experiment's recipe."""
    settings: Settings = field(default_factory=Settings)
    """How runs are executed; results are the same up to rounding."""

    def check(self) -> None:
        """Refuse values that no measurement can use, before anything is trained.

        Raises:
            ResnetlabError: names the option.
        """
        if self.images is not None and self.images < LEAST_IMAGES:
            raise ResnetlabError(f"`images={self.images}`: a stable estimate needs at least {LEAST_IMAGES}")
        if self.surface is not None and (self.surface < 3 or self.surface % 2 == 0):
            raise ResnetlabError(
                f"`surface={self.surface}`: give an odd number of at least 3, so that the network is in the middle"
            )

    def given(self) -> list[str]:
        """The names of the options that differ from their defaults, except `out`."""
        own = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        parts = [own.pop("recipe")[0], own.pop("settings")[0]]
        own |= {f.name: (getattr(part, f.name), f.default) for part in parts for f in fields(part) if f.init}
        return [name for name, (value, default) in own.items() if value != default and name != "out"]
