"""The only training loop. It knows no data set, device or folder, and yields events."""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor, nn

from resnetlab.devices import widened, widest
from resnetlab.errors import DivergedError
from resnetlab.training.distributed import gradients_later, summed
from resnetlab.training.parameters import frozen_parts, parameter_groups
from resnetlab.training.recipe import Precision, Recipe
from resnetlab.training.schedule import learning_rate

Inputs = Any
"""A tensor, or a structure with a length that slices into chunks as a tensor does."""


@runtime_checkable
class Batches(Protocol):
    """The batch at step t, as a pure function of t."""

    def batch(self, step: int) -> tuple[Inputs, Inputs]:
        """The network's input images, and targets."""


@runtime_checkable
class ResidentBatches(Batches, Protocol):
    """Batches whose data and step number are on the device, so that drawing needs no synchronisation."""

    def prepare(self, step: int) -> None:
        """Prepare the order of the images for this step."""

    def draw(self, step: Int64[Tensor, ""]) -> tuple[Float[Tensor, "b c h w"], Shaped[Tensor, "b *target"]]:
        """The batch of a prepared step."""


@dataclass
class State:
    """The full state of a run between two steps. Tallies are sums (loss, the task's metrics, images) on the device.

    `average` has the averaged weights, if the recipe asks for them.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    warmed_up_at: int | None = None
    average: nn.Module | None = None
    frozen: tuple[nn.Module, ...] = ()
    tally: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """The sums since the last report."""
    window: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """The sums since the last check for the end of warm-up."""

    @property
    def tested(self) -> nn.Module:
        """The network that is tested and saved."""
        return self.average or self.network

    def check_finite(self) -> None:
        """Check weights and loss.

        Raises:
            DivergedError: a weight or the training loss is not finite.
        """
        numbers = [self.tally[:1], *(p.detach() for p in self.network.parameters())]
        if not all(bool(torch.isfinite(x).all()) for x in numbers):
            rate = self.optimizer.param_groups[0]["lr"]
            raise DivergedError(f"the training loss is not finite at step {self.step}, learning rate {rate:g}")


@dataclass(frozen=True)
class Stepped:
    """A step was finished; `step` is the number of finished steps."""

    step: int


@dataclass(frozen=True)
class WarmedUp:
    """The headline metric fell below the recipe's `warmup_error`; the normal schedule starts at this step."""

    step: int
    headline: float
    learning_rate: float


@dataclass(frozen=True)
class Report:
    """A point of the curves: the task's metrics and the loss on the augmented batches since the last report."""

    step: int
    learning_rate: float
    metrics: dict[str, float]
    """By name: the headline first, `loss` last."""


COMPILED_WHOLE = 54  # blocks, as in ResNet-110; on a CPU compilation takes one or two seconds per block
COMPILED_KINDS = 64  # of blocks and batches, in all runs of a process; torch's limit is 8
Event = Stepped | WarmedUp | Report
Loss = Callable[[Tensor, Inputs], Tensor]
"""Network outputs and targets to the mean loss."""
Sums = Callable[[Tensor, Inputs], Float64[Tensor, "sums"]]
"""Outputs and targets to sums over images: one per metric, and the number of images last."""
Means = Callable[[Sequence[float]], dict[str, float]]
"""The sum of the loss, and `Sums`, to the metrics by name, the headline first."""
Objective = Callable[[Inputs, Inputs], tuple[Tensor, Tensor]]
"""Images and targets to the loss and the tally."""
Step = Callable[[State, float], None]


def start(network: nn.Module, recipe: Recipe, device: torch.device, sums: int = 2) -> State:
    """The state before the first step: the network on its device, and the paper's optimizer.

    `sums` is the number of sums that the task adds to the loss in the tally.

    Raises:
        ResnetlabError: the network has no stage of the name in `recipe.freeze`.
    """
    network = network.to(device).to(memory_format=torch.channels_last)
    frozen = frozen_parts(network, recipe)
    for part in frozen:
        part.requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(
        parameter_groups(network, recipe), recipe.learning_rate, momentum=recipe.momentum, fused=True
    )
    average = copy.deepcopy(network).requires_grad_(requires_grad=False) if recipe.averages else None
    tally, window = (torch.zeros(1 + sums, dtype=widest(device), device=device) for _ in range(2))
    return State(network, optimizer, average=average, frozen=frozen, tally=tally, window=window)


