"""Run the application under uvicorn, and close connections that say nothing."""

import socket
import time

import uvicorn

from resnetlab.serving.app import Service

KEEP_ALIVE_SECONDS = 5
SPARE = 64  # connections beyond the requests that are served, for answers that they are too many


class Server(uvicorn.Server):
    """uvicorn waits for the head of a request as long as it takes; here a silent connection is closed."""

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self._seconds = seconds
        self._silent: dict[object, float] = {}

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        now, before = time.monotonic(), self._silent
        silent = [each for each in self.server_state.connections if getattr(each, "cycle", None) is None]
        self._silent = {each: before.get(each, now) for each in silent}
        for each, since in self._silent.items():
            if now - since > self._seconds:
                each.transport.abort()  # type: ignore[attr-defined]
        return await super().on_tick(counter)


def run_server(service: Service, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that were begun are answered."""
    limits = service.limits
    config = uvicorn.Config(
        service.app(),
        http="h11",
        ws="none",
        log_level="warning",
        limit_concurrency=limits.requests + SPARE,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(limits.seconds) + 1,
        server_header=False,
    )
    Server(config, limits.seconds).run(sockets=[listening])
