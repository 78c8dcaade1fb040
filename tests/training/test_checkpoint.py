"""A damaged checkpoint is never used: the one before it is, with a message, or training does not start."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from resnetlab.errors import ResnetlabError
from resnetlab.networks.resnet import build
from resnetlab.training import checkpoint
from resnetlab.training.loop import State, start
from resnetlab.training.recipe import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe(iterations=10, batch_size=4)
Damage = Callable[[Path], None]


def fresh() -> State:
    torch.manual_seed(0)
    return start(build("cifar_resnet8-narrow4", num_classes=3), RECIPE, CPU)


METRICS = [b'{"step": %d}' % k for k in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, of steps 3 and 6."""
    state = fresh()
    for step in (3, 6):
        for _ in range(3):
            state.optimizer.zero_grad()
            torch.autograd.backward(state.network(torch.randn(2, 3, 8, 8)).square().sum())
            state.optimizer.step()
        state.step = step
        checkpoint.save(tmp_path, state, METRICS[:step])
    return tmp_path


def flip_a_bit(newest: Path) -> None:
    data = bytearray((newest / "tensors.safetensors").read_bytes())
    data[-100] ^= 1
    (newest / "tensors.safetensors").write_bytes(data)


def rewritten(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Other tensors, as of an earlier version, which had no checksums."""

    def damage(newest: Path) -> None:
        tensors = load_file(newest / "tensors.safetensors")
        change(tensors)
        save_file(tensors, newest / "tensors.safetensors")
        state = json.loads((newest / "state.json").read_text())
        del state["hash"], state["tensors_hash"], state["metrics_hash"]
        (newest / "state.json").write_text(json.dumps(state))

    return damage


def said(change: Callable[[dict[str, object]], object], checksum: bool = False) -> Damage:
    def damage(newest: Path) -> None:
        state = json.loads((newest / "state.json").read_text())
        change(state)
        if not checksum:
            state.pop("hash", None)
        (newest / "state.json").write_text(json.dumps(state))

    return damage


def text(content: str) -> Damage:
    return lambda newest: (newest / "state.json").write_text(content) and None


MOMENTUM = "momentum.layer1.0.conv1.weight"
DAMAGES: dict[str, Damage] = {
    "a bit": flip_a_bit,
    "no tensors": lambda newest: (newest / "tensors.safetensors").unlink(),
    "no state": lambda newest: (newest / "state.json").unlink(),
    "no JSON": text("{"),
    "a list": text("[]"),
    "deep": text("[" * 100_000),
    "another field": text('{"step": 6, "warmed_up_at": null, "metrics_lines": 6, "more": 1}'),
    "fields missing": text('{"step": 6}'),
    "step of another": said(lambda state: state.update(step=5)),
    "a huge step": said(lambda state: state.update(step=10**9)),
    "a step that is none": said(lambda state: state.update(step="6")),
    "a negative step": said(lambda state: state.update(step=-6)),
    "true": said(lambda state: state.update(step=True)),
    "warmed up later": said(lambda state: state.update(warmed_up_at=9)),
    "lines below 0": said(lambda state: state.update(metrics_lines=-1)),
    "changed": said(lambda state: state.update(metrics_lines=5), checksum=True),
    "a weight missing": rewritten(lambda tensors: tensors.pop("network.conv1.weight")),
    "a tensor more": rewritten(lambda tensors: tensors.update(more=torch.zeros(1))),
    "broadcast momentum": rewritten(lambda tensors: tensors.update({MOMENTUM: torch.zeros(1)})),
    "momentum of whole numbers": rewritten(lambda tensors: tensors.update({MOMENTUM: tensors[MOMENTUM].int()})),
    "no tally": rewritten(lambda tensors: tensors.pop("tally")),
    "cut": lambda newest: (newest / "tensors.safetensors").write_bytes(b"x" * 9) and None,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_one_before_is_used(folder: Path, name: str) -> None:
    expected = load_file(folder / "step-00000003" / "tensors.safetensors")
    DAMAGES[name](folder / "step-00000006")
    state = fresh()
    restored = checkpoint.restore(folder, state, RECIPE.iterations)
    assert (state.step, restored.metrics_lines) == (3, 3)
    assert len(restored.damaged) == 1
    assert "step-00000006" in restored.damaged[0]
    assert torch.equal(state.network.state_dict()["conv1.weight"], expected["network.conv1.weight"])
    DAMAGES[name](folder / "step-00000003")
    if name not in ("another field", "step of another"):  # which are of step 6
        with pytest.raises(ResnetlabError, match="no checkpoint can be read"):
            checkpoint.restore(folder, fresh(), RECIPE.iterations)


def test_a_step_beyond_the_recipe(folder: Path) -> None:
    assert checkpoint.restore(folder, fresh(), 5).damaged[0].endswith("it is of step 6 of 5")


def test_checkpoints_of_earlier_versions_are_read(folder: Path) -> None:
    rewritten(lambda tensors: None)(folder / "step-00000006")
    state = fresh()
    assert checkpoint.restore(folder, state) == checkpoint.Restored(6)
    assert state.step == 6


def test_the_one_before_is_used_where_metrics_were_changed(folder: Path) -> None:
    for metrics in (METRICS[:5], [*METRICS[:5], b"{}"], [*METRICS[:4], METRICS[5], METRICS[4]]):
        state = fresh()
        restored = checkpoint.restore(folder, state, metrics=metrics)
        assert (state.step, restored.metrics_lines, restored.sound) == (3, 3, True)
        assert "metrics.jsonl has lost lines" in restored.damaged[0]
    assert checkpoint.restore(folder, fresh(), metrics=[*METRICS, b"{}"]) == checkpoint.Restored(6)


def test_the_newest_is_used_where_all_metrics_are_lost(folder: Path) -> None:
    state = fresh()
    assert checkpoint.restore(folder, state, metrics=[]) == checkpoint.Restored(6, sound=False)
    assert state.step == 6
