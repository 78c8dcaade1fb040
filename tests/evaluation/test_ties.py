"""One order of classes everywhere: by logit, and of equal logits the lowest class first."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from resnetlab.data.dataset import Pixels
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.evaluation.answers import Answers, ranked
from resnetlab.evaluation.evaluate import EvaluationSet, evaluate
from resnetlab.evaluation.metrics import place_of
from resnetlab.evaluation.protocol import protocol
from resnetlab.inference.engines import open_engine
from resnetlab.inference.predict import Prediction, predict
from resnetlab.models.modelfile import Model
from resnetlab.networks.resnet import build
from resnetlab.tasks.classification import CLASSIFICATION

CLASSES = tuple("abcdefgh")
TIED = arrays.arrays(np.float32, (7, 8), elements=st.sampled_from([-np.inf, -300.0, -1.0, 0.0, -0.0, 0.5, 200.0]))
LABELS = arrays.arrays(np.int64, 7, elements=st.integers(0, 7))


class Given(nn.Module):
    """A network whose images are its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        return logits


def counted(logits: np.ndarray, labels: np.ndarray) -> int:
    batches = [(torch.from_numpy(logits[k : k + 3]), torch.from_numpy(labels[k : k + 3])) for k in range(0, 7, 3)]
    return round(CLASSIFICATION.test(Given(), batches).metrics["error"] * 7 / 100)


@given(logits=TIED, labels=LABELS)
def test_every_count_is_numpys_stable_order(logits: np.ndarray, labels: np.ndarray) -> None:
    order = np.argsort(-logits, axis=1, kind="stable")
    errors, top5_errors = (order[:, 0] != labels).sum(), (order[:, :5] != labels[:, None]).all(1).sum()
    assert np.array_equal(ranked(torch.from_numpy(logits), 5).numpy(), order[:, :5])
    assert counted(logits, labels) == errors
    places = place_of(torch.from_numpy(logits), torch.from_numpy(labels)).numpy()
    assert np.array_equal(places, (order == labels[:, None]).argmax(1))
    found = Answers.of_logits(torch.from_numpy(logits), torch.from_numpy(labels), CLASSES)
    if np.isfinite(logits).any(1).all():  # else the scores are not numbers
        scores = torch.from_numpy(logits).double().softmax(1).numpy()
        assert np.array_equal(found.probabilities, np.take_along_axis(scores, found.ranked, 1))
    assert np.array_equal(found.ranked, order[:, :5])
    assert (found.errors, found.top5_errors) == (errors, top5_errors)


def test_all_equal() -> None:
    labels = torch.arange(8)
    found = Answers.of_logits(torch.full((8, 8), 0.125), labels, CLASSES)
    assert (found.errors, found.top5_errors) == (7, 3)
    assert counted(np.zeros((7, 8), np.float32), np.arange(7)) == 6


UNDERFLOWING = [0.0, -200.0, -190.0, 800.0, -180.0, -170.0, -160.0, -150.0]  # by 800 more than float64 has


def test_probabilities_that_underflow() -> None:
    logits, labels = torch.tensor([UNDERFLOWING]), torch.tensor([7])
    assert (logits.double().softmax(1) > 0).sum() == 1
    found = Answers.of_logits(logits, labels, CLASSES)
    assert found.ranked.tolist() == [[3, 0, 7, 6, 5]]
    assert found.top5_errors == 0
    assert found.probabilities.tolist() == [[1, 0, 0, 0, 0]]


def model_of(logits: list[float]) -> Model:
    """A model whose logits are these for any image, to the last bit."""
    network = build("cifar_resnet8", num_classes=8, narrow=8).eval()
    nn.init.zeros_(network.fc.weight)
    network.fc.bias.data = torch.tensor(logits)
    preprocessing = Preprocessing.by_channel(Fit.square(10, 8), (0.5,) * 3, (0.2,) * 3)
    return Model(network, preprocessing, CLASSES, {})


def agree(logits: list[float]) -> None:
    """Evaluation, the test in training and prediction rank the classes of one image of each class alike."""
    model = model_of(logits)
    images = Pixels(torch.randint(0, 256, (8, 10, 10, 3), dtype=torch.uint8), torch.arange(8))
    order = np.argsort(-np.array(logits), kind="stable")[:5]
    device, fit = torch.device("cpu"), model.preprocessing.fit
    source = EvaluationSet("made here", "", "test", CLASSES, images, fit)
    answers = evaluate(model, source, protocol("center", fit), device)[0].answers()
    assert answers.ranked.tolist() == [order.tolist()] * 8
    tested = CLASSIFICATION.test(model.network, [(model.preprocessing(images.pixels[:, 1:9, 1:9]), images.labels)])
    assert answers.error == tested.metrics["error"] == 87.5
    assert answers.top5_error == 37.5
    engine = open_engine(model, precision="float32", threads=1)
    for prediction in predict(engine, images.pixels.numpy()):
        assert isinstance(prediction, Prediction)
        assert prediction.classes == tuple(CLASSES[k] for k in order)
        np.testing.assert_allclose(prediction.probabilities, answers.probabilities[0], rtol=1e-6)


@settings(max_examples=20)
@given(st.lists(st.sampled_from([-300.0, -1.0, 0.0, 0.5, 200.0]), min_size=8, max_size=8))
def test_all_commands_rank_ties_alike(logits: list[float]) -> None:
    agree(logits)


@pytest.mark.parametrize("logits", [UNDERFLOWING, UNDERFLOWING[::-1], [-1e30, 1e30, *[0.0] * 3, -1e30, -1e30, -1e30]])
def test_all_commands_rank_probabilities_that_underflow_alike(logits: list[float]) -> None:
    agree(logits)


@pytest.mark.parametrize("name", ["ten-crop", "dense"])
def test_views_that_agree_on_a_tie_keep_it(name: str) -> None:
    logits = [0.5, 200.0, -300.0, 200.0, 0.5, -1.0, -300.0, 0.0]
    model = model_of(logits)
    fit = model.preprocessing.fit
    images = Pixels(torch.randint(0, 256, (8, 10, 10, 3), dtype=torch.uint8), torch.arange(8))
    source = EvaluationSet("made here", "", "test", CLASSES, images, fit)
    answers = evaluate(model, source, protocol(name, fit), torch.device("cpu"))[0].answers()
    assert answers.ranked.tolist() == [[1, 3, 0, 4, 7]] * 8


@pytest.mark.parametrize("where", [slice(0, 1), slice(3, 4), slice(7, 8), slice(None)])
@pytest.mark.parametrize("label", [0, 3, 7])
def test_what_is_not_a_number_is_an_error(where: slice, label: int) -> None:
    logits = torch.zeros(7, 8)
    logits[:, label] = 1.0
    labels = torch.full((7,), label)
    assert counted(logits.numpy(), labels.numpy()) == 0
    logits[2, where] = torch.nan
    assert counted(logits.numpy(), labels.numpy()) == 1
    found = Answers.of_logits(logits, labels, CLASSES)
    assert (found.errors, found.top5_errors) == (1, 1)
    assert int(found.confusion().trace()) == 6
    assert np.isnan(found.probabilities[2]).all()
