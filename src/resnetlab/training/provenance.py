"""The environment of a run: code, libraries, machine."""

import platform
import subprocess
from pathlib import Path

import torch

from resnetlab.training.distributed import World
from resnetlab.version import installed


def environment(device: torch.device) -> dict[str, object]:
    """Versions, the commit (in a git checkout), and the CPU or GPU."""
    return {
        "resnetlab": installed(),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "processes": World.here().size,
    }


def _commit() -> str | None:
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or None  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()
