"""The only training loop. It knows no data set, no device and no folder; it yields what happens."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.training.recipe import Recipe
from resnetlab.training.schedule import learning_rate


@runtime_checkable
class Batches(Protocol):
    """The batch at step t, as a pure function of t."""

    def batch(self, step: int) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """Images as the network sees them, and labels."""


@runtime_checkable
class ResidentBatches(Batches, Protocol):
    """The same where the data is on the device, and so is t: drawing a batch is arithmetic there."""

    def prepare(self, step: int) -> None:
        """Have at hand what the batch of this step is drawn from."""

    def draw(self, step: Int64[Tensor, ""]) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """The batch of a step that is prepared."""


@dataclass
class State:
    """All that a run is between two steps. Tallies are (summed loss, errors, images), kept on the device."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    warmed_up_at: int | None = None
    tally: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    window: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))


@dataclass(frozen=True)
class Stepped:
    """One step was taken; `step` of them in all."""

    step: int


@dataclass(frozen=True)
class WarmedUp:
    """The training error fell below the recipe's `warmup_error`; from this step on the rate is the schedule's."""

    step: int
    train_error: float
    learning_rate: float


@dataclass(frozen=True)
class Report:
    """A point of the curves: error (percent) and loss on the augmented batches since the last one."""

    step: int
    learning_rate: float
    train_error: float
    train_loss: float


COMPILED_WHOLE = 54  # blocks, as in ResNet-110; it takes a second or two for each of them
Event = Stepped | WarmedUp | Report
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Step = Callable[[State, float], None]


class DivergedError(ArithmeticError):
    """The training loss is no longer a number."""


def start(network: nn.Module, recipe: Recipe, device: torch.device) -> State:
    """The state before the first step: the network on its device, and the paper's optimizer."""
    network = network.to(device).to(memory_format=torch.channels_last)
    decayed = [p for p in network.parameters() if p.ndim > 1 or recipe.decayed == "all"]
    free = [p for p in network.parameters() if p.ndim <= 1 and recipe.decayed == "weights"]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(
        [group for group in groups if group["params"]], recipe.learning_rate, momentum=recipe.momentum, fused=True
    )
    state = State(network, optimizer)
    state.tally, state.window = state.tally.to(device), state.window.to(device)
    return state


def objective(
    network: nn.Module, recipe: Recipe, device: torch.device, compiled: bool = False, by_block: bool = False
) -> Objective:
    """The step's forward pass: images and labels in, mean cross-entropy and counts for the tallies out.

    Compiled whole, or, very deep networks and others `by_block`, each kind of block once: slower, but soon ready.
    """

    if device.type == "cuda":
        kind = "tf32" if recipe.precision == "tfloat32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = kind
        torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]

    def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = network(images)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels)
        errors = (logits.argmax(1) != labels).sum()
        with torch.no_grad():
            images_ = torch.full((), len(labels), dtype=torch.float64, device=loss.device)
            return loss, torch.stack([loss.double() * len(labels), errors.double(), images_])

    if not compiled:
        return forward
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a GPU that nobody asked for
    blocks = outermost_blocks(network)
    if len(blocks) <= COMPILED_WHOLE and not by_block:
        return torch.compile(forward, dynamic=False)
    for block in blocks:
        block.compile(dynamic=False)
    return forward


def outermost_blocks(network: nn.Module) -> list[nn.Module]:
    """The parts that repeat: modules inside the network whose class is not torch's own, and not in another such."""
    found: list[nn.Module] = []
    for child in network.children():
        holds_them = isinstance(child, nn.Sequential) or type(child).__module__.startswith("torch.")
        found += outermost_blocks(child) if holds_them else [child]
    return found


def train(state: State, step: Step, recipe: Recipe) -> Iterator[Event]:
    """Train from `state.step` to the recipe's end. After a `Stepped` the state is whole and can be saved.

    Raises:
        DivergedError: the loss became infinite or not a number, noticed at the next report.
    """
    state.network.train()
    while state.step < recipe.iterations:
        rate = learning_rate(recipe, state.step, state.warmed_up_at)
        step(state, rate)
        warming = recipe.warmup_rate is not None and state.warmed_up_at is None
        if warming and state.step % recipe.warmup_window == 0:
            _, error = _means(state.window)
            if error < recipe.warmup_error:
                state.warmed_up_at = state.step
                yield WarmedUp(state.step, error, learning_rate(recipe, state.step, state.warmed_up_at))
        if state.step % recipe.report_every == 0 or state.step == recipe.iterations:
            loss, error = _means(state.tally)
            if not loss < float("inf"):
                raise DivergedError(f"the training loss is {loss} at step {state.step}, learning rate {rate:g}")
            yield Report(state.step, rate, error, loss)
        yield Stepped(state.step)


def launched(batches: Batches, forward: Objective) -> Step:
    """Steps whose operations are launched one by one."""

    def step(state: State, rate: float) -> None:
        set_rate(state, rate)
        descend(state, *batches.batch(state.step), forward)
        state.step += 1

    return step


def descend(state: State, images: Tensor, labels: Tensor, forward: Objective) -> None:
    """One step of stochastic gradient descent, tallied. Nothing waits for the device."""
    loss, counts = forward(images, labels)
    state.optimizer.zero_grad()
    torch.autograd.backward(loss)
    state.optimizer.step()
    state.tally += counts
    state.window += counts


def set_rate(state: State, rate: float | Tensor) -> None:
    """The learning rate of the steps to come."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate


def _means(tally: Tensor) -> tuple[float, float]:
    """Mean loss and percent error of a tally, which is emptied."""
    loss, errors, images = tally.tolist()
    tally.zero_()
    return loss / images, 100 * errors / images
