"""Every engine against the network itself."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab import devices
from resnetlab.errors import ResnetlabError
from resnetlab.inference.engines import open_engine, settle
from resnetlab.models.modelfile import Model, save
from resnetlab.models.onnxfile import export_onnx

CPU = torch.device("cpu")
KINDS = [
    ("cifar_resnet8", 16, True, {"shortcut": "A", "zero_channels": "both"}),
    ("cifar_resnet8", 16, True, {"shortcut": "B", "in_channels": 1}),
    ("resnet50", 40, False, {"version": "v1.5", "narrow": 4, "shallow": True}),
    *(
        pytest.param(*kind, marks=pytest.mark.slow)  # the same operations; an export takes a second or two
        for kind in (
            ("cifar_plain8", 16, True, {}),
            ("cifar_resnet8", 16, True, {"shortcut": "C"}),
            ("resnet18", 40, False, {"shortcut": "A"}),
            ("resnet50", 40, False, {"version": "v1"}),
            ("resnet50", 40, True, {"version": "v1.5"}),
            ("plain34", 40, False, {}),
        )
    ),
]


def pixels_for(model: Model, count: int) -> np.ndarray:
    channels, height, width = model.preprocessing.image_shape
    return np.random.default_rng(count).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def logits_of(model: Model, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.network(model.preprocessing(torch.from_numpy(pixels))).numpy()


def close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert expected.std(0).max() > 0  # logits that do not depend on the image would prove nothing
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(("name", "side", "mean_image", "options"), KINDS)
def test_engines_give_the_networks_logits(small, tmp_path: Path, name, side, mean_image, options) -> None:
    model = small(name, side, mean_image, **options)
    save(model, tmp_path / "model.safetensors")
    export_onnx(model, tmp_path / "model.onnx")
    for file, engine in (("model.safetensors", "torch"), ("model.onnx", "onnxruntime"), ("model.onnx", "openvino")):
        opened = open_engine(tmp_path / file, engine, precision="float32")
        for count in (3, 1, 2):
            pixels = pixels_for(model, 4)
            found = np.concatenate([opened.run(pixels[:count]), opened.run(pixels[count:])])
            close(found, logits_of(model, pixels), 1e-4)


@pytest.mark.parametrize("engine", ["torch", "openvino"])  # onnxruntime: see test_predict.py
def test_engines_open_model_files(small, model_path: Path, engine) -> None:
    model = small()
    opened = open_engine(model_path, engine, precision="float32", threads=2)
    assert (opened.fit, opened.classes) == (model.preprocessing.fit, model.classes)
    assert opened.about == f"{model.network.architecture.label}, {engine}, float32"
    close(opened.run(pixels_for(model, 5)), logits_of(model, pixels_for(model, 5)), 1e-4)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bfloat16_is_close(small, tmp_path: Path, engine) -> None:
    model = small("resnet18", 40, False, narrow=2, shallow=True)
    save(model, tmp_path / "model.safetensors")
    opened = open_engine(tmp_path / "model.safetensors", engine, precision="bfloat16")
    assert opened.about.endswith(f"{engine}, bfloat16")
    pixels = pixels_for(model, 16)
    found, expected = opened.run(pixels), logits_of(model, pixels)
    close(found, expected, 0.05)
    if engine == "torch":  # OpenVINO keeps float32 where the processor has no bfloat16
        assert np.abs(found - expected).max() > 1e-5 * np.abs(expected).max()


def test_auto_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for tiles, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(devices, "has_bfloat16_tiles", lambda tiles=tiles: tiles)
        assert settle("auto", CPU) == expected
        assert settle("float32", CPU) == "float32"
    for capability, expected in (((9, 0), "bfloat16"), ((7, 5), "float32")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert settle("auto", torch.device("cuda")) == expected


@pytest.fixture(scope="module")
def exported(small: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    export_onnx(small(), path)
    return path


def test_onnx_files_run_as_they_are(small, exported: Path) -> None:
    model = small()
    pixels = pixels_for(model, 5)
    for engine, about in ((None, "onnxruntime, float32"), ("openvino", "openvino, float32")):
        opened = open_engine(exported, engine, precision="float32")
        assert opened.about == f"{model.network.architecture.label}, {about}"
        assert (opened.fit, opened.classes) == (model.preprocessing.fit, model.classes)
        close(opened.run(pixels), logits_of(model, pixels), 1e-4)


def test_what_engines_cannot_do(exported: Path, model_path: Path) -> None:
    with pytest.raises(ResnetlabError, match="is an ONNX file; run it with `engine=onnxruntime` or openvino"):
        open_engine(exported, "torch")
    with pytest.raises(ResnetlabError, match="runs on the CPU only"):
        open_engine(model_path, "openvino", device=torch.device("cuda"))
    with pytest.raises(ResnetlabError, match="bfloat16 is for torch and openvino"):
        open_engine(model_path, "onnxruntime", precision="bfloat16")


@pytest.mark.parametrize(
    ("engine", "module", "extra"),
    [("onnxruntime", "onnxruntime", "onnx"), ("openvino", "openvino", "openvino"), ("onnxruntime", "onnx", "onnx")],
)
def test_an_engine_that_is_not_installed(
    model_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch, engine, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = model_path if module == "onnx" else exported
    with pytest.raises(ResnetlabError, match=rf"pip install 'resnetlab\[{extra}\]'"):
        open_engine(path, engine)
