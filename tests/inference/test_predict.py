"""Predictions for files: the right ones, in order, whatever else is in the folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

import resnetlab
from resnetlab.data.preprocessing import read_image
from resnetlab.errors import ResnetlabError
from resnetlab.inference.engines import open_engine
from resnetlab.inference.predict import Prediction, Unreadable, find_images, predict


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


def test_the_python_interface(pictures: Path, model_path: Path) -> None:
    model = resnetlab.load(model_path)
    engine = resnetlab.open_engine(str(model_path))
    first = next(iter(resnetlab.predict(engine, [str(find_images([pictures])[0])])))
    assert set(first.classes) <= set(model.classes)
