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


Event = Stepped | WarmedUp | Report
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class DivergedError(ArithmeticError):
    """The training loss is no longer a number."""


def start(network: nn.Module, recipe: Recipe, device: torch.device) -> State:
    """The state before the first step: the network on its device, and the paper's optimizer."""
    network = network.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    state = State(network, optimizer)
    state.tally, state.window = state.tally.to(device), state.window.to(device)
    return state


def objective(network: nn.Module, recipe: Recipe, device: torch.device, compiled: bool = False) -> Objective:
    """The step's forward pass: images and labels in, mean cross-entropy and number of errors out."""

    def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = network(images)
        logits = logits.float()
        return F.cross_entropy(logits, labels), (logits.argmax(1) != labels).sum()

    if not compiled:
        return forward
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a GPU that nobody asked for
    return torch.compile(forward)


def train(state: State, batches: Batches, recipe: Recipe, forward: Objective) -> Iterator[Event]:
    """Train from `state.step` to the recipe's end. After a `Stepped` the state is whole and can be saved.

    Raises:
        DivergedError: the loss became infinite or not a number, noticed at the next report.
    """
    state.network.train()
    while state.step < recipe.iterations:
        rate = learning_rate(recipe, state.step, state.warmed_up_at)
        take_step(state, batches, rate, forward)
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


def take_step(state: State, batches: Batches, rate: float, forward: Objective) -> None:
    """One step of stochastic gradient descent, tallied."""
    images, labels = batches.batch(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    loss, errors = forward(images, labels)
    state.optimizer.zero_grad()
    torch.autograd.backward(loss)
    state.optimizer.step()
    state.step += 1
    counts = torch.stack(
        [loss.detach().double() * len(labels), errors.double(), errors.new_tensor(len(labels)).double()]
    )
    state.tally += counts
    state.window += counts


def _means(tally: Tensor) -> tuple[float, float]:
    """Mean loss and percent error of a tally, which is emptied."""
    loss, errors, images = tally.tolist()
    tally.zero_()
    return loss / images, 100 * errors / images
