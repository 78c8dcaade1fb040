"""How far a run is, and how fast."""

import time
from dataclasses import dataclass

from resnetlab.data.photos import Waiting
from resnetlab.training.recipe import Recipe

MEASURED_OVER_SECONDS = 2.0
SMOOTHED, FRESH = 0.7, 0.3  # what a new measurement leaves of the older ones, and counts for


@dataclass(frozen=True)
class Progress:
    """How far a run is; errors in percent, None until first measured; `speed` in words."""

    step: int
    iterations: int
    train_error: float | None = None
    test_error: float | None = None
    message: str = ""
    speed: str = ""
    left: float | None = None
    """Seconds that are left, None until they can be told."""


class Meter:
    """Images a second, the share of the time for which training waited for them, and the time that is left."""

    def __init__(self, recipe: Recipe, waiting: Waiting | None) -> None:
        self.recipe = recipe
        self.waiting = waiting
        self.text = ""
        self._step_seconds: float | None = None
        self._report_seconds = 0.0
        self._since = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    def step(self) -> str:
        """One more step was taken; the speed in words, of the last few seconds."""
        self._steps += 1
        seconds = time.perf_counter() - self._since
        if seconds > MEASURED_OVER_SECONDS:
            each = seconds / self._steps
            self._step_seconds = each if self._step_seconds is None else SMOOTHED * self._step_seconds + FRESH * each
            self.text = f"{self.recipe.batch_size / each:,.0f} images/s"
            if self.waiting is not None:
                self.text += f", {(self.waiting.seconds - self._waited) / seconds:.0%} of the time waiting for them"
                if self.waiting.skipped:
                    self.text += f", {len(self.waiting.skipped):,} unreadable"
            self.restart()
        return self.text

    def tested(self, seconds: float) -> None:
        """A report took so many seconds; training is measured from here on."""
        self._report_seconds = seconds
        self.restart()

    def left(self, step: int) -> float | None:
        """Seconds to the end, steps and reports."""
        if self._step_seconds is None:
            return None
        steps = self.recipe.iterations - step
        return steps * self._step_seconds + steps / self.recipe.report_every * self._report_seconds

    def restart(self) -> None:
        """Measure from here on."""
        self._since, self._steps = time.perf_counter(), 0
        self._waited = self.waiting.seconds if self.waiting else 0.0
