"""The addresses of the server: the page, /predict, /health, /openapi.json."""

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from resnetlab.data.preprocessing import fitted, open_image
from resnetlab.errors import ResnetlabError, printable
from resnetlab.inference.engines import Engine
from resnetlab.inference.explain import Explained, explain
from resnetlab.inference.predict import Prediction
from resnetlab.models.modelfile import Model
from resnetlab.report.explanations import overlay
from resnetlab.report.inline import data_url, policy
from resnetlab.report.prediction_files import Marked, english
from resnetlab.serving.batching import Batcher
from resnetlab.serving.openapi import description

WEB = files("resnetlab.serving") / "web"
EXPLAINED = 2  # classes
MULTIPART = "multipart/form-data"
TOO_MANY = "too many requests at once; try again"
BUSY = {"Retry-After": "1", "Connection": "close"}


@dataclass(frozen=True)
class Limits:
    """What one request, and all together, may ask for."""

    bytes: int = 20_000_000
    """Of a request."""
    images: int = 16
    """In a request."""
    pixels: int = 60_000_000
    """Of an image."""
    seconds: float = 30.0
    """For a request, from its first byte to the answer."""
    requests: int = 64
    """At the same time."""
    held: int = 500_000_000
    """Bytes of all requests at the same time."""


@dataclass
class Service:
    """A model that answers: `network` explains, where it is there; images below `unsure` are marked."""

    engine: Engine
    network: Model | None = None
    top: int = 5
    unsure: float | None = None
    limits: Limits = field(default_factory=Limits)
    batch: int = 16
    hosts: Sequence[str] = ("*",)
    """The names of this server in requests; others are refused, so that foreign pages cannot pass for it."""
    active: int = 0
    held: int = 0
    """Bytes of the requests that are being answered."""

    def app(self) -> Starlette:
        """The application, for an ASGI server."""
        routes = [
            Route("/", self._page),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/health", self._health),
            Route("/openapi.json", self._openapi),
        ]
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(self.hosts))
        handlers: Any = {HTTPException: _refused, ResnetlabError: _refused, ClientDisconnect: _gone}
        return Starlette(routes=routes, middleware=[guard], lifespan=self._lifespan, exception_handlers=handlers)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        with ThreadPoolExecutor(os.cpu_count(), "decoding") as self._decoding:
            async with Batcher(self.engine.run, self.batch) as self._batcher:
                yield

    async def _page(self, request: Request) -> Response:
        text, guard = _page_and_policy()
        return HTMLResponse(text, headers={"Content-Security-Policy": guard})

    async def _health(self, request: Request) -> Response:
        shown = {"status": "ok", "model": self.engine.about, "classes": len(self.engine.classes)}
        return JSONResponse(shown | {"requests": self.active, "explains": self.network is not None})

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(description(self.limits))

    async def _predict(self, request: Request) -> Response:
        """Read the images, run the network, answer; within the limits."""
        if self.active >= self.limits.requests:
            raise HTTPException(503, TOO_MANY, BUSY)
        top, explained = self._asked(request)
        self.active += 1
        doing, body = "receiving the images", bytearray()
        try:
            async with asyncio.timeout(self.limits.seconds):
                await self._receive(request, body)
                images = await self._images(request, bytes(body))
                doing = "predicting"
                answers = await asyncio.gather(*(self._answer(*image, top, explained) for image in images))
        except TimeoutError:
            status = 408 if doing.startswith("receiving") else 504
            raise HTTPException(
                status, f"{doing} took more than {self.limits.seconds:g} s", {"Connection": "close"}
            ) from None
        finally:
            self.active -= 1
            self.held -= len(body)
        status = 200 if any("error" not in answer for answer in answers) else 400
        return JSONResponse({"model": self.engine.about, "predictions": answers}, status)

    def _asked(self, request: Request) -> tuple[int, bool]:
        """The options of a request: how many classes, and whether they are explained."""
        top, explained = request.query_params.get("top", str(self.top)), request.query_params.get("explain", "no")
        if unknown := request.query_params.keys() - {"top", "explain"}:
            raise HTTPException(400, f"unknown option {min(unknown)}; there are top and explain")
        if not (top.isascii() and top.isdecimal() and len(top) <= 4 and 1 <= int(top) <= 1000):
            raise HTTPException(400, f"top={top[:20]}: expected a number from 1 to 1000")
        if explained not in ("yes", "no"):
            raise HTTPException(400, f"explain={explained[:20]}: expected yes or no")
        if explained == "yes" and self.network is None:
            raise HTTPException(400, "explain=yes needs the network itself; this server has an ONNX file")
        return int(top), explained == "yes"

    async def _receive(self, request: Request, body: bytearray) -> None:
        """Append the body of a request, while it and all bodies together are within the limits."""
        limit = self.limits.bytes
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length[:18]) > limit:
            raise _too_large(limit)
        async for part in request.stream():
            if len(body) + len(part) > limit:
                raise _too_large(limit)
            if self.held + len(part) > self.limits.held:
                raise HTTPException(503, TOO_MANY, BUSY)
            body += part
            self.held += len(part)

    async def _images(self, request: Request, body: bytes) -> list[tuple[str, bytes]]:
        """The names and contents of the images in a request: its body, or the files of a form."""
        if request.headers.get("content-type", "").startswith(MULTIPART):
            return await self._files(request, body)
        if not body:
            raise HTTPException(400, "the request has no body; send an image, or a form with files")
        return [("image", body)]

    async def _files(self, request: Request, body: bytes) -> list[tuple[str, bytes]]:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            form = await Request(request.scope, receive).form(max_files=self.limits.images, max_fields=16)
        except (MultiPartException, HTTPException, UnicodeError) as error:
            raise HTTPException(400, printable(str(getattr(error, "detail", error)))) from None
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(form.close)
            sent = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if others := [name for name, value in form.multi_items() if not isinstance(value, UploadFile)]:
                name = printable(others[0])[:20]
                raise HTTPException(400, f"{name} is no file; options are in the address, as in /predict?top=3")
            if not sent:
                raise HTTPException(400, "the form has no file; send images as files, e.g. curl -F file=@cat.jpg")
            return [(printable(file.filename or "image"), await file.read()) for file in sent]

    async def _answer(self, name: str, data: bytes, top: int, explained: bool) -> dict[str, Any]:
        """The prediction for one image, or why it is none."""
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(self._decoding, self._fitted, data, name)
            outputs = await self._batcher.outputs(pixels)
        except ResnetlabError as error:
            return {"image": name, "error": str(error)}
        classes, limit = self.engine.classes, self.engine.limit
        unfamiliar = None if limit is None else bool(outputs[len(classes)] > limit)
        prediction = Prediction.of_logits(None, outputs[: len(classes)], classes, top, unfamiliar)
        unsure = None if self.unsure is None else prediction.probabilities[0] < self.unsure
        found = Marked(prediction, unsure).to_json() | {"image": name}
        if explained and self.network is not None:
            numbers = [[classes.index(name) for name in prediction.classes[:EXPLAINED]]]
            (shown,) = await self._batcher.call(explain, self.network, pixels[None], numbers)
            found["maps"] = await loop.run_in_executor(self._decoding, _maps, shown)
        return found

    def _fitted(self, data: bytes, name: str) -> np.ndarray:
        return fitted(self.engine.fit, open_image(data, name, self.limits.pixels), name)


@cache
def _page_and_policy() -> tuple[str, str]:
    html, script, style = ((WEB / f"serve.{kind}").read_text(encoding="utf-8") for kind in ("html", "js", "css"))
    guard = policy(script, style, "connect-src 'self'", "img-src data: blob:") + "; frame-ancestors 'none'"
    return html.replace("/*style*/", style).replace("/*script*/", script), guard


def _maps(shown: Explained) -> list[dict[str, str]]:
    """The image with the map of each class, as PNG in a data URL."""
    most = float(np.abs(shown.maps).max()) or 1.0
    found = []
    for name, values in zip(shown.classes, shown.maps, strict=True):
        buffer = io.BytesIO()
        Image.fromarray((255 * overlay(shown.pixels, values / most)).astype(np.uint8)).save(buffer, "PNG")
        found.append({"class": name, **english(name), "image": data_url("image/png", buffer.getvalue())})
    return found


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the request has more than {limit:,} bytes", {"Connection": "close"})


def _gone(request: Request, error: Exception) -> Response:
    """The client has left while it sent; nobody reads this."""
    return Response(status_code=400)


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error)}, 400)
