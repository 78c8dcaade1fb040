"""How far a run is, and how fast."""

import time
from dataclasses import dataclass

from resnetlab.data.photos import Waiting

MEASURED_OVER_SECONDS = 2.0


@dataclass(frozen=True)
class Progress:
    """How far a run is; errors in percent, None until first measured; `speed` in words."""

    step: int
    iterations: int
    train_error: float | None = None
    test_error: float | None = None
    message: str = ""
    speed: str = ""


class Meter:
    """Images a second, and the share of the time for which training waited for them, of the last few seconds."""

    def __init__(self, batch_size: int, waiting: Waiting | None) -> None:
        self.batch_size = batch_size
        self.waiting = waiting
        self.text = ""
        self._since = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    def step(self) -> str:
        """One more step was taken; the speed in words."""
        self._steps += 1
        seconds = time.perf_counter() - self._since
        if seconds > MEASURED_OVER_SECONDS:
            self.text = f"{self._steps * self.batch_size / seconds:,.0f} images/s"
            if self.waiting is not None:
                self.text += f", {(self.waiting.seconds - self._waited) / seconds:.0%} of the time waiting for them"
                if self.waiting.skipped:
                    self.text += f", {len(self.waiting.skipped):,} unreadable"
            self.restart()
        return self.text

    def restart(self) -> None:
        """Measure from here on."""
        self._since, self._steps = time.perf_counter(), 0
        self._waited = self.waiting.seconds if self.waiting else 0.0
