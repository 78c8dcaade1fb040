"""Train one network in several processes that torchrun starts; without torchrun, in one process."""

import functools
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

from resnetlab.errors import FailedElsewhereError, ResnetlabError
from resnetlab.networks.modes import recast

T = TypeVar("T")
_meetings = itertools.count()


@dataclass(frozen=True)
class World:
    """The rank of this process among `size`, and its rank `local` among `local_size` on this machine."""

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> "World":
        """Read torchrun's environment variables."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(name in os.environ for name in names):
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @classmethod
    def connected(cls) -> "World":
        """The processes that can communicate now: within `joined` those of torchrun, otherwise this one alone."""
        return cls.here() if dist.is_initialized() else cls()

    @property
    def main(self) -> bool:
        """Whether this process writes and prints (rank 0)."""
        return self.rank == 0

    def device(self, kind: str) -> torch.device:
        """This process's device of this type."""
        return torch.device(kind, self.local) if kind == "cuda" and self.size > 1 else torch.device(kind)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Within this context the processes of torchrun can communicate."""
    here = World.here()
    if here.size == 1 or dist.is_initialized():
        yield here
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # each process group has its own keys in the store; old keys hold addresses of ended processes
    meeting = f"attempt {attempt}, meeting {next(_meetings)}"
    store = dist.PrefixStore(meeting, _store())  # type: ignore[attr-defined]
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.size)
    try:
        yield here
    finally:
        dist.destroy_process_group()


@functools.cache
def _store() -> Any:
    """The store of all processes, kept from the first meeting on.

    A new one for each meeting could be reached while the old one still ends.
    """
    return next(iter(dist.rendezvous("env://")))[0]  # type: ignore[attr-defined]


def led(here: World, action: Callable[[], T]) -> T | None:
    """Run `action` on rank 0; the other processes wait and get None.

    Raises:
        FailedElsewhereError: on the other processes, if rank 0 failed.
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
        raise FailedElsewhereError(failed[0])
    return result


def is_of_another(error: Exception) -> bool:
    """Whether the connection to another process of the run failed."""
    several = World.here().size > 1 and isinstance(error, RuntimeError)
    return several and (isinstance(error, dist.DistError) or "gloo" in str(error))


def wait_for_all() -> None:
    """Wait until every process gets here (barrier)."""
    if dist.is_initialized():
        dist.barrier()


def summed(numbers: Tensor) -> Tensor:
    """The sum over all processes (all-reduce)."""
    if dist.is_initialized():
        numbers = numbers.clone()
        dist.all_reduce(numbers)
    return numbers


def gathered(items: set[str]) -> set[str]:
    """The union of the items of all processes."""
    if not dist.is_initialized():
        return items
    found: list[set[str]] = [set() for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, items)
    return set().union(*found)


def collected(rows: Tensor) -> Tensor:
    """The rows of all processes, one process after the other, on the processor."""
    if not dist.is_initialized():
        return rows.cpu()
    found: list[Tensor] = [rows for _ in range(dist.get_world_size())]
    dist.all_gather_object(found, rows.cpu())
    return torch.cat(found)


def any_of(wish: bool, device: torch.device) -> bool:
    """Whether `wish` is true in any process; all processes get the same answer."""
    return bool(summed(torch.full((), float(wish), device=device)).item()) if dist.is_initialized() else wish


def parallel(network: nn.Module) -> nn.Module:
    """The network in DistributedDataParallel: gradients are averaged over the processes, buffers are rank 0's."""
    return DistributedDataParallel(network) if dist.is_initialized() else network


def share_buffers(network: nn.Module) -> None:
    """Give every process rank 0's buffers, which are those that it saves: each has its own after a training step."""
    if dist.is_initialized():
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)


def gradients_later(network: nn.Module) -> AbstractContextManager[Any]:
    """A context in which gradients are accumulated without communication."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


class AcrossProcesses(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes, whose parts of the batch have equal sizes."""

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """`BatchNorm2d` over the whole batch."""
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
    """Synchronise batch normalisation over all processes, in place, without changing names or values.

    torch's own layer supports only GPUs.
    """
    recast(network, nn.BatchNorm2d, AcrossProcesses)


def _total(x: Tensor) -> Tensor:
    """The sum over all processes, with gradients to each of them."""
    total: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return total
