"""Predictions for files: the right ones, in order, whatever else is in the folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import resnetlab
from resnetlab.data.preprocessing import Fit, read_image
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import ranked
from resnetlab.inference.engines import Engine, open_engine
from resnetlab.inference.predict import Prediction, Unreadable, find_images, predict
from resnetlab.models.modelfile import save


def test_images_are_found_by_name_at_any_depth(pictures: Path) -> None:
    (pictures / ".hidden.jpg").write_bytes(b"")
    found = find_images([pictures])
    assert len(found) == 13
    assert found == sorted(found)
    odd = pictures / "about.txt"
    assert find_images([odd, pictures / "deep" / "er", odd])[::6] == [odd, odd]
    (pictures / "empty").mkdir()
    with pytest.raises(ResnetlabError, match=r"empty has no images; expected files such as \.jpg"):
        find_images([pictures / "empty"])
    with pytest.raises(ResnetlabError, match="no images are given"):
        find_images([])


@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_predictions_are_the_networks(small, pictures: Path, model_path: Path, batch_size: int) -> None:
    model, paths = small(), find_images([pictures])[::-1]
    engine = open_engine(model_path, precision="float32")
    found = list(predict(engine, paths, top=3, batch_size=batch_size))
    assert [prediction.path for prediction in found] == paths
    for prediction in found:
        pixels = torch.from_numpy(model.preprocessing.fit(read_image(prediction.path)))[None]
        with torch.no_grad():
            shares = model.network(model.preprocessing(pixels)).softmax(1)[0]
        expected = shares.topk(3)
        assert prediction.classes == tuple(model.classes[k] for k in expected.indices)
        np.testing.assert_allclose(prediction.probabilities, expected.values, rtol=1e-4)
    assert len({prediction.classes for prediction in found}) > 1


def test_files_that_are_no_images_do_not_stop_the_others(pictures: Path, model_path: Path) -> None:
    paths = find_images([pictures])
    paths[2:2] = [pictures / "about.txt", pictures / "missing.png"]
    cut = pictures / "cut.jpg"
    cut.write_bytes(paths[0].read_bytes()[:200])
    found = list(predict(open_engine(model_path), [*paths, cut], batch_size=3))
    assert [prediction.path for prediction in found] == [*paths, cut]
    reasons = {prediction.path.name: prediction.reason for prediction in found if isinstance(prediction, Unreadable)}
    assert list(reasons) == ["about.txt", "missing.png", "cut.jpg"]
    assert "is not a readable image" in reasons["about.txt"]
    assert "does not exist" in reasons["missing.png"]
    assert "cut.jpg is not a readable image" in reasons["cut.jpg"]
    assert sum(isinstance(prediction, Prediction) for prediction in found) == 13
    only = list(predict(open_engine(model_path), [cut]))
    assert [type(prediction) for prediction in only] == [Unreadable]


def test_more_classes_than_there_are(pictures: Path, model_path: Path) -> None:
    (prediction,) = predict(open_engine(model_path), find_images([pictures])[:1], top=99)
    assert isinstance(prediction, Prediction)
    assert len(prediction.classes) == 10
    assert sum(prediction.probabilities) == pytest.approx(1)
    assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)


def test_the_python_interface(small, pictures: Path, model_path: Path) -> None:
    model = resnetlab.load(model_path)
    path = find_images([pictures])[0]
    engine = resnetlab.open_engine(str(model_path), precision="float32")
    (expected,) = resnetlab.predict(engine, path)
    assert set(expected.classes) <= set(model.classes)
    for opened in (model, model_path, str(model_path), open_engine(model)):
        for images in (path, str(path), [path], iter([str(path)])):
            (found,) = resnetlab.predict(opened, images)
            assert (found.path, found.classes[0]) == (path, expected.classes[0])
            np.testing.assert_allclose(found.probabilities[0], expected.probabilities[0], rtol=0.1)  # may be bfloat16


def test_an_engine_of_a_model_is_that_of_its_file(small, model_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    for name in ("torch", "onnxruntime"):
        of_model, of_file = (open_engine(source, name, precision="float32") for source in (small(), model_path))
        assert (of_model.fit, of_model.classes, of_model.about) == (of_file.fit, of_file.classes, of_file.about)
        np.testing.assert_array_equal(of_model.run(pixels), of_file.run(pixels))
    with pytest.raises(ResnetlabError, match="this model: features are for model files and the engine torch"):
        open_engine(small(), "onnxruntime", features=True)


def test_images_that_are_not_files(small, pictures: Path) -> None:
    engine = open_engine(small(), precision="float32")
    paths = find_images([pictures])
    opened = [read_image(path) for path in paths]
    expected = list(predict(engine, paths))
    arrays = [np.array(image) for image in opened]
    assert {array.ndim for array in arrays} == {2, 3}
    for images in (opened, arrays, [a[..., None] if a.ndim == 2 else a for a in arrays], [*opened[:5], *arrays[5:]]):
        found = list(predict(engine, images))
        assert [prediction.path for prediction in found] == [None] * len(paths)
        assert [(p.classes, p.probabilities) for p in found] == [(p.classes, p.probabilities) for p in expected]
    assert list(predict(engine, opened[0])) == list(predict(engine, arrays[0])) == list(predict(engine, arrays[:1]))
    assert len(list(predict(engine, np.stack([arrays[0]] * 3)))) == 3
    assert [p.path for p in predict(engine, [paths[0], opened[0]])] == [paths[0], None]


def test_pillow_images_are_read_as_from_their_file(small, tmp_path: Path) -> None:
    engine = open_engine(small(), precision="float32")
    random = np.random.default_rng(0)
    turned, deep = Image.Exif(), (random.random((20, 30)) * 65535).astype(np.uint16)
    turned[0x0112] = 6
    Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png", exif=turned)
    Image.fromarray(deep).save(tmp_path / "b.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, image in zip(
        predict(engine, paths), predict(engine, [Image.open(path) for path in paths]), strict=True
    ):
        assert (image.classes, image.probabilities) == (file.classes, file.probabilities)
    Image.fromarray(np.tile(deep.astype(np.uint8), (9, 9))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with Image.open(tmp_path / "cut.jpg") as image:
        (cut,) = predict(engine, image)
    assert isinstance(cut, Unreadable)
    assert cut.path is None


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        (np.zeros((8, 8, 3), np.float32), r"an array of float32 and shape \(8, 8, 3\) is no image"),
        (
            np.zeros((3, 8, 8), np.uint8),
            r"shape \(3, 8, 8\) is no image; expected uint8 from 0 to 255",
        ),
        (np.zeros(8, np.uint8), "is no image"),
        (iter([torch.zeros(8, 8, 3)]), "cannot read a Tensor; expected a path, a Pillow image or a uint8 array"),
    ],
)
def test_arrays_that_are_no_images(small, image: object, hint: str) -> None:
    with pytest.raises(ResnetlabError, match=hint):
        list(predict(open_engine(small()), image))


TIED = st.lists(st.sampled_from([-300.0, -1.0, 0.0, 0.5, 200.0]), min_size=8, max_size=8)


@given(logits=st.lists(TIED, min_size=1, max_size=9))
def test_ties_are_ranked_as_in_evaluation(logits: list[list[float]]) -> None:
    rows = np.array(logits, np.float32)
    images = [np.full((4, 4, 1), k, np.uint8) for k in range(len(rows))]
    classes = tuple("abcdefgh")
    engine = Engine(lambda pixels: rows[pixels[:, 0, 0, 0]], Fit((4, 4), (4, 4), mode="L"), classes, "tied")
    found = [prediction.classes for prediction in predict(engine, images)]
    expected = ranked(torch.from_numpy(rows), 5)
    assert found == [tuple(classes[k] for k in row) for row in expected]


def test_answers_that_are_no_numbers(small, tmp_path: Path) -> None:
    model = small()
    with torch.no_grad():
        model.network.fc.weight.fill_(3e38)  # finite, as every weight in a file is
    save(model, tmp_path / "vast.safetensors")
    for source, said in ((tmp_path / "vast.safetensors", "vast.safetensors: answers"), (model, "ResNet-8, torch, ")):
        with pytest.raises(ResnetlabError, match=rf"{said}.*are not finite"):
            list(predict(source, np.zeros((16, 16, 3), np.uint8)))
