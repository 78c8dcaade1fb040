"""Steps as arithmetic on the device against launched ones; on a GPU, replays of their graph too."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from resnetlab.data.augment import per_pixel_mean
from resnetlab.data.dataset import Dataset, Pixels
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.data.stream import Stream
from resnetlab.networks.resnet import build
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training.batches import prepare
from resnetlab.training.captured import LAUNCHED_FIRST, CapturedStep
from resnetlab.training.loop import Report, State, Stepped, WarmedUp, launched, objective, start, train
from resnetlab.training.named_recipes import CIFAR
from resnetlab.training.recipe import Recipe

RECIPE = replace(
    CIFAR.scaled(40), batch_size=20, padding=1, report_every=5, warmup_rate=0.01, warmup_error=60.0, warmup_window=4
)
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"))


@pytest.fixture(autouse=True)
def same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU gradients of weights in float32 are otherwise sums in any order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def of_mean(images: Pixels) -> Preprocessing:
    return Preprocessing.of_mean_image(per_pixel_mean(images.pixels))


def run(
    tiny: Dataset, recipe: Recipe, device: str, captured: bool, stop: int | None = None, state: State | None = None
) -> tuple[State, list[object]]:
    where = torch.device(device)
    torch.manual_seed(3)
    state = state or start(build("cifar_resnet8", num_classes=4), recipe, where)
    stream = prepare(tiny, recipe, 0, where, of_mean(tiny.train)).training
    forward = objective(state.network, recipe, where, F.cross_entropy, CLASSIFICATION.sums)
    step = CapturedStep(stream, forward, where) if captured else launched(stream, forward, recipe)
    events: list[object] = []
    for event in train(state, step, recipe, CLASSIFICATION.means):
        events.append(event)
        if event == Stepped(stop or -1):
            break
    assert not (isinstance(step, CapturedStep) and device == "cuda" and state.step > 2 * LAUNCHED_FIRST) or step.graph
    return state, events


AUGMENTED = replace(RECIPE, mixup=0.2, cutmix=1.0, erasing=0.3, repeats=2, head_rate=2.0, warmup_error=90.0)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("base", [RECIPE, AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_captured_steps_are_launched_steps(tiny: Dataset, device: str, precision: str, base: Recipe) -> None:
    recipe = replace(base, precision=precision)
    (plain, expected), (fast, found) = (run(tiny, recipe, device, captured) for captured in (False, True))
    assert fast.step == plain.step == 40
    assert fast.warmed_up_at == plain.warmed_up_at
    assert [type(event) for event in found] == [type(event) for event in expected]
    assert any(isinstance(event, WarmedUp) for event in found)
    for ours, theirs in zip(found, expected, strict=True):
        if isinstance(ours, Report) and isinstance(theirs, Report):
            assert ours.learning_rate == theirs.learning_rate
            assert ours.metrics["loss"] == pytest.approx(theirs.metrics["loss"], rel=0.02)
    tolerance = 1e-4 if precision == "float32" else 0.05
    for key, value in plain.network.state_dict().items():
        scale = float(value.float().abs().max()) or 1.0
        torch.testing.assert_close(fast.network.state_dict()[key], value, rtol=0, atol=tolerance * scale, msg=key)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("stop", [1, LAUNCHED_FIRST, LAUNCHED_FIRST + 1, 23])
def test_a_captured_run_that_stops_goes_on_alike(tiny: Dataset, device: str, stop: int) -> None:
    whole, _ = run(tiny, RECIPE, device, captured=True)
    half, _ = run(tiny, RECIPE, device, captured=True, stop=stop)
    again, _ = run(tiny, RECIPE, device, captured=True, state=half)  # a new step function, as after a restart
    assert (again.step, again.warmed_up_at) == (40, whole.warmed_up_at)
    for key, value in whole.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_the_rate_is_the_schedules(tiny: Dataset) -> None:
    seen: list[float] = []
    where = torch.device("cpu")
    state = start(build("cifar_resnet8", num_classes=4), RECIPE, where)
    stream = Stream(tiny.train, of_mean(tiny.train), 20, 0, 1, True)
    forward = objective(state.network, RECIPE, where, F.cross_entropy, CLASSIFICATION.sums)
    step = CapturedStep(stream, forward, where)

    def watched(state: State, rate: float) -> None:
        step(state, rate)
        (used,) = {float(group["lr"]) for group in state.optimizer.param_groups}
        assert used == pytest.approx(rate)
        assert int(step.step) == state.step
        seen.append(rate)

    list(train(state, watched, RECIPE, CLASSIFICATION.means))
    assert sorted(set(seen), reverse=True) == pytest.approx([0.1, 0.01, 0.001])


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_runs_on_streams_of_their_own_are_as_if_alone(tiny: Dataset, device: str) -> None:
    where = torch.device(device)
    images = tiny.train.to(where)
    streams = [torch.cuda.Stream() if device == "cuda" else None for _ in range(3)]

    def begin(seed: int) -> tuple[State, Iterator[object]]:
        torch.manual_seed(seed)
        state = start(build("cifar_resnet8", num_classes=4), RECIPE, where)
        stream = Stream(images, of_mean(images), RECIPE.batch_size, seed, RECIPE.padding, RECIPE.flip)
        forward = objective(state.network, RECIPE, where, F.cross_entropy, CLASSIFICATION.sums)
        return state, train(state, CapturedStep(stream, forward, where), RECIPE, CLASSIFICATION.means)

    begun = []
    for seed, stream in enumerate(streams):
        with torch.cuda.stream(stream):
            begun.append(begin(seed))
    running = list(zip(begun, streams, strict=True))
    while running:
        for item in list(running):
            (_, events), stream = item
            with torch.cuda.stream(stream):
                if next(events, None) is None:
                    running.remove(item)
    for seed, (state, _) in enumerate(begun):
        alone, events = begin(seed)
        list(events)
        for key, value in alone.network.state_dict().items():
            torch.testing.assert_close(state.network.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_compiled_draws_are_the_same_batches(tiny: Dataset) -> None:
    where = torch.device("cuda")
    images = tiny.train.to(where)
    stream = Stream(images, of_mean(images), 20, 5, 1, True)
    compiled = torch.compile(stream.draw, dynamic=False)
    for step in (0, 1, 7, 100, 63_999):
        stream.prepare(step)
        at = torch.full((), step, device=where)
        (found, labels), (expected, theirs) = compiled(at), stream.draw(at)
        assert torch.equal(labels, theirs)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
