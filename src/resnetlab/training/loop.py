"""The only training loop. It knows no data set, no device and no folder; it yields what happens."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.errors import ResnetlabError
from resnetlab.training.distributed import gradients_later, summed
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
    """All that a run is between two steps. Tallies are (summed loss, errors, images), kept on the device.

    `average` has the weights averaged over the steps, where the recipe wants it.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    warmed_up_at: int | None = None
    average: nn.Module | None = None
    frozen: tuple[nn.Module, ...] = ()
    tally: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    window: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    @property
    def tested(self) -> nn.Module:
        """The network that is tested and kept."""
        return self.average or self.network

    def check_finite(self) -> None:
        """
        Raises:
            DivergedError: a weight or the training loss is no longer a finite number.
        """
        numbers = [self.tally[:1], *(p.detach() for p in self.network.parameters())]
        if not all(bool(torch.isfinite(x).all()) for x in numbers):
            rate = self.optimizer.param_groups[0]["lr"]
            raise DivergedError(f"the training loss is not finite at step {self.step}, learning rate {rate:g}")


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
    """The state before the first step: the network on its device, and the paper's optimizer.

    Raises:
        ResnetlabError: the network has no part of the name up to which it is to be frozen.
    """
    network = network.to(device).to(memory_format=torch.channels_last)
    frozen = parts_up_to(network, recipe.freeze)
    for part in frozen:
        part.requires_grad_(requires_grad=False)
    trained = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1 or recipe.decayed == "all"]
    free = [p for p in trained if p.ndim <= 1 and recipe.decayed == "weights"]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(
        [group for group in groups if group["params"]], recipe.learning_rate, momentum=recipe.momentum, fused=True
    )
    average = copy.deepcopy(network).requires_grad_(requires_grad=False) if recipe.ema else None
    state = State(network, optimizer, average=average, frozen=frozen)
    state.tally, state.window = state.tally.to(device), state.window.to(device)
    return state


def parts_up_to(network: nn.Module, name: str) -> tuple[nn.Module, ...]:
    """The parts of a network, in order, up to the one of this name; `none` is no part.

    Raises:
        ResnetlabError: there is no such part, or nothing would be left to train.
    """
    parts = {child: part for child, part in network.named_children() if any(True for _ in part.parameters())}
    names = list(parts)
    if name == "none":
        return ()
    if name not in names[:-1]:
        raise ResnetlabError(f"cannot freeze up to {name!r}; this network's parts are {', '.join(names[:-1])}")
    return tuple(parts.values())[: names.index(name) + 1]


def objective(
    network: nn.Module,
    recipe: Recipe,
    device: torch.device,
    compiled: bool = False,
    by_block: bool = False,
    *,
    weights: Float[Tensor, "classes"] | None = None,
    call: nn.Module | None = None,
) -> Objective:
    """The step's forward pass: images and labels in, mean cross-entropy and counts for the tallies out.

    Compiled whole, or, very deep networks and others `by_block`, each kind of block once: slower, but soon ready.
    `weights` are those of the classes in the loss; `call` is what runs the network, if it is not called itself.
    """

    if device.type == "cuda":
        kind = "tf32" if recipe.precision == "tfloat32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = kind
        torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]

    def forward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = (call or network)(images)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, weights, label_smoothing=recipe.label_smoothing)
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
    for part in state.frozen:
        part.eval()  # batch statistics are frozen too
    while state.step < recipe.iterations:
        rate = learning_rate(recipe, state.step, state.warmed_up_at)
        step(state, rate)
        warming = recipe.warmup_rate is not None and state.warmed_up_at is None
        if warming and state.step % recipe.warmup_window == 0:
            _, error = _means(state.window)
            if error < recipe.warmup_error:
                state.warmed_up_at = state.step
                yield WarmedUp(state.step, error, learning_rate(recipe, state.step, state.warmed_up_at))
        if recipe.reports_at(state.step):
            loss, error = _means(state.tally)
            if not loss < float("inf"):
                raise DivergedError(f"the training loss is {loss} at step {state.step}, learning rate {rate:g}")
            yield Report(state.step, rate, error, loss)
        yield Stepped(state.step)


def launched(
    batches: Batches, forward: Objective, recipe: Recipe, call: nn.Module | None = None, parts: int | None = None
) -> Step:
    """Steps whose operations are launched one by one; `call` is what runs the network, in several processes.

    The batch is run in `parts`; left out, those of a process that is alone.
    """
    parts = parts or recipe.parts(1)

    def step(state: State, rate: float) -> None:
        set_rate(state, rate)
        descend(state, *batches.batch(state.step), forward, parts, call)
        if state.average is not None:
            average(state.average, state.network, min(recipe.ema, (1 + state.step) / (10 + state.step)))
        state.step += 1

    return step


def descend(
    state: State, images: Tensor, labels: Tensor, forward: Objective, parts: int = 1, call: nn.Module | None = None
) -> None:
    """One step of stochastic gradient descent, tallied, the batch in so many parts. Nothing waits for the device."""
    state.optimizer.zero_grad()
    share = len(labels) // parts
    for k in range(parts):
        later = gradients_later(call) if call is not None and k < parts - 1 else nullcontext()
        with later:
            loss, counts = forward(images[k * share : (k + 1) * share], labels[k * share : (k + 1) * share])
            torch.autograd.backward(loss / parts if parts > 1 else loss)
        counts = summed(counts)
        state.tally += counts
        state.window += counts
    state.optimizer.step()


def average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move averaged weights towards the network's, by what the decay leaves; batch statistics are the network's."""
    with torch.no_grad():
        pairs = zip(averaged.parameters(), network.parameters(), strict=True)
        for mean, latest in pairs:
            mean.lerp_(latest, 1 - decay)
        for kept, newest in zip(averaged.buffers(), network.buffers(), strict=True):
            kept.copy_(newest)


def set_rate(state: State, rate: float | Tensor) -> None:
    """The learning rate of the steps to come."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate


def _means(tally: Tensor) -> tuple[float, float]:
    """Mean loss and percent error of a tally, which is emptied."""
    loss, errors, images = tally.tolist()
    tally.zero_()
    return loss / images, 100 * errors / images
