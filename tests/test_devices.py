"""Which device is used, what it can do, and training on Apple's GPU where there is one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnetlab import devices
from resnetlab.data.dataset import Dataset
from resnetlab.data.named import DataSource
from resnetlab.devices import has_fast_bfloat16, widened, widest
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import parse
from resnetlab.runs import settings
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings, choose_device
from resnetlab.runs.spec import RunSpec
from resnetlab.runs.stored import read_curve
from resnetlab.training.named_recipes import CIFAR

CPU, MPS = torch.device("cpu"), torch.device("mps")


def test_apples_gpu_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ResnetlabError, match="torch sees no GPU of Apple's"):
        choose_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == MPS
    assert choose_device("auto").type != "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResnetlabError, match="tfloat32 needs an NVIDIA GPU"):
        Settings(device="mps").settle(replace(CIFAR, precision="tfloat32"), 20, None)


def test_sums_are_in_the_widest_type_of_the_device() -> None:
    assert (widest(CPU), widest(MPS)) == (torch.float64, torch.float32)
    assert widened(torch.ones(2)).dtype == torch.float64
    assert widened(torch.ones(2, dtype=torch.int64)).dtype == torch.float64


def test_bfloat16_is_fast_on_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    for tiles in (True, False):
        monkeypatch.setattr(devices, "has_bfloat16_tiles", lambda tiles=tiles: tiles)
        assert has_fast_bfloat16(CPU) == tiles
        assert not has_fast_bfloat16(MPS)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, tiles=tiles: (8, 0) if tiles else (7, 5))
        assert has_fast_bfloat16(torch.device("cuda")) == tiles


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="torch sees no GPU of Apple's")
def test_a_run_on_apples_gpu_is_that_on_the_processor(tiny: Dataset, tmp_path: Path) -> None:
    recipe = replace(CIFAR.scaled(10), batch_size=16, padding=1, report_every=5, mixup=0.2, cutmix=1.0, erasing=0.2)
    spec = RunSpec(parse("cifar_resnet8-narrow2"), DataSource("tiny"), recipe)
    for name in ("cpu", "mps"):
        list(run(spec, tmp_path / name, Settings(device=name), tiny))  # type: ignore[arg-type]
    expected, found = (read_curve(tmp_path / name)[-1] for name in ("cpu", "mps"))
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-2)


def test_the_load_of_others_is_without_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(settings, "STARTED", settings.time.monotonic() - 600)
    monkeypatch.setattr(settings.os, "getloadavg", lambda: (20.0, 0.0, 0.0))
    assert settings.others_busy() == 4  # more processes wait than there are cores
    monkeypatch.setattr(settings.os, "getloadavg", lambda: (2.0, 0.0, 0.0))
    for spent, others in ((1200.0, 0.0), (600.0, 1.0), (0.0, 2.0), (1e6, 0.0)):
        monkeypatch.setattr(settings.os, "times", lambda spent=spent: (spent / 2, 0.0, spent / 2, 0.0, 600.0))
        assert settings.others_busy() == pytest.approx(others, abs=0.01)
    monkeypatch.setattr(settings, "STARTED", settings.time.monotonic() - 6)  # a tenth of what the average remembers
    monkeypatch.setattr(settings.os, "times", lambda: (12.0, 0.0, 0.0, 0.0, 6.0))
    assert settings.others_busy() == pytest.approx(2 - 2 * (1 - 2.718**-0.1), abs=0.02)
