"""A training that is repeated gives the networks of the run, bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnetlab.data.dataset import Dataset
from resnetlab.data.named import DataSource
from resnetlab.errors import ResnetlabError
from resnetlab.models.modelfile import load
from resnetlab.networks.architecture import parse
from resnetlab.networks.resnet import fresh
from resnetlab.runs.replay import data_of, replay, spec_of
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings
from resnetlab.runs.spec import RunSpec
from resnetlab.training.recipe import Recipe

CPU = torch.device("cpu")
RECIPE = replace(Recipe().scaled(12), batch_size=16, padding=1, report_every=4, warmup_rate=0.01, warmup_window=3)


def trained(npz: Path, folder: Path, **fields: object) -> Path:
    spec = RunSpec(parse("cifar_resnet8-narrow4"), DataSource(str(npz)), replace(RECIPE, **fields), seed=3)
    for _ in run(spec, folder, Settings(threads=1, compile="no")):
        pass
    return folder


@pytest.mark.parametrize("fields", [{}, {"validation": 8}, {"images": 32, "label_noise": 0.25}])
def test_the_end_is_the_runs_model(tmp_path: Path, tiny_npz: Path, fields: dict[str, object]) -> None:
    folder = trained(tiny_npz, tmp_path / "run", **fields)
    model = load(folder)
    spec = spec_of(folder, model)
    dataset = data_of(folder, spec)
    found = []
    for step, network in replay(folder, spec, dataset, CPU, [5, 12]):
        found.append((step, {key: value.clone() for key, value in network.state_dict().items()}))
        network.eval()  # what is done in between does not matter
    assert [step for step, _ in found] == [5, 12]
    assert all(torch.equal(value, found[1][1][key]) for key, value in model.network.state_dict().items())
    assert not torch.equal(found[0][1]["fc.weight"], found[1][1]["fc.weight"])
    begun = fresh(spec.architecture, spec.seed)
    assert not any(torch.equal(begun.state_dict()[key], found[0][1][key]) for key in ("conv1.weight", "fc.weight"))
    assert list(replay(folder, spec, dataset, CPU, [])) == []


def test_changed_data_and_given_weights_are_refused(tmp_path: Path, tiny_npz: Path, tiny: Dataset) -> None:
    folder = trained(tiny_npz, tmp_path / "run")
    spec = spec_of(folder, load(folder))
    with pytest.raises(ResnetlabError, match="only a run from random weights can be repeated"):
        list(replay(folder, replace(spec, start=Path("x.safetensors")), tiny, CPU, [1]))
    import numpy as np

    arrays = dict(np.load(tiny_npz))
    np.savez(tiny_npz, **(arrays | {"x_test": 255 - arrays["x_test"]}))
    with pytest.raises(ResnetlabError, match="is not the data that .* was trained on"):
        data_of(folder, spec)
