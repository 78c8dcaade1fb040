"""The server: the answers of `predict`, within limits, whatever clients do."""

import asyncio
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.inference.engines import Engine
from resnetlab.inference.predict import Prediction, predict
from resnetlab.models.modelfile import Model, save
from resnetlab.serving.app import Limits, Service
from resnetlab.serving.batching import Batcher
from tests.serving.conftest import photo, served

Command = Callable[..., int]


def expected(engine: Engine, data: bytes, top: int) -> list[tuple[str, float]]:
    (found,) = predict(engine, Image.open(io.BytesIO(data)), top=top)
    assert isinstance(found, Prediction)
    return list(zip(found.classes, found.probabilities, strict=True))


def test_answers_are_those_of_predict(address: str, engine: Engine) -> None:
    data = [photo(k, form) for k, form in enumerate(("PNG", "JPEG", "WEBP"))]
    alone = httpx.post(f"{address}/predict", content=data[0]).json()["predictions"]
    several = httpx.post(
        f"{address}/predict?top=3", files=[("file", (f"{k}.x", each)) for k, each in enumerate(data)]
    ).json()["predictions"]
    assert [each["image"] for each in several] == ["0.x", "1.x", "2.x"]
    for top, answers in ((2, alone), (3, several)):
        for answer, content in zip(answers, data, strict=False):
            ranked = expected(engine, content, top)
            assert [found["class"] for found in answer["classes"]] == [name for name, _ in ranked]
            shares = [found["probability"] for found in answer["classes"]]
            assert np.allclose(shares, [share for _, share in ranked], atol=1e-5)
            assert answer["unsure"] == (ranked[0][1] < 0.9)


def test_maps_explain_the_likeliest_classes(address: str) -> None:
    answer = httpx.post(f"{address}/predict?explain=yes", content=photo(0)).json()["predictions"][0]
    assert [each["class"] for each in answer["maps"]] == [each["class"] for each in answer["classes"]]
    assert all(each["image"].startswith("data:image/png;base64,") for each in answer["maps"])


def test_concurrent_requests_share_batches(model: Model, engine: Engine) -> None:
    sizes: list[int] = []

    def run(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        time.sleep(0.05)
        return engine.run(pixels)

    slow = Engine(run, engine.fit, engine.classes, engine.about)
    data = [photo(k) for k in range(20)]

    async def ask(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient() as client:
            return await asyncio.gather(*(client.post(f"{address}/predict", content=each) for each in data))

    with served(Service(slow, batch=8)) as address:
        answers = asyncio.run(ask(address))
    assert sum(sizes) == 20
    assert len(sizes) < 10
    assert max(sizes) <= 8
    for answer, content in zip(answers, data, strict=True):
        assert answer.json()["predictions"][0]["classes"][0]["class"] == expected(engine, content, 1)[0][0]


def huge_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 2000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"", None, 400, "has no body"),
        (b"no image", None, 400, "not an image format"),
        (photo(0)[:300], None, 400, "is not a readable image"),
        (huge_png(), None, 400, "20000x2000 pixels; at most 1 million"),
        (b"x" * 100_001, None, 413, "more than 100,000 bytes"),
        (b"no form", "multipart/form-data; boundary=x", 400, ""),
        (b"no form", "multipart/form-data", 400, "boundary"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', "multipart/form-data; boundary=x",
         400, "no file"),
    ],
    ids=["empty", "text", "cut", "huge", "large", "no form", "no boundary", "no file"],
)  # fmt: skip
def test_bad_requests(address: str, content: bytes, kind: str | None, status: int, message: str) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = httpx.post(f"{address}/predict", content=content, headers=headers)
    said = answer.json()
    assert answer.status_code == status
    assert message in (said.get("error") or said["predictions"][0]["error"])
    assert httpx.get(f"{address}/health").json()["requests"] == 0


@pytest.mark.parametrize(
    "query", ["top=0", "top=x", "top=1001", "explain=1", "size=3", "top=" + "9" * 500, "top=000000001" + "9" * 5000]
)
def test_bad_options(address: str, query: str) -> None:
    answer = httpx.post(f"{address}/predict?{query}", content=photo(0))
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json()["error"]


def test_too_many_files_and_one_that_is_damaged(address: str) -> None:
    files = [("file", (f"{k}.png", photo(k))) for k in range(4)]
    assert httpx.post(f"{address}/predict", files=files).status_code == 400
    answer = httpx.post(f"{address}/predict", files=[files[0], ("file", ("bad.png", b"x"))])
    assert answer.status_code == 200
    good, bad = answer.json()["predictions"]
    assert good["classes"]
    assert "bad.png is not a readable image" in bad["error"]


