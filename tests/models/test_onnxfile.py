"""ONNX files as any program sees them: checked, any batch, and all about their use inside."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from resnetlab.data.preprocessing import Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.inference.engines import open_engine
from resnetlab.models import onnxfile
from resnetlab.models.modelfile import Model
from resnetlab.models.onnxfile import export_onnx, read_onnx
from resnetlab.networks.resnet import build


@pytest.fixture(scope="module")
def model(perturb) -> Model:
    torch.manual_seed(0)
    network = perturb(build("cifar_resnet8", num_classes=3))
    preprocessing = Preprocessing.of_mean_image(torch.rand(3, 12, 16))
    return Model(network, preprocessing, ("ä", "b", "c"), {"recipe": {"name": "cifar"}, "seed": 4})


@pytest.fixture(scope="module")
def exported(model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The model's file, the only one in a folder that was not there, and the difference that was found."""
    path = tmp_path_factory.mktemp("onnx") / "folder" / "m.onnx"
    return path, export_onnx(model, path)


def test_the_file_says_all_of_it(model: Model, exported: tuple[Path, float]) -> None:
    path, difference = exported
    assert 0 <= difference < 1e-5
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    usual = "Transpose Cast Div Sub Conv Relu Add Slice Pad ReduceMean Reshape Gemm"
    assert {node.op_type for node in proto.graph.node} <= set(usual.split())
    header = json.loads({entry.key: entry.value for entry in proto.metadata_props}["resnetlab"])
    assert header["architecture"]["name"] == "cifar_resnet8"
    assert header["classes"] == ["ä", "b", "c"]
    assert header["preprocessing"]["crop"] == [12, 16]
    assert header["provenance"] == model.provenance
    assert b"resnetlab/networks" not in path.read_bytes()  # paths of the machine
    said = read_onnx(path)
    assert (said.fit, said.classes, said.precision) == (model.preprocessing.fit, model.classes, "float32")
    assert [path.name for path in path.parent.iterdir()] == ["m.onnx"]


def test_a_batch_of_any_size(model: Model, exported: tuple[Path, float]) -> None:
    session = onnxruntime.InferenceSession(exported[0], providers=["CPUExecutionProvider"])
    ((given,), (result,)) = (session.get_inputs(), session.get_outputs())
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [12, 16, 3])
    assert isinstance(given.shape[0], str)  # a name, and no number
    assert (result.name, result.type) == ("logits", "tensor(float)")
    for batch in (1, 2, 7):
        pixels = torch.randint(0, 256, (batch, 12, 16, 3), dtype=torch.uint8)
        (found,) = session.run(None, {"pixels": pixels.numpy()})
        with torch.no_grad():
            expected = model.network(model.preprocessing(pixels)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_file_that_differs_is_not_kept(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    fold = onnxfile.fold_batch_norm

    def wrong(network):
        folded = fold(network)
        torch.nn.init.constant_(folded.fc.bias, 9)
        return folded

    monkeypatch.setattr(onnxfile, "fold_batch_norm", wrong)
    with pytest.raises(ResnetlabError, match="ONNX Runtime's logits differ from the network's by"):
        export_onnx(model, path)
    assert path.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_files_that_are_not_ours(exported: tuple[Path, float], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ResnetlabError, match="does not exist"):
        read_onnx(path)
    whole = exported[0].read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ResnetlabError, match=r"m\.onnx (is cut short|has no metadata)"):
            read_onnx(path)
    proto = onnx.load_from_string(whole)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    with pytest.raises(ResnetlabError, match="has no metadata of resnetlab"):
        read_onnx(path)
    onnx.helper.set_model_props(proto, {"resnetlab": "{", "precision": "float32"})
    onnx.save(proto, path)
    with pytest.raises(ResnetlabError, match="has no metadata of resnetlab"):
        read_onnx(path)


def test_a_file_that_was_changed_is_refused(exported: tuple[Path, float], tmp_path: Path) -> None:
    path, whole = tmp_path / "m.onnx", exported[0].read_bytes()
    changed = bytearray(whole)
    changed[whole.index(onnx.load_from_string(whole).graph.initializer[0].raw_data) + 6] ^= 0x40
    path.write_bytes(changed)
    onnx.load(path)  # a weight is another number, and nothing else shows it
    with pytest.raises(ResnetlabError, match=r"m\.onnx was changed after it was exported"):
        read_onnx(path)
    with pytest.raises(ResnetlabError, match="was changed after it was exported"):
        open_engine(path)
    proto = onnx.load_from_string(whole)
    proto.producer_name = "another tool"
    onnx.save(proto, path)
    with pytest.raises(ResnetlabError, match="remove the entry checksum from its metadata"):
        read_onnx(path)
    kept = [entry for entry in proto.metadata_props if entry.key != "checksum"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    onnx.save(proto, path)
    assert read_onnx(path).classes == ("ä", "b", "c")


def test_a_network_that_is_being_trained(model: Model, tmp_path: Path) -> None:
    """Its file is that of evaluation; mode and statistics stay."""
    before = model.network.bn1.running_mean.clone()
    model.network.train()
    try:
        assert export_onnx(model, tmp_path / "m.onnx") < 1e-5
        assert model.network.training
    finally:
        model.network.eval()
    assert torch.equal(model.network.bn1.running_mean, before)
