"""The model file: nothing lost, nothing guessed, nothing half-written."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from resnetlab.errors import ResnetlabError
from resnetlab.networks import build
from resnetlab.networks.modelfile import Model, load_model, save_model


def model() -> Model:
    network = build("cifar_resnet20", num_classes=3, zero_channels="both").eval()
    network(torch.randn(2, 3, 8, 8))
    return Model(network, torch.rand(3, 8, 8), ("ant", "bee", "cat"), {"seed": 3})


def test_round_trip(tmp_path: Path) -> None:
    saved = model()
    save_model(tmp_path / "m.safetensors", saved)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.network.architecture == saved.network.architecture
    assert (loaded.classes, loaded.provenance) == (saved.classes, saved.provenance)
    assert torch.equal(loaded.mean, saved.mean)
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded.network(images), saved.network(images))


def test_files_that_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(ResnetlabError, match="cannot be read"):
        load_model(path)
    save_model(path, model())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResnetlabError, match="cannot be read"):
        load_model(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ResnetlabError, match="not saved by resnetlab"):
        load_model(path)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, model())
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_model(path, model())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