def test_options_in_a_form_are_refused(address: str) -> None:
    answer = httpx.post(f"{address}/predict", files={"file": ("a.png", photo(0))}, data={"top": "1"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "top is no file; options are in the address, as in /predict?top=3"


def test_other_methods_addresses_and_hosts(address: str) -> None:
    assert httpx.get(f"{address}/predict").status_code == 405
    assert httpx.get(f"{address}/nothing").status_code == 404
    assert httpx.get(f"{address}/health", headers={"Host": "evil.example"}).status_code == 400


def test_a_chunked_body_without_length_is_limited(address: str) -> None:
    answer = httpx.post(f"{address}/predict", content=(b"x" * 60_000 for _ in range(4)))
    assert answer.status_code == 413


def request_in_parts(address: str, *parts: bytes) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    for part in parts:
        client.sendall(part)
    return client


def test_slow_clients_are_ended_and_others_served(address: str, engine: Engine) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n"
    bodies = [request_in_parts(address, head, b"x" * 100) for _ in range(3)]
    silent = [request_in_parts(address, b"POST /pre") for _ in range(3)]
    began = time.monotonic()
    assert httpx.post(f"{address}/predict", content=photo(0)).status_code == 200
    assert time.monotonic() - began < 1.5
    for client in bodies:
        assert client.recv(4096).startswith(b"HTTP/1.1 408")
        client.close()
    for client in silent:
        with suppress(ConnectionResetError):
            assert client.recv(4096) == b""
        client.close()
    assert time.monotonic() - began < 6
    assert httpx.get(f"{address}/health").json()["requests"] == 0


def test_connections_are_ended_after_their_first_answer_too(address: str) -> None:
    """A part of a second head; and a refused body without an end."""
    head = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    client = request_in_parts(address, head)
    assert client.recv(4096).startswith(b"HTTP/1.1 200")
    client.sendall(b"G")
    began = time.monotonic()
    with suppress(ConnectionResetError):
        assert client.recv(4096) == b""
    assert time.monotonic() - began < 4
    client.close()
    head = b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = request_in_parts(address, head)
    began = time.monotonic()
    ended = False
    while not ended and time.monotonic() - began < 8:
        try:
            client.sendall(b"1\r\nx\r\n")
        except OSError:
            ended = True
        time.sleep(0.05)
    assert ended
    client.close()


@pytest.mark.parametrize("charset", ["unicode_escape", "undefined", "nothing"])
def test_odd_names_of_files(address: str, charset: str) -> None:
    form = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="\\ud800.png"\r\n\r\n'
        + photo(0)
        + b"\r\n--x--\r\n"
    )
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    answer = httpx.post(f"{address}/predict", content=form, headers={"Content-Type": kind})
    assert answer.status_code in (200, 400)
    assert answer.json()


def test_programs_are_not_started_for_images(address: str) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    answer = httpx.post(f"{address}/predict", content=postscript)
    assert "not an image format" in answer.json()["predictions"][0]["error"]


def test_all_requests_together_are_limited(model: Model, engine: Engine) -> None:
    limits = Limits(bytes=100_000, held=150_000, seconds=3.0)
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\n"
    with served(Service(engine, limits=limits)) as address:
        waiting = request_in_parts(address, head, b"x" * 90_000)
        time.sleep(0.3)
        answer = httpx.post(f"{address}/predict", content=b"x" * 90_000)
        assert answer.status_code == 503
        waiting.close()
        time.sleep(0.3)
        assert httpx.post(f"{address}/predict", content=photo(0)).status_code == 200


def test_aborted_uploads_leave_nothing(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n"
    for _ in range(20):
        request_in_parts(address, head, b"x" * 100).close()
    time.sleep(0.3)
    assert httpx.get(f"{address}/health").json()["requests"] == 0
    assert not capfd.readouterr().err


def test_too_many_requests_are_told_to_come_back(model: Model, engine: Engine) -> None:
    waiting = threading.Event()

    def run(pixels: np.ndarray) -> np.ndarray:
        waiting.wait(5)
        return engine.run(pixels)

    slow = Engine(run, engine.fit, engine.classes, engine.about)

    async def ask(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=10) as client:
            asked = [asyncio.create_task(client.post(f"{address}/predict", content=photo(0))) for _ in range(5)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            waiting.set()
            assert all(task.result().status_code == 503 for task in done)
            return await asyncio.gather(*asked)

    with served(Service(slow, limits=Limits(requests=2))) as address:
        answers = asyncio.run(ask(address))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 503)


def test_an_answer_that_takes_too_long(engine: Engine) -> None:
    def run(pixels: np.ndarray) -> np.ndarray:
        time.sleep(0.5)
        return engine.run(pixels)

    slow = Engine(run, engine.fit, engine.classes, engine.about)
    with served(Service(slow, limits=Limits(seconds=0.2))) as address:
        answer = httpx.post(f"{address}/predict", content=photo(0))
        assert answer.status_code == 504
        assert "predicting took more than 0.2 s" in answer.json()["error"]


def test_an_error_of_the_network_reaches_those_who_wait() -> None:
    def run(pixels: np.ndarray) -> np.ndarray:
        if pixels.max() > 1:
            raise RuntimeError("broken")
        return pixels.reshape(len(pixels), -1)

    async def ask() -> list[object]:
        async with Batcher(run, 4) as batcher:
            bad = await asyncio.gather(
                *(batcher.outputs(np.full((1, 1, 1), 9, np.uint8)) for _ in range(3)), return_exceptions=True
            )
            return [*bad, await batcher.outputs(np.ones((1, 1, 1), np.uint8))]

    *bad, good = asyncio.run(ask())
    assert [str(error) for error in bad] == ["broken"] * 3
    assert good == np.array([1])


def test_the_description_fits_the_answers(address: str) -> None:
    said = httpx.get(f"{address}/openapi.json").json()
    answer = httpx.post(f"{address}/predict?explain=yes", content=photo(0)).json()
    schema = said["components"]["schemas"]["Answer"]
    assert answer.keys() == schema["properties"].keys()
    known = schema["properties"]["predictions"]["items"]["properties"]
    assert answer["predictions"][0].keys() <= known.keys()
    assert {"200", "400", "408", "413", "503", "504"} == said["paths"]["/predict"]["post"]["responses"].keys()
    assert said["openapi"].startswith("3.1")


def test_the_command(model: Model, tmp_path: Path) -> None:
    """As a user starts and ends it."""
    import signal
    import subprocess

    save(model, tmp_path / "m.safetensors")
    words = [sys.executable, "-m", "resnetlab", "serve", "m.safetensors", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    address = line.split("open ")[1].split(" in")[0]
    assert address.startswith("http://127.0.0.1:")
    assert httpx.post(f"{address}/predict", content=photo(0)).status_code == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert out.endswith("The server has ended.\n")
    assert not err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--port", "70000"), "from 0 to 65535"),
        (("--timeout", "0"), "from 0.1 to 3600"),
        (("--timeout", "nan"), "from 0.1 to 3600"),
        (("--unsure", "2"), "more than 0 and at most 1"),
        (("--max-bytes", "0"), "at least 1"),
        (("--max-bytes", "9999999999"), "at most 1,073,741,824"),
        (("--requests", "0"), "at least 1"),
        (("--host", "256.1.1.1"), "cannot listen at"),
        (("--device", "cuda"), "cuda"),
    ],
)
def test_options_that_cannot_be(
    command: Command, model: Model, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(model, "m.safetensors")
    assert command("serve", "m.safetensors", *words) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use(command: Command, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    save(model, "m.safetensors")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert command("serve", "m.safetensors", "--port", port) == 2
    assert f"cannot listen at 127.0.0.1, port {port}" in capsys.readouterr().err


def test_health_is_json(address: str) -> None:
    health = httpx.get(f"{address}/health")
    assert json.loads(health.text)["status"] == "ok"


def test_options_reach_the_server(command: Command, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Service, socket.socket]] = []
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr("resnetlab.serving.server.run_server", lambda *given: seen.append(given))
    save(model, "m.safetensors")
    assert command("serve", "m.safetensors", "--host", "0.0.0.0", "--port", "0", "--top", "2", "--unsure", "0.5") == 0
    service, _ = seen.pop()
    assert service.app()
    assert (service.top, service.unsure, service.hosts) == (2, 0.5, ("*",))
    options = ("--max-bytes", "7", "--timeout", "3", "--requests", "4", "--batch-size", "5", "--threads", "1")
    options += ("--precision", "bfloat16", "--device", "cpu", "--engine", "torch", "--port", "0")
    assert command("serve", "m.safetensors", *options) == 0
    service, _ = seen.pop()
    assert service.limits == Limits(bytes=7, seconds=3.0, requests=4)
    assert (service.batch, service.engine.about) == (5, "ResNet-8, torch, bfloat16")
    assert threads[-1] == 1
    assert "0.0.0.0" not in service.hosts
    assert command("serve", "m.safetensors", "--port", "0", "--names", "photos.example.org") == 0
    service, _ = seen.pop()
    assert {"photos.example.org", "localhost"} <= set(service.hosts)
    assert command("export", "m.safetensors", "--to", "onnx", "--out", "m.onnx") == 0
    assert command("serve", "m.onnx", "--port", "0") == 0
    service, _ = seen.pop()
    assert service.network is None
    assert "onnxruntime" in service.engine.about
