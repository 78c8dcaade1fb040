"""Progress and speed of a run."""

import time
from collections import deque
from dataclasses import dataclass

from resnetlab.data.photos import Waiting
from resnetlab.tasks.task import Metric
from resnetlab.training.recipe import Recipe

MEASURED_OVER_SECONDS = 2.0
REMEMBERED = 10  # measurements that the remaining time is computed from


@dataclass(frozen=True)
class Progress:
    """Progress of a run; its metric in tests, and that in training, None until first measured.

    `tallied` is the metric in training, if it is another one.
    """

    step: int
    iterations: int
    metric: Metric
    train: float | None = None
    test: float | None = None
    message: str = ""
    speed: str = ""
    """As text."""
    left: float | None = None
    """Remaining seconds, None until known."""
    tallied: Metric | None = None

    @property
    def trained(self) -> Metric:
        """The metric in training."""
        return self.tallied or self.metric

    @property
    def numbers(self) -> str:
        """Training and test metric as text."""
        if self.train is None or self.test is None:
            return "not yet tested"
        train, test = (f" {metric.unit}" * bool(metric.unit) for metric in (self.trained, self.metric))
        name = "" if self.trained == self.metric else f" {self.metric.name}"
        return f"training {self.trained.name} {self.train:5.2f}{train}, test{name} {self.test:5.2f}{test}"


class Meter:
    """Measures images per second, the share of time spent waiting for images, and the remaining time."""

    def __init__(self, recipe: Recipe, waiting: Waiting) -> None:
        self.recipe = recipe
        self.waiting = waiting
        self.text = ""
        self._measured: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._starting = True  # the first measurement has start-up and compilation in it
        self._report_seconds = 0.0
        self._since = time.perf_counter()
        self._waited = waiting.seconds
        self._steps = 0

    def step(self) -> str:
        """Count a step. Returns the speed over the last few seconds as text."""
        self._steps += 1
        seconds = time.perf_counter() - self._since
        if seconds > MEASURED_OVER_SECONDS:
            if self._starting and self._measured:
                self._measured.clear()
                self._starting = False
            self._measured.append((seconds, self._steps))
            self.text = f"{self.recipe.batch_size * self._steps / seconds:,.0f} images/s"
            if not self.recipe.resident:
                self.text += f", {(self.waiting.seconds - self._waited) / seconds:.0%} of the time waiting for them"
            if self.waiting.skipped:
                self.text += f", {len(self.waiting.skipped):,} unreadable"
            self.restart()
        return self.text

    def tested(self, seconds: float) -> None:
        """Note the duration of a report, and restart the measurement."""
        self._report_seconds = seconds
        self.restart()

    def left(self, step: int) -> float | None:
        """Seconds to the end, including reports."""
        if not self._measured:
            return None
        each = sum(seconds for seconds, _ in self._measured) / sum(count for _, count in self._measured)
        steps = self.recipe.iterations - step
        return steps * each + steps / self.recipe.report_every * self._report_seconds

    def restart(self) -> None:
        """Restart the measurement."""
        self._since, self._steps = time.perf_counter(), 0
        self._waited = self.waiting.seconds
