"""The loop against a literal one, its events, and checkpoints at any step."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from resnetlab.data.augment import per_pixel_mean
from resnetlab.data.dataset import Dataset
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.errors import DivergedError, ResnetlabError
from resnetlab.networks.resnet import ResNet, build
from resnetlab.tasks.classification import CLASSIFICATION
from resnetlab.training import checkpoint
from resnetlab.training.batches import Training, prepare
from resnetlab.training.loop import (
    Event,
    Report,
    State,
    Stepped,
    WarmedUp,
    launched,
    objective,
    start,
    train,
)
from resnetlab.training.named_recipes import CIFAR
from resnetlab.training.recipe import Recipe
from resnetlab.training.schedule import learning_rate

CPU = torch.device("cpu")
RECIPE = replace(CIFAR.scaled(12), batch_size=16, padding=1, report_every=5)


def network() -> ResNet:
    torch.manual_seed(3)
    return build("cifar_resnet8", num_classes=4)


def stream(tiny: Dataset, recipe: Recipe = RECIPE) -> Training:
    return prepare(tiny, recipe, 0, CPU, Preprocessing.of_mean_image(per_pixel_mean(tiny.train.pixels))).training


def run(
    tiny: Dataset, recipe: Recipe, state: State | None = None, steps: int | None = None
) -> tuple[State, list[Event]]:
    state = state or start(network(), recipe, CPU)
    events: list[Event] = []
    forward = objective(state.network, recipe, CPU, F.cross_entropy, CLASSIFICATION.sums)
    for event in train(state, launched(stream(tiny, recipe), forward, recipe), recipe, CLASSIFICATION.means):
        events.append(event)
        if event == Stepped(steps or -1):
            break
    return state, events


def test_it_is_stochastic_gradient_descent_with_momentum(tiny: Dataset) -> None:
    state, events = run(tiny, RECIPE)
    literal = network().to(memory_format=torch.channels_last).train()
    velocity = {name: torch.zeros_like(p) for name, p in literal.named_parameters()}
    losses, errors = [], []
    for step in range(12):
        images, labels = stream(tiny).batch(step)
        logits = literal(images)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, list(literal.parameters()))
        with torch.no_grad():
            for (name, p), gradient in zip(literal.named_parameters(), gradients, strict=True):
                velocity[name] = 0.9 * velocity[name] + gradient + 1e-4 * p
                p -= learning_rate(RECIPE, step, None) * velocity[name]
        losses.append(loss.item())
        errors.append((logits.argmax(1) != labels).double().mean().item() * 100)
    for key, value in literal.state_dict().items():
        torch.testing.assert_close(state.network.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)
    reports = [event for event in events if isinstance(event, Report)]
    assert [report.step for report in reports] == [5, 12]  # the last two steps are no piece of their own
    for report, (first, last) in zip(reports, [(0, 5), (5, 12)], strict=True):
        assert report.metrics["error"] == pytest.approx(sum(errors[first:last]) / (last - first))
        assert report.metrics["loss"] == pytest.approx(sum(losses[first:last]) / (last - first), rel=1e-4)
    assert [event.step for event in events if isinstance(event, Stepped)] == list(range(1, 13))


@pytest.mark.parametrize("decayed", ["all", "weights"])
def test_the_last_layer_learns_at_its_own_rate(tiny: Dataset, decayed: str) -> None:
    """Of one step: the update of the last layer is that many times larger, all others stay."""
    recipe = replace(RECIPE, decayed=decayed, iterations=1, report_every=1)
    before = network().state_dict()
    usual, faster = (run(tiny, replace(recipe, head_rate=factor))[0].network.state_dict() for factor in (1.0, 10.0))
    for name in before:
        factor = 10 if name.startswith("fc.") else 1
        expected = before[name] + factor * (usual[name] - before[name])
        torch.testing.assert_close(faster[name], expected, rtol=1e-4, atol=1e-6, msg=name)
    state, _ = run(tiny, replace(recipe, head_rate=10.0, iterations=12, drops=(6,)))
    rates = sorted({group["lr"] for group in state.optimizer.param_groups})
    assert rates == pytest.approx([0.01, 0.1])


def test_warm_up_ends_when_the_error_is_low_enough(tiny: Dataset) -> None:
    recipe = replace(
        RECIPE, iterations=40, drops=(), warmup_rate=0.01, warmup_error=60.0, warmup_window=4, report_every=2
    )
    state, events = run(tiny, recipe)
    (ended,) = [event for event in events if isinstance(event, WarmedUp)]
    assert ended.step % 4 == 0
    assert ended.headline < 60
    assert ended.learning_rate == 0.1
    assert state.warmed_up_at == ended.step
    before = [event for event in events if isinstance(event, Report) and event.step <= ended.step]
    after = [event for event in events if isinstance(event, Report) and event.step > ended.step]
    assert {report.learning_rate for report in before} == {0.01}
    assert {report.learning_rate for report in after} == {0.1}
    windows = [before[k : k + 2] for k in range(0, len(before) - 2, 2)]
    assert all(sum(report.metrics["error"] for report in window) / 2 >= 60 for window in windows)


def test_a_warm_up_that_never_ends_stays_slow(tiny: Dataset) -> None:
    recipe = replace(RECIPE, warmup_rate=0.01, warmup_error=0.0, warmup_window=1)
    state, events = run(tiny, recipe)
    assert state.warmed_up_at is None
    assert {event.learning_rate for event in events if isinstance(event, Report)} <= {0.01, 0.001}


AUGMENTED = {"mixup": 0.2, "cutmix": 1.0, "erasing": 0.3, "repeats": 4, "head_rate": 10.0, "learning_rate": 0.01}


@pytest.mark.parametrize("changes", [{}, AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("stop", [1, 3, 5, 8, 11])
def test_a_checkpoint_at_any_step_goes_on_bit_for_bit(
    tiny: Dataset, tmp_path: Path, stop: int, changes: dict[str, float]
) -> None:
    recipe = replace(RECIPE, warmup_rate=0.01, warmup_error=70.0, warmup_window=3, **changes)
    whole, events = run(tiny, recipe)
    half, before = run(tiny, recipe, steps=stop)
    checkpoint.save(tmp_path, half, [b"{}"] * 7)
    torch.manual_seed(99)
    state = start(build("cifar_resnet8", num_classes=4), recipe, CPU)
    assert checkpoint.restore(tmp_path, state) == checkpoint.Restored(7)
    state, after = run(tiny, recipe, state)
    assert before + after == events
    assert state.warmed_up_at == whole.warmed_up_at
    for key, value in whole.network.state_dict().items():
        assert torch.equal(state.network.state_dict()[key], value), key


def test_only_the_newest_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tiny: Dataset, tmp_path: Path) -> None:
    for stop in (2, 4, 6):
        state, _ = run(tiny, RECIPE, steps=stop)
        checkpoint.save(tmp_path, state, [b"{}"] * stop)
    assert [path.name for path in checkpoint.newest_first(tmp_path)] == ["step-00000006", "step-00000004"]
    tensors = tmp_path / "step-00000006" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    fresh = start(network(), RECIPE, CPU)
    restored = checkpoint.restore(tmp_path, fresh)
    assert restored.metrics_lines == 4
    assert "step-00000006: tensors.safetensors was changed" in restored.damaged[0]
    assert fresh.step == 4
    (tmp_path / "step-00000004" / "state.json").write_text("{")
    with pytest.raises(ResnetlabError, match="no checkpoint can be read.*remove"):
        checkpoint.restore(tmp_path, fresh)


def test_divergence_is_noticed(tiny: Dataset) -> None:
    recipe = replace(RECIPE, learning_rate=1e30)
    with pytest.raises(DivergedError, match="at step 5, learning rate 1e\\+30"):
        run(tiny, recipe)


def test_bfloat16_learns_alike(tiny: Dataset) -> None:
    exact, _ = run(tiny, RECIPE)
    rough, events = run(tiny, replace(RECIPE, precision="bfloat16"))
    assert all(p.dtype == torch.float32 for p in rough.network.parameters())
    assert not torch.equal(rough.network.fc.weight, exact.network.fc.weight)
    torch.testing.assert_close(rough.network.conv1.weight, exact.network.conv1.weight, rtol=0.2, atol=0.1)
    assert all(event.metrics["loss"] < 10 for event in events if isinstance(event, Report))


def test_weight_decay_is_of_the_parameters_that_the_recipe_names() -> None:
    counts = {}
    for decayed in ("all", "weights", "not-norms"):
        state = start(network(), replace(RECIPE, decayed=decayed), CPU)
        groups = state.optimizer.param_groups
        counts[decayed] = sum(len(group["params"]) for group in groups if group["weight_decay"])
        assert sum(len(group["params"]) for group in groups) == len(list(state.network.parameters()))
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in network().modules())
    total = len(list(network().parameters()))
    assert counts == {"all": total, "weights": total - 2 * norms - 1, "not-norms": total - 2 * norms}


def test_the_network_given_is_the_one_trained(tiny: Dataset) -> None:
    given = network()
    before = copy.deepcopy(given.state_dict())
    state = start(given, RECIPE, CPU)
    run(tiny, RECIPE, state)
    assert state.network is given
    assert not torch.equal(before["conv1.weight"], given.conv1.weight)
