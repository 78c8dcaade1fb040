"""A small model, and servers of it."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.inference.engines import Engine, open_engine
from resnetlab.models.modelfile import Model
from resnetlab.networks.resnet import build
from resnetlab.serving.app import Limits, Service
from resnetlab.serving.server import Server, uvicorn

CLASSES = ("ant", "<b>bee</b>", "cow")


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = build("cifar_resnet8", num_classes=3).eval()
    fit = Fit.square(32)
    return Model(network, Preprocessing.by_channel(fit, IMAGENET_MEAN, IMAGENET_STD), CLASSES, {})


@pytest.fixture(scope="module")
def engine(model: Model) -> Engine:
    return open_engine(model, precision="float32", threads=1)


def photo(seed: int, form: str = "PNG", size: tuple[int, int] = (50, 40)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


@contextmanager
def served(service: Service) -> Iterator[str]:
    """The address of the service, run as the command runs it."""
    listening = socket.create_server(("127.0.0.1", 0))
    limits = service.limits
    config = uvicorn.Config(service.app(), http="h11", ws="none", log_level="error", timeout_graceful_shutdown=1)
    server = Server(config, limits.seconds)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def address(model: Model, engine: Engine) -> Iterator[str]:
    limits = Limits(bytes=100_000, images=3, pixels=1_000_000, seconds=2.0, requests=8)
    with served(Service(engine, model, top=2, unsure=0.9, limits=limits, hosts=("127.0.0.1",))) as found:
        yield found
