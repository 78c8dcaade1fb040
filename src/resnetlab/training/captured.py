"""Whole training steps captured as one CUDA graph, so that the CPU only replays it."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resnetlab.training.loop import Objective, ResidentBatches, State, allow_many_kinds, descend, set_rate

LAUNCHED_FIRST = 3  # uncaptured warm-up steps, which compile kernels and allocate memory


class CapturedStep:
    """Steps that run on the device alone; step number, learning rate and data are on it, too.

    The first steps are launched one by one, one is captured, and all others replay it with a single launch. The
    results are the same. On a CPU no step is captured. `compiled` compiles the code that draws a batch; `keep_graph`
    keeps the graph of the driver, whose nodes can be counted.
    """

    def __init__(
        self,
        batches: ResidentBatches,
        forward: Objective,
        device: torch.device,
        compiled: bool = False,
        parts: int = 1,
        keep_graph: bool = False,
    ) -> None:
        self.batches = batches
        self.keep_graph = keep_graph
        self.parts = parts
        on_gpu = device.type == "cuda"  # CPU compilers may assume that integers do not overflow
        if compiled and on_gpu:
            allow_many_kinds()
        self.draw = torch.compile(batches.draw, dynamic=False) if compiled and on_gpu else batches.draw
        self.forward = forward
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.rate = torch.zeros((), device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._launched = 0
        self._at: tuple[int, float] | None = None

    def __call__(self, state: State, rate: float) -> None:
        """Run one step at this learning rate."""
        if self._at is None or self._at[0] != state.step:
            self.step.fill_(state.step)
        if self._at is None or self._at[1] != rate:
            self.rate.fill_(rate)
        self.batches.prepare(state.step)
        if self._stream is not None and self._launched == LAUNCHED_FIRST:
            self.graph = self._record(state, self._stream)
        if self.graph is not None:
            self.graph.replay()
        elif self._stream is None:
            self._take(state)
        else:
            self._take_aside(state, self._stream)
        state.step += 1
        self._at = state.step, rate

    def _take(self, state: State) -> None:
        set_rate(state, self.rate)
        with counted_at_once(state.network, self.parts):
            descend(state, *self.draw(self.step), self.forward, self.parts)
        self.step += 1

    def _take_aside(self, state: State, stream: torch.cuda.Stream) -> None:
        """Launch one step on the stream that is captured later, because autograd remembers streams."""
        current = torch.cuda.current_stream(self.step.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            self._take(state)
        current.wait_stream(stream)
        self._launched += 1

    def _record(self, state: State, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph | None:
        """Capture one step without running it. Returns None, with a warning, if this fails."""
        graph = torch.cuda.CUDAGraph(keep_graph=self.keep_graph)
        current = torch.cuda.current_stream(self.step.device)
        state.optimizer.zero_grad()  # the graph allocates gradients in its own memory
        torch.cuda.synchronize(self.step.device)
        self._launched += 1
        gc.collect()
        gc.disable()  # what it frees on the GPU would end the capture
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._take(state)
        except RuntimeError as error:
            cause = error.__context__ or error  # of the capture's failure, which is reported last
            warnings.warn(f"steps are launched one by one; no graph could be captured: {cause}", stacklevel=2)
            return None
        finally:
            torch.cuda.set_stream(current)  # a failed capture leaves its own
            gc.enable()
        return graph


@contextmanager
def counted_at_once(network: nn.Module, times: int) -> Iterator[None]:
    """Count the batches of all batch normalisation in training with one operation rather than one each."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    counters: dict[nn.BatchNorm2d, Tensor] = {
        norm: norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None
    }
    for norm in counters:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, counter in counters.items():
            norm.num_batches_tracked = counter
    if counters:
        torch._foreach_add_(list(counters.values()), times)
