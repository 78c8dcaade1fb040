"""Run the application under uvicorn, and close connections that say nothing."""

import socket
import time
from typing import Any

import uvicorn

from resnetlab.serving.app import Service

KEEP_ALIVE_SECONDS = 5
SPARE = 64  # connections beyond the requests that are served, for answers that they are too many


class Server(uvicorn.Server):
    """Closes connections without a request that is being answered after a while.

    uvicorn waits as long as it takes for the head of a request, for a client that reads an answer, and for the rest
    of a body that was refused.
    """

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self._seconds = seconds
        self._idle: dict[tuple[Any, Any], float] = {}

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        now, before = time.monotonic(), self._idle
        connections = [(each, getattr(each, "cycle", None)) for each in self.server_state.connections]
        idle = [(each, cycle) for each, cycle in connections if cycle is None or cycle.response_complete]
        self._idle = {key: before.get(key, now) for key in idle}
        for (each, _), since in self._idle.items():
            if now - since > self._seconds:
                each.transport.abort()
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
