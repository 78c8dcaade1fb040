"""Temperature and distance: closed forms, a second implementation, and the same in every engine and export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.inference.engines import open_engine
from resnetlab.inference.explain import explain
from resnetlab.inference.predict import Prediction, predict
from resnetlab.models.exporting import export_torchvision
from resnetlab.models.modelfile import Model, load, save
from resnetlab.models.onnxfile import export_onnx
from resnetlab.models.trust import Trust, distance, fit_temperature, fit_trust
from resnetlab.networks.resnet import build
from resnetlab.tasks.fitting_trust import _features, every


def sampled(count: int, seed: int = 0, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn by their softmax: their temperature is 1."""
    logits = 2 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))
    return logits, logits.softmax(1).multinomial(1, generator=torch.Generator().manual_seed(seed + 1))[:, 0]


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_is_what_logits_were_multiplied_by(factor: float) -> None:
    logits, labels = sampled(20_000)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.04)


@given(st.integers(0, 100), st.integers(5, 60))
def test_no_other_temperature_is_likelier(seed: int, count: int) -> None:
    logits, labels = sampled(count, seed)
    target = torch.full((count, 4), 1 / (count + 4)).double()
    target[range(count), labels] = (count + 1) / (count + 4)
    found = fit_temperature(logits, labels)
    losses = [
        float(-(target * (logits.double() / t).log_softmax(1)).sum()) for t in (found, 0.97 * found, 1.03 * found)
    ]
    assert losses[0] <= min(losses) + 1e-9


def test_few_images_that_are_all_right_do_not_make_certainty() -> None:
    logits = 3 * torch.eye(2).repeat(6, 1)
    temperature = fit_temperature(logits, torch.arange(2).repeat(6))
    assert (logits / temperature).softmax(1).max() == pytest.approx(13 / 14, abs=1e-3)  # Platt's (n + 1) / (n + 2)


def test_the_distance_is_that_from_the_fifth_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    known, features = torch.randn(40, 8, generator=generator), torch.randn(30, 8, generator=generator)
    trust = fit_trust(*sampled(30), features, known)
    assert trust.known is not None
    found = NearestNeighbors(n_neighbors=5, metric="cosine").fit(trust.known.float()).kneighbors(features)[0][:, -1]
    np.testing.assert_allclose(trust.distance(features), found, atol=3e-4)  # kept in 16 bits
    beyond = int((trust.distance(features) > trust.limit).sum())
    assert beyond == 1  # 5 % of 30, rounded down
    few = torch.nn.functional.normalize(known[:3], dim=1)
    assert distance(features, few).shape == (30,)  # fewer than five: the farthest


@pytest.mark.parametrize(("size", "stride"), [(1, 3), (8, 3), (7, 5), (64, 25)])
def test_each_of_so_many_images_is_chosen_over_all_batches(size: int, stride: int) -> None:
    images = torch.arange(1000).float()[:, None, None, None]
    chosen = torch.cat(list(every(stride, images.split(size))))
    assert torch.equal(chosen, images[::stride])


def test_a_share_without_images_has_no_features() -> None:
    network = build("cifar_resnet8-narrow4")
    network.fc = torch.nn.Identity()  # type: ignore[assignment]
    assert _features(network, 16, iter(())).shape == (0, 16)
    assert torch.nn.Linear(16, 3)(_features(network, 16, iter(()))).shape == (0, 3)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    network = build("resnet18-narrow8", num_classes=3).eval()
    about = Preprocessing.by_channel(Fit.square(32, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    return Model(network, about, ("ant", "bee", "cow"), {}, Trust(1.7, 20, torch.randn(12, 64).half(), 0.9))


def pixels(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def expected(model: Model) -> np.ndarray:
    """Calibrated logits and the distance."""
    assert model.trust is not None
    with torch.no_grad():
        images = model.preprocessing(torch.from_numpy(pixels()))
        features = model.network.avgpool(model.network.features(images)).flatten(1)
        return np.column_stack([model.network(images) / 1.7, model.trust.distance(features)])


def test_the_file_keeps_it(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors").trust
    assert again is not None
    assert model.trust is not None
    assert again.description == model.trust.description
    assert torch.equal(again.known, model.trust.known)  # type: ignore[arg-type]
    save(replace(model, trust=None), tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").trust is None


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_every_engine_gives_the_same(model: Model, name: str) -> None:
    engine = open_engine(model, name, precision="float32")  # type: ignore[arg-type]
    np.testing.assert_allclose(engine.run(pixels()), expected(model), atol=1e-4)
    assert engine.limit == 0.9
    (found,) = predict(engine, pixels()[0])
    assert isinstance(found, Prediction)
    logits, far = expected(model)[0, :3], expected(model)[0, 3] > 0.9
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found.probabilities, sorted(shares)[::-1], atol=1e-5)
    assert found.unfamiliar == far


def test_an_onnx_file_has_it_inside(model: Model, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "m.onnx")
    engine = open_engine(tmp_path / "m.onnx", precision="float32")
    np.testing.assert_allclose(engine.run(pixels()), expected(model), atol=1e-4)
    assert engine.limit == 0.9
    export_onnx(replace(model, trust=None), tmp_path / "m.onnx")
    assert open_engine(tmp_path / "m.onnx").run(pixels()).shape == (4, 3)


def test_other_libraries_get_calibrated_weights(model: Model, tmp_path: Path) -> None:
    whole = replace(model, network=build("resnet18", num_classes=3).eval(), trust=Trust(1.7, 20))
    export_torchvision(whole, tmp_path / "t.safetensors")
    weights = load_file(tmp_path / "t.safetensors")
    torch.testing.assert_close(weights["fc.weight"] * 1.7, whole.network.fc.weight.data)
    torch.testing.assert_close(weights["fc.bias"] * 1.7, whole.network.fc.bias.data)
    assert torch.equal(weights["conv1.weight"], whole.network.conv1.weight)


def test_explanations_have_the_same_probabilities(model: Model) -> None:
    shown = explain(model, pixels(1), count=3)[0].probabilities
    (printed,) = predict(open_engine(model, precision="float32"), pixels(1)[0])
    assert isinstance(printed, Prediction)
    np.testing.assert_allclose(shown, printed.probabilities, atol=1e-5)