def objective(
    network: nn.Module,
    recipe: Recipe,
    device: torch.device,
    loss: Loss,
    sums: Sums,
    *,
    compiled: bool = False,
    by_block: bool | None = None,
    call: nn.Module | None = None,
) -> Objective:
    """The step's forward pass: images and targets in, the loss and the tally out.

    Compiled as a whole, or with `by_block` per kind of block, which compiles faster. Default: by block on a GPU,
    where networks of any depth share the few kinds, and for very deep networks.
    `call` is the module that runs the network (default: the network itself).
    """

    if device.type == "cuda":
        kind = "tf32" if recipe.precision == "tfloat32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = kind
        torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]
        if recipe.precision == "bfloat16":  # it costs nothing there, and half as much again in float32
            torch.backends.cudnn.deterministic = True

    def forward(images: Inputs, targets: Inputs) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            outputs = (call or network)(images)
        outputs = outputs.float()
        value = loss(outputs, targets)
        with torch.no_grad():
            return value, torch.cat([(widened(value) * len(targets))[None], sums(outputs, targets)])

    if not compiled:
        return forward
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns about an unused GPU
    allow_many_kinds()
    blocks = outermost_blocks(network)
    if by_block is None:
        by_block = device.type == "cuda" or len(blocks) > COMPILED_WHOLE
    if not by_block:
        return torch.compile(forward, dynamic=False)
    for block in blocks:
        block.compile(dynamic=False)
    return forward


def half(precision: Precision) -> torch.dtype | None:
    """The type of activations and multiplications in mixed precision; None where it is that of the weights."""
    return torch.bfloat16 if precision == "bfloat16" else None


def allow_many_kinds() -> None:
    """Let one process compile for many networks and runs, and fail rather than run uncompiled without a word."""
    torch._dynamo.config.recompile_limit = COMPILED_KINDS
    torch._dynamo.config.fail_on_recompile_limit_hit = True


def outermost_blocks(network: nn.Module) -> list[nn.Module]:
    """The residual blocks: the outermost modules inside the network whose class is not torch's."""
    found: list[nn.Module] = []
    for child in network.children():
        holds_them = isinstance(child, nn.Sequential) or type(child).__module__.startswith("torch.")
        found += outermost_blocks(child) if holds_them else [child]
    return found


def train(state: State, step: Step, recipe: Recipe, means: Means) -> Iterator[Event]:
    """Train from `state.step` to the recipe's end. After a `Stepped` the state is complete and can be saved.

    `means` computes metrics from a tally. Warm-up ends when the first metric, the headline, is low enough.

    Raises:
        DivergedError: the loss became infinite or NaN; detected at the next report.
    """
    state.network.train()
    for part in state.frozen:
        part.eval()  # batch statistics are frozen too
    while state.step < recipe.iterations:
        rate = learning_rate(recipe, state.step, state.warmed_up_at)
        step(state, rate)
        warming = recipe.warmup_rate is not None and state.warmed_up_at is None
        if warming and state.step % recipe.warmup_window == 0:
            headline, *_ = means(_emptied(state.window)).values()
            if headline < recipe.warmup_error:
                state.warmed_up_at = state.step
                yield WarmedUp(state.step, headline, learning_rate(recipe, state.step, state.warmed_up_at))
        if recipe.reports_at(state.step):
            metrics = means(_emptied(state.tally))
            if not metrics["loss"] < float("inf"):
                loss = metrics["loss"]
                raise DivergedError(f"the training loss is {loss} at step {state.step}, learning rate {rate:g}")
            yield Report(state.step, rate, metrics)
        yield Stepped(state.step)


def launched(
    batches: Batches, forward: Objective, recipe: Recipe, call: nn.Module | None = None, parts: int | None = None
) -> Step:
    """Steps whose operations are launched one by one; `call` runs the network in several processes.

    The batch runs in `parts` chunks. Default: those of a single process.
    """
    parts = parts or recipe.parts(1)

    def step(state: State, rate: float) -> None:
        set_rate(state, rate)
        descend(state, *batches.batch(state.step), forward, parts, call)
        if state.average is not None:
            average(state.average, state.network, min(recipe.ema_decay, (1 + state.step) / (10 + state.step)))
        state.step += 1

    return step


def descend(
    state: State, images: Inputs, targets: Inputs, forward: Objective, parts: int = 1, call: nn.Module | None = None
) -> None:
    """One SGD step and its tally, with the batch in `parts` chunks; no synchronisation with the device."""
    state.optimizer.zero_grad()
    share = len(targets) // parts
    for k in range(parts):
        later = gradients_later(call) if call is not None and k < parts - 1 else nullcontext()
        with later:
            loss, counts = forward(images[k * share : (k + 1) * share], targets[k * share : (k + 1) * share])
            torch.autograd.backward(loss / parts if parts > 1 else loss)
        counts = summed(counts)
        state.tally += counts
        state.window += counts
    state.optimizer.step()


def average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Update the exponential moving average of the weights; batch statistics are copied from the network."""
    with torch.no_grad():
        pairs = zip(averaged.parameters(), network.parameters(), strict=True)
        for mean, latest in pairs:
            mean.lerp_(latest, 1 - decay)
        for kept, newest in zip(averaged.buffers(), network.buffers(), strict=True):
            kept.copy_(newest)


def set_rate(state: State, rate: float | Tensor) -> None:
    """Set the learning rate of the next steps: of each group of parameters by its factor."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate if group["factor"] == 1 else rate * group["factor"]


def _emptied(tally: Tensor) -> list[float]:
    """Read the sums of a tally and reset it to 0."""
    sums: list[float] = tally.tolist()
    tally.zero_()
    return sums
