"""Several processes that train one network, as torchrun starts them; without it, one process that is alone."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from resnetlab.errors import ResnetlabError

T = TypeVar("T")
_meetings = itertools.count()


@dataclass(frozen=True)
class World:
    """The place of this process among `size` of them; `local` of `local_size` on this machine."""

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> "World":
        """What torchrun says in the environment."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(name in os.environ for name in names):
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def device(self, kind: str) -> torch.device:
        """This process's device of a kind."""
        return torch.device(kind, self.local) if kind == "cuda" and self.size > 1 else torch.device(kind)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Within this context the processes of torchrun can reach each other."""
    here = World.here()
    if here.size == 1 or dist.is_initialized():
        yield here
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store = next(iter(dist.rendezvous("env://")))[0]  # type: ignore[attr-defined]
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # each meeting has its own part of the store, or processes may be sent to the addresses of the dead
    meeting = f"attempt {attempt}, meeting {next(_meetings)}"
    store = dist.PrefixStore(meeting, store)  # type: ignore[attr-defined]
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.size)
    try:
        yield here
    finally:
        dist.destroy_process_group()


class FailedElsewhere(ResnetlabError):  # noqa: N818 -- it is one
    """The first process could not go on, and has said why."""


def led(here: World, action: Callable[[], T]) -> T | None:
    """What the first process does while the others wait; None for those.

    Raises:
        FailedElsewhere: in the others, where the first one failed.
    """
    if here.size == 1:
        return action()
    failed: list[str | None] = [None]
    result: T | None = None
    try:
        if here.main:
            result = action()
    except (ResnetlabError, OSError) as error:
        failed = [str(error)]
        raise
    finally:
        dist.broadcast_object_list(failed)
    if failed[0] is not None:
        raise FailedElsewhere(failed[0])
    return result


def is_of_another(error: RuntimeError) -> bool:
    """Whether what failed is the connection to another process of the run."""
    return isinstance(error, dist.DistError) or (dist.is_initialized() and "gloo" in str(error))


def wait_for_all() -> None:
    """Go on when every process is here."""
    if dist.is_initialized():
        dist.barrier()


def summed(numbers: Tensor) -> Tensor:
    """The sum over all processes; it is the same in each of them."""
    if dist.is_initialized():
        numbers = numbers.clone()
        dist.all_reduce(numbers)
    return numbers


def any_of(wish: bool, device: torch.device) -> bool:
    """Whether any process wishes so; all get the same answer."""
    return bool(summed(torch.full((), float(wish), device=device)).item()) if dist.is_initialized() else wish


def parallel(network: nn.Module) -> nn.Module:
    """The network, whose gradients are averaged over the processes, and whose buffers are the first one's."""
    return DistributedDataParallel(network) if dist.is_initialized() else network


def gradients_later(network: nn.Module) -> AbstractContextManager[Any]:
    """Where gradients are added up without being exchanged yet."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


class AcrossProcesses(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' parts of the batch, which have one size."""

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The same as `BatchNorm2d` over the whole batch."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        x = input.float()
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _total(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _total(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            assert self.running_mean is not None and self.running_var is not None  # noqa: S101, PT018
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * count / (count - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(input.dtype)


def synchronise(network: nn.Module) -> None:
    """Let batch normalisation take its statistics from all processes, in place; names and values stay.

    torch's own layer does so on GPUs alone.
    """
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = AcrossProcesses


def _total(x: Tensor) -> Tensor:
    """The sum over all processes, through which gradients flow back to each of them."""
    total: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return total
