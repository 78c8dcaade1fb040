"""Requests a second of `resnetlab serve` against a plain FastAPI handler, and its memory over many requests.

    python -m benchmarks.serving --photos photos-300.tar --out results/serving-cpu

Both serve the same weights of ResNet-18 in float32 with as many threads, and get the same photographs from the same
clients over loopback, in turns. Then `resnetlab serve` alone gets many more, and its memory is read in between.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.writing import show
from resnetlab.models.importing import read_model
from resnetlab.models.modelfile import save
from resnetlab.training.provenance import environment

NETWORK = "resnet18"
TOLERANCE = 1e-3  # of probabilities
BOUNDARY = b"----x"
SERVERS = ("FastAPI handler", "resnetlab serve")


def request(photo: bytes) -> bytes:
    """One upload, as a form."""
    part = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    body = part + b"Content-Type: image/jpeg\r\n\r\n" + photo + b"\r\n--" + BOUNDARY + b"--\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=" + BOUNDARY
    return head + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


async def client(port: int, requests: Iterator[bytes], answers: list[Any]) -> None:
    """Send requests over one connection, each after the answer to the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for each in requests:
        writer.write(each)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{head.decode()}{content.decode()}")
        answers.append(json.loads(content))
    writer.close()


def load(port: int, requests: list[bytes], count: int, clients: int) -> tuple[float, list[Any]]:
    """Seconds that so many requests take, by so many clients at once, and the answers."""
    sent, answers = iter(requests[k % len(requests)] for k in range(count)), list[Any]()

    async def all_of_them() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(client(port, sent, answers) for _ in range(clients)))
        return time.perf_counter() - began

    return asyncio.run(all_of_them()), answers


@contextmanager
def server(words: list[str], port: int, threads: int) -> Iterator[int]:
    """A server in its own process; its process id."""
    variables = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen([sys.executable, *words], env=variables, stdout=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise SystemExit(f"{words} ended with status {process.returncode}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def resident(process: int) -> float:
    """The memory of a process in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main(
    photos: Path, requests: int = 200, rounds: int = 3, clients: int = 8, soak: int = 10_000, threads: int = 2,
    out: Path | None = None,
) -> None:  # fmt: skip
    """Measure and print.

    Args:
        photos: A tar file of photographs.
        requests: In a round, to each server.
        rounds: Pairs of rounds.
        clients: Connections at once.
        soak: Requests while memory is watched.
        threads: Of each server's network.
        out: Where to write the record and its page, without an ending.
    """
    with tarfile.open(photos) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.lower().endswith((".jpg", ".jpeg"))]
        sent = [request(file.read()) for file in files if file]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        weights = _weights(folder)
        ports = {name: _free_port() for name in SERVERS}
        ours = ["-m", "resnetlab", "serve", str(folder / "ours.safetensors"), "--port", str(ports[SERVERS[1]])]
        ours += ["--threads", str(threads), "--precision", "float32", "--requests", str(4 * clients)]
        theirs = [str(Path(__file__).with_name("plain_server.py")), str(weights), NETWORK]
        theirs += [str(ports[SERVERS[0]]), str(threads)]
        speeds: dict[str, list[float]] = {name: [] for name in SERVERS}
        with server(theirs, ports[SERVERS[0]], threads), server(ours, ports[SERVERS[1]], threads) as process:
            _compare_answers(ports, sent)
            for number in range(rounds):
                for name in SERVERS if number % 2 else SERVERS[::-1]:
                    seconds, _ = load(ports[name], sent, requests, clients)
                    speeds[name].append(requests / seconds)
                    print(f"{name}: {speeds[name][-1]:.1f} requests/s", flush=True)
            memory = [resident(process)]
            for _ in range(10):
                load(ports[SERVERS[1]], sent, soak // 10, clients)
                memory.append(resident(process))
                print(f"memory {memory[-1]:.0f} MiB", flush=True)
    ratios = [a / b for a, b in zip(speeds[SERVERS[1]], speeds[SERVERS[0]], strict=True)]
    record = {
        "settings": {"requests": requests, "rounds": rounds, "clients": clients, "soak": soak, "threads": threads},
        "environment": environment(torch.device("cpu")),
        "speed": speeds,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "memory": memory,
    }
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    settings, machine, memory = record["settings"], record["environment"], record["memory"]
    rows = [
        f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |"
        for name, values in record["speed"].items()
    ]
    low, high = min(record["ratios"]), max(record["ratios"])
    return "\n".join(
        [
            "# Serving",
            "",
            "| server | requests/s | range |",
            "| --- | --- | --- |",
            *rows,
            "",
            f"`resnetlab serve` answers {record['ratio']:.2f} times as many requests as torchvision's network behind "
            f"a FastAPI handler ({low:.2f} to {high:.2f}): ResNet-18, photographs as forms, {settings['clients']} "
            f"clients, {settings['requests']} requests a round, {settings['rounds']} rounds in turn, the same "
            f"weights, float32, {settings['threads']} threads each, over loopback. The answers agree.",
            "",
            f"Memory over {settings['soak']:,} further requests, in MiB, at each tenth of them: "
            f"{', '.join(f'{value:.0f}' for value in memory)}.",
            "",
            f"{machine['device']}, torch {machine['torch']}; the clients run on the same machine.",
            "",
        ]
    )


def _weights(folder: Path) -> Path:
    """Random weights, as torchvision saves them, and the same as a model file."""
    import torchvision

    torch.manual_seed(0)
    weights = folder / "weights.pth"
    torch.save(torchvision.models.get_model(NETWORK).state_dict(), weights)
    save(read_model(weights), folder / "ours.safetensors")
    return weights


def _compare_answers(ports: dict[str, int], sent: list[bytes]) -> None:
    """Both servers give the same probabilities for some photographs."""
    theirs, ours = (load(ports[name], sent, 4, 1)[1] for name in SERVERS)
    for plain, answer in zip(theirs, ours, strict=True):
        found = [each["probability"] for each in answer["predictions"][0]["classes"]]
        if max(abs(a - b[1]) for a, b in zip(found, plain, strict=True)) > TOLERANCE:
            raise SystemExit(f"the servers answer differently: {plain} and {answer}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    tyro.cli(main)
