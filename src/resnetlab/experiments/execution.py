"""How a run is executed: device, threads, compilation. Nothing here changes what is computed, but for rounding."""

import os
import platform
import shutil
from dataclasses import dataclass
from typing import Any, Literal

import torch

from resnetlab.errors import ResnetlabError
from resnetlab.training.recipe import Recipe

Device = Literal["auto", "cpu", "cuda"]
Compile = Literal["auto", "yes", "no"]
WORTH_COMPILING = 1500  # steps; compiling a CIFAR network costs a CPU the time that about 800 of them save


@dataclass(frozen=True)
class Execution:
    """What the user asked for. Threads left out are the cores, shared among `jobs` runs at a time."""

    device: Device = "auto"
    threads: int | None = None
    compile: Compile = "auto"
    jobs: int = 1

    def settle(self, recipe: Recipe, earlier: dict[str, Any] | None) -> dict[str, Any]:
        """What is done on this machine: as asked, else as in the run's earlier start, so that it rounds alike.

        Raises:
            ResnetlabError: a device or a compiler is asked for, or was used earlier, that is not there.
        """
        earlier = earlier or {}
        device = choose_device(earlier.get("device", "auto") if self.device == "auto" else self.device)
        threads = self.threads or earlier.get("threads") or max(1, torch.get_num_threads() // self.jobs)
        if self.compile == "auto" and "compiled" in earlier:
            compiled = earlier["compiled"]
        else:
            compiled = _should_compile(self.compile, recipe, device)
        return {"device": device.type, "threads": threads, "compiled": compiled}


def choose_device(device: Device) -> torch.device:
    """The device by name; `auto` is the GPU where there is one.

    Raises:
        ResnetlabError: a GPU is asked for and torch sees none.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ResnetlabError("torch sees no cuda device here; use --device cpu")
    return torch.device("cuda" if cuda and device != "cpu" else "cpu")


def _should_compile(choice: Compile, recipe: Recipe, device: torch.device) -> bool:
    """Long runs repay compiling; on a CPU it needs a C++ compiler, on a GPU Triton, both found on Linux."""
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    possible = platform.system() == "Linux" and (device.type == "cuda" or any(map(shutil.which, compilers)))
    if choice == "yes" and not possible:
        raise ResnetlabError("--compile yes: torch.compile needs Linux and a C++ compiler here; use --compile no")
    return choice == "yes" or (choice == "auto" and possible and recipe.iterations >= WORTH_COMPILING)
