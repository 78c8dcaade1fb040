"""`resnetlab serve`."""

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnetlab.choices import DeviceName, EngineName, EnginePrecision
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, say
from resnetlab.errors import ResnetlabError

if TYPE_CHECKING:
    from resnetlab.serving.app import Service

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 -- only compared
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MISSING = "serving needs more packages; install `resnetlab[serve]`, or in a clone run `uv run --extra serve ...`"
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class ServerOptions:
    """Where the server is, and what it takes."""

    host: str = "127.0.0.1"
    """The address that it listens at; 0.0.0.0 is every address of this machine, for everybody in the network."""
    port: int = 8000
    """0 takes any free port."""
    max_bytes: int = 20_000_000
    """Of a request."""
    timeout: float = 30.0
    """Seconds for a request."""
    requests: int = 64
    """At the same time; further ones get status 503."""
    names: tuple[str, ...] = ()
    """Names under which a proxy in front of the server asks for it, e.g. photos.example.org; others are refused."""


@dataclass(frozen=True)
class ServingSettings:
    """How the network is run."""

    engine: EngineName | None = None
    """Default: torch, or onnxruntime for an ONNX file."""
    precision: EnginePrecision = "auto"
    """auto uses bfloat16 on hardware with matrix units for it."""
    device: DeviceName = "auto"
    """auto uses the GPU if there is one."""
    threads: int | None = None
    """CPU threads of the network. Default: one per core."""
    batch_size: int = 16
    """Images that the network takes at a time, at most."""


@command
def serve(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    top: int = 5,
    unsure: float | None = None,
    server: ServerOptions = ServerOptions(),
    settings: ServingSettings = ServingSettings(),
) -> None:
    """Serve a model for classification: a page to drop photographs on, and POST /predict for programs.

    The answers are those of `resnetlab predict`. Only this machine can reach the server, unless --host says more.
    Ctrl-C ends it.

    Example: resnetlab serve runs/photos

    Args:
        model: A run folder, a model file, weights of another library, or an ONNX file of `resnetlab export`.
        top: Classes per image.
        unsure: Mark images whose likeliest class has a lower probability than this, from 0 to 1.
        server: Where the server is, and what it takes.
        settings: How the network is run.
    """
    at_least_one(settings, top=top, max_bytes=server.max_bytes, requests=server.requests)
    if unsure is not None and not 0 < unsure <= 1:
        raise ResnetlabError(f"`unsure={unsure:g}`: it must be more than 0 and at most 1")
    if not 0.1 <= server.timeout <= 3600:
        raise ResnetlabError(f"`timeout={server.timeout:g}`: it must be from 0.1 to 3600 seconds")
    if server.max_bytes > MOST_BYTES:
        raise ResnetlabError(f"`max_bytes={server.max_bytes}`: it must be at most {MOST_BYTES:,}")
    if not 0 <= server.port <= 65_535:
        raise ResnetlabError(f"`port={server.port}`: it must be from 0 to 65535")
    try:
        from resnetlab.serving.server import run_server
    except ModuleNotFoundError as error:
        raise ResnetlabError(f"{MISSING} (there is no {error.name})") from None

    service = _service(model, top, unsure, server, settings)
    with _listening(server) as listening:
        host, port = listening.getsockname()[:2]
        shown = socket.gethostname() if host in EVERYWHERE else host
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
        say(f"{service.engine.about}: open {address} in a browser, or")
        say(f"  curl -F file=@cat.jpg {address}/predict")
        if not _is_loopback(host):
            complain("Everybody who can reach this machine can use it: there is no password and no encryption.")
        with suppress(KeyboardInterrupt):
            run_server(service, listening)
    say("The server has ended.")


def _service(
    path: Path, top: int, unsure: float | None, server: ServerOptions, settings: ServingSettings
) -> "Service":
    from resnetlab.inference.engines import open_engine
    from resnetlab.models.importing import read_model
    from resnetlab.models.modelfile import task_of
    from resnetlab.models.published import located
    from resnetlab.runs.settings import choose_device
    from resnetlab.serving.app import Limits, Service

    path = located(path)
    if task_of(path) == "detection":
        raise ResnetlabError(f"{path} is a detector; `resnetlab serve` is for classification")
    on_torch = (settings.engine or ("onnxruntime" if path.suffix == ".onnx" else "torch")) == "torch"
    device = choose_device("cpu" if settings.device == "auto" and not on_torch else settings.device)
    network = None if path.suffix == ".onnx" else read_model(path)
    engine = open_engine(
        network or path, settings.engine, device=device, precision=settings.precision, threads=settings.threads
    )
    limits = Limits(bytes=server.max_bytes, seconds=server.timeout, requests=server.requests)
    hosts = (*LOOPBACK, "[::1]", *server.names) if server.names or server.host in LOOPBACK else ("*",)
    return Service(engine, network, top, unsure, limits, settings.batch_size, hosts)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _listening(server: ServerOptions) -> socket.socket:
    """A socket at the address.

    Raises:
        ResnetlabError: it is in use, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        return socket.create_server((server.host, server.port), family=family, backlog=256)
    except (OSError, UnicodeError) as error:
        raise ResnetlabError(
            f"cannot listen at {server.host}, port {server.port} ({error}); take another one with `port` or `host`"
        ) from None
