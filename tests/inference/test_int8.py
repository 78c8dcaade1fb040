"""8-bit networks against the float32 ones they are made from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.errors import ResnetlabError
from resnetlab.inference import int8
from resnetlab.inference.engines import open_engine
from resnetlab.inference.int8 import export_int8, split
from resnetlab.inference.predict import find_images, score
from resnetlab.models.importing import import_weights
from resnetlab.models.modelfile import save
from resnetlab.models.onnxfile import read_onnx


def test_ranges_and_comparison_use_different_images() -> None:
    with pytest.raises(ResnetlabError, match="too few"):
        split([Path("a")])
    for count in (2, 3, 200, 513, 5000):
        images = [Path(f"{k:05}") for k in range(count)]
        calibration, others = split(images)
        assert calibration
        assert others
        assert not set(calibration) & set(others)
        assert len(calibration) <= int8.CALIBRATION_IMAGES
        assert len(others) <= int8.COMPARED_IMAGES
    assert [len(part) for part in split([Path(str(k)) for k in range(5000)])] == [250, 950]


def test_a_small_network(small, pictures: Path, tmp_path: Path) -> None:
    model, path = small(), tmp_path / "small-int8.onnx"
    images = find_images([pictures])
    agreement = export_int8(model, path, images[::2], images[1::2])
    assert agreement.images == 6
    assert agreement.percent == 100 * agreement.agreed / 6
    said = read_onnx(path)
    assert (said.precision, said.classes, said.fit) == ("int8", model.classes, model.preprocessing.fit)
    engine = open_engine(path)
    assert engine.about.endswith("onnxruntime, int8")
    found = np.stack([logits for _, logits in score(engine, images)])
    save(model, tmp_path / "exact.safetensors")
    original = open_engine(tmp_path / "exact.safetensors", precision="float32")
    exact = np.stack([logits for _, logits in score(original, images)])
    assert 1e-4 < np.abs(found - exact).max() / np.abs(exact).max() < 0.2
    with pytest.raises(ResnetlabError, match="is an int8 model; leave the precision out"):
        open_engine(path, precision="bfloat16")
    path.write_bytes(path.read_bytes().replace(b"kind0", b"kind9"))
    with pytest.raises(ResnetlabError, match="was changed after it was exported"):
        open_engine(path)


def test_a_file_that_is_no_image_is_named(small, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ResnetlabError, match=r"about\.txt is not a readable image"):
        export_int8(small(), path, [pictures / "about.txt"], find_images([pictures]))
    assert not path.exists()


def test_a_trained_network_keeps_its_answers(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "cifar10-lossless-5k.npz") as arrays:
        pixels, labels = arrays["x_test"][:150], arrays["y_test"][:150]
    paths = [tmp_path / f"{k:03}.png" for k in range(150)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    model = import_weights(shared / "peer-weights" / "resnet20-12fca82f.th").model
    agreement = export_int8(model, tmp_path / "m.onnx", paths[:50], paths)
    assert agreement.images == 150
    assert agreement.percent >= 97
    for name in ("onnxruntime", "openvino"):
        logits = np.stack([found for _, found in score(open_engine(tmp_path / "m.onnx", name), paths)])
        assert (logits.argmax(1) == labels).mean() > 0.89
