"""How a run is executed: device, threads, compilation. Results are the same up to rounding."""

import importlib.util
import math
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from resnetlab.choices import DeviceName, Kernels, Switch
from resnetlab.errors import ResnetlabError
from resnetlab.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

STARTED = time.monotonic()
LOAD_SECONDS = 60.0
WITHOUT_RECOMPUTING = 250  # layers; activations of deeper networks take gigabytes
WORTH_COMPILING = 1500  # steps; on a CPU, compiling a CIFAR network takes the time that about 800 steps save


@dataclass(frozen=True)
class Settings:
    """The user's settings; None lets the machine decide."""

    device: DeviceName = "auto"
    """auto uses the NVIDIA GPU if there is one; mps is Apple's GPU."""
    threads: int | None = None
    """CPU threads of the network. Default: one per core, divided among concurrent runs."""
    workers: int | None = None
    """Threads that read image files. Default: one per core."""
    compile: Switch = "auto"
    """auto compiles runs that are long enough to benefit."""
    capture: Switch = "auto"
    """Capture whole steps as one CUDA graph; auto does so on a GPU."""
    recompute: Switch = "auto"
    """Recompute activations in the backward pass (saves memory); auto does so beyond 250 layers."""
    kernels: Kernels = "auto"
    """triton: batch normalisation of small images by kernels of this project, and weight gradients on a second
    stream, on an NVIDIA GPU. auto is torch."""
    jobs: ClassVar[int] = 1  # not an option

    def shared_by(self, jobs: int) -> "Settings":
        """A copy for one of `jobs` concurrent runs."""
        found = replace(self)
        object.__setattr__(found, "jobs", jobs)
        return found

    def settle(self, recipe: Recipe, depth: int, earlier: dict[str, Any] | None) -> dict[str, Any]:
        """The settings to use on this machine: as given, otherwise as in the run's earlier start (same rounding).

        `depth` is the network's number of layers.

        Raises:
            ResnetlabError: a requested or earlier device or compiler is missing, or steps cannot be captured.
        """
        import torch

        from resnetlab.training.distributed import World

        earlier = earlier or {}
        device = choose_device(earlier.get("device", "auto") if self.device == "auto" else self.device)
        world = World.here()
        cores = torch.get_num_threads() if world.size == 1 else (os.cpu_count() or 1) // world.local_size
        threads = self.threads or earlier.get("threads") or max(1, cores // self.jobs)
        if device.type != "cuda" and recipe.precision == "tfloat32":
            raise ResnetlabError("precision tfloat32 needs an NVIDIA GPU; elsewhere use float32 or bfloat16")

        def settled(name: str, choice: Switch, otherwise: Callable[[], bool]) -> bool:
            if choice == "auto":
                return bool(earlier[name]) if name in earlier else otherwise()
            return choice == "yes"

        if self.compile == "yes" and not can_compile(device):
            raise ResnetlabError("`compile=yes`: torch.compile needs Linux and a C++ compiler here; use `compile=no`")
        if self.compile == "yes" and recipe.crop == "whole":
            raise ResnetlabError("images and regions of many sizes are not compiled; remove `compile=yes`")
        recomputed = settled("recomputed", self.recompute, lambda: depth > WITHOUT_RECOMPUTING)
        cannot = why_not_triton(recipe, world.size, device, recomputed)
        if self.kernels == "triton" and cannot:
            raise ResnetlabError(f"`kernels=triton` cannot be used with {cannot}; remove it")
        before = self.kernels == "auto" and earlier.get("kernels") == "triton"
        ours = not cannot and (before or self.kernels == "triton")
        cannot = why_not_captured(recipe, world.size)
        if self.capture == "yes" and cannot:
            raise ResnetlabError(f"whole steps cannot be captured with {cannot}; remove `capture=yes`")
        return {
            "device": device.type,
            "threads": threads,
            "workers": self.workers or earlier.get("workers") or max(1, (os.cpu_count() or 1) // world.local_size),
            "compiled": settled("compiled", self.compile, lambda: can_compile(device) and _repays(recipe)),
            "captured": not cannot and settled("captured", self.capture, lambda: device.type == "cuda"),
            "recomputed": recomputed,
            "kernels": "triton" if ours else "torch",
        }


def why_not_captured(recipe: Recipe, processes: int) -> str:
    """Why whole steps cannot be captured as one graph; empty if they can."""
    reasons = {
        "images that are read from files": not recipe.resident,
        "averaged weights (ema)": recipe.averages,
        "several processes": processes > 1,
    }
    return _those_that_hold(reasons)


def why_not_triton(recipe: Recipe, processes: int, device: "torch.device", recomputed: bool) -> str:
    """Why this project's kernels cannot be used; empty if they can. Triton's interpreter runs them on a processor."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    reasons = {
        "a device other than an NVIDIA GPU": device.type != "cuda" and not interpreted,
        "a Python without Triton": importlib.util.find_spec("triton") is None,
        "images that are read from files": not recipe.resident,
        "a batch in parts": recipe.parts(processes) > 1,
        "several processes": processes > 1 or recipe.synchronised,
        "recomputed activations (recompute)": recomputed,
    }
    return _those_that_hold(reasons)


def _those_that_hold(reasons: dict[str, bool]) -> str:
    return " and ".join(reason for reason, holds in reasons.items() if holds)


def others_busy() -> float:
    """The cores that other processes kept busy in the last minute: the load without this process and its children."""
    elapsed, spent = time.monotonic() - STARTED, sum(os.times()[:4])
    own = spent / max(elapsed, 1.0) * -math.expm1(-elapsed / LOAD_SECONDS)  # as the load average forgets
    return min(max(0.0, os.getloadavg()[0] - own), float(os.cpu_count() or 1))


def crowded(settings: Settings) -> str:
    """A warning if other processes keep the cores busy, which slows threads that wait for each other."""
    import torch

    cores = os.cpu_count() or 1
    if not hasattr(os, "getloadavg") or settings.device == "cuda" or torch.cuda.is_available():
        return ""
    busy, threads = others_busy(), settings.threads or torch.get_num_threads()
    if threads == 1 or busy + threads < 1.5 * cores:
        return ""
    return (
        f"Other processes keep {busy:.1f} of {cores} cores busy; {threads} threads that wait for each other can be "
        "far slower than `threads=1`"
    )


def _repays(recipe: Recipe) -> bool:
    return recipe.iterations >= WORTH_COMPILING and recipe.resident


def choose_device(device: DeviceName) -> "torch.device":
    """The device by name; `auto` is the NVIDIA GPU if there is one, otherwise the processor.

    Raises:
        ResnetlabError: a GPU is requested and torch sees none.
    """
    import torch

    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ResnetlabError("torch sees no cuda device here; use `device=cpu`")
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise ResnetlabError("torch sees no GPU of Apple's (mps) here; use `device=cpu`")
        return torch.device("mps")
    return torch.device("cuda" if cuda and device != "cpu" else "cpu")


def can_compile(device: "torch.device") -> bool:
    """Whether torch.compile works: on a CPU it needs a C++ compiler, on a GPU Triton, both on Linux."""
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    return platform.system() == "Linux" and (device.type == "cuda" or any(map(shutil.which, compilers)))
