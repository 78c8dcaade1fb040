"""How a run is executed: device, threads, compilation. Nothing here changes what is computed, but for rounding."""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from resnetlab.errors import ResnetlabError
from resnetlab.training.distributed import World
from resnetlab.training.recipe import Recipe

Device = Literal["auto", "cpu", "cuda"]
Choice = Literal["auto", "yes", "no"]
WITHOUT_RECOMPUTING = 250  # layers; activations of deeper networks take gigabytes
WORTH_COMPILING = 1500  # steps; compiling a CIFAR network costs a CPU the time that about 800 of them save


@dataclass(frozen=True)
class Execution:
    """What the user asked for. Threads left out are the cores, shared among `jobs` runs at a time.

    `workers` are the threads that read image files; they too are the cores.
    """

    device: Device = "auto"
    threads: int | None = None
    compile: Choice = "auto"
    jobs: int = 1
    capture: Choice = "auto"
    recompute: Choice = "auto"
    workers: int | None = None

    def settle(self, recipe: Recipe, depth: int, earlier: dict[str, Any] | None) -> dict[str, Any]:
        """What is done on this machine: as asked, else as in the run's earlier start, so that it rounds alike.

        `depth` is the network's number of layers.

        Raises:
            ResnetlabError: a device or a compiler is asked for, or was used earlier, that is not there.
        """
        earlier = earlier or {}
        device = choose_device(earlier.get("device", "auto") if self.device == "auto" else self.device)
        here = World.here()
        cores = torch.get_num_threads() if here.size == 1 else (os.cpu_count() or 1) // here.local_size
        threads = self.threads or earlier.get("threads") or max(1, cores // self.jobs)
        if device.type == "cpu" and recipe.precision == "tfloat32":
            raise ResnetlabError("precision tfloat32 is NVIDIA's; on a processor use float32 or bfloat16")

        def settled(name: str, choice: Choice, otherwise: Callable[[], bool]) -> bool:
            if choice == "auto":
                return bool(earlier[name]) if name in earlier else otherwise()
            return choice == "yes"

        if self.compile == "yes" and not can_compile(device):
            raise ResnetlabError("--compile yes: torch.compile needs Linux and a C++ compiler here; use --compile no")
        return {
            "device": device.type,
            "threads": threads,
            "workers": self.workers or earlier.get("workers") or max(1, (os.cpu_count() or 1) // here.local_size),
            "compiled": settled("compiled", self.compile, lambda: can_compile(device) and _repays(recipe)),
            "captured": settled("captured", self.capture, lambda: device.type == "cuda"),
            "recomputed": settled("recomputed", self.recompute, lambda: depth > WITHOUT_RECOMPUTING),
        }


def crowded(execution: Execution) -> str:
    """A warning where other processes keep the cores busy: threads that wait for each other then crawl."""
    cores = os.cpu_count() or 1
    if not hasattr(os, "getloadavg") or execution.device == "cuda" or torch.cuda.is_available():
        return ""
    busy, threads = os.getloadavg()[0], execution.threads or torch.get_num_threads()
    if threads == 1 or busy + threads < 1.5 * cores:
        return ""
    return (
        f"Other processes keep {busy:.1f} of {cores} cores busy; {threads} threads that wait for each other may be "
        "far slower than --threads 1"
    )


def _repays(recipe: Recipe) -> bool:
    return recipe.iterations >= WORTH_COMPILING and recipe.crop == "padded"


def choose_device(device: Device) -> torch.device:
    """The device by name; `auto` is the GPU where there is one.

    Raises:
        ResnetlabError: a GPU is asked for and torch sees none.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ResnetlabError("torch sees no cuda device here; use --device cpu")
    return torch.device("cuda" if cuda and device != "cpu" else "cpu")


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works: on a CPU it needs a C++ compiler, on a GPU Triton, both found on Linux."""
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    return platform.system() == "Linux" and (device.type == "cuda" or any(map(shutil.which, compilers)))
