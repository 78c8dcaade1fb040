"""The model file: nothing lost, nothing guessed, nothing half-written."""

import errno
import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import resnetlab
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.errors import ResnetlabError
from resnetlab.models.modelfile import KNOWN, MEAN, STD, Model, load, save
from resnetlab.networks.resnet import build


def model() -> Model:
    network = build("cifar_resnet20", num_classes=3, zero_channels="both").eval()
    network(torch.randn(2, 3, 8, 8))
    preprocessing = Preprocessing(Fit((9, 12), (8, 8), "bicubic"), torch.rand(3, 8, 8), torch.rand(3, 1, 1) + 0.5)
    return Model(network, preprocessing, ("ant", "bee", "cat"), {"seed": 3})


def test_round_trip(tmp_path: Path) -> None:
    saved = model()
    resnetlab.save(saved, tmp_path / "m.safetensors")
    loaded = resnetlab.load(str(tmp_path / "m.safetensors"))
    assert loaded.network.architecture == saved.network.architecture
    assert (loaded.classes, loaded.provenance) == (saved.classes, saved.provenance)
    assert loaded.preprocessing.fit == saved.preprocessing.fit
    assert not loaded.network.training
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    with torch.no_grad():
        before, after = (m.network(m.preprocessing(images)) for m in (saved, loaded))
    assert torch.equal(before, after)


def test_the_header_says_all_of_it(tmp_path: Path) -> None:
    save(model(), tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        header = json.loads(file.metadata()["resnetlab"])
    assert header["architecture"]["zero_channels"] == "both"
    assert header["classes"] == ["ant", "bee", "cat"]
    assert header["preprocessing"] == {
        "colour": "RGB",
        "range": [0, 1],
        "resize": [9, 12],
        "crop": [8, 8],
        "interpolation": "bicubic",
        "mean": "preprocessing.mean",
        "std": "preprocessing.std",
    }


def test_what_does_not_belong_together() -> None:
    good = model()
    with pytest.raises(ResnetlabError, match="2 names of classes for 3 outputs"):
        Model(good.network, good.preprocessing, ("ant", "bee"), {})
    with pytest.raises(ResnetlabError, match="for 1 channels, the network for 3"):
        Model(good.network, Preprocessing.of_mean_image(torch.zeros(1, 8, 8)), good.classes, {})


def test_files_that_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(ResnetlabError, match="does not exist"):
        load(path)
    save(model(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResnetlabError, match="is cut short or damaged"):
        load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ResnetlabError, match="`resnetlab import"):
        load(path)
    with pytest.raises(ResnetlabError, match="neither a model file nor a run folder"):
        load(tmp_path)


TRUST = {"temperature": 1.5, "validation_images": 9, "limit": 0.1}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda header, tensors: header.pop("classes"), "damaged"),
        (lambda header, tensors: header.update(format=7), "has format 7; this resnetlab reads 1"),
        (lambda header, tensors: header["architecture"].update(colour="red"), "unknown field 'colour'"),
        (lambda header, tensors: header["preprocessing"].update(colour="BGR"), "its pixels are BGR"),
        (lambda header, tensors: header["classes"].pop(), "2 names of classes for 3 outputs"),
        (lambda header, tensors: tensors.pop("layer2.0.conv1.weight"), "missing: layer2.0.conv1.weight"),
        (lambda header, tensors: tensors.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda header, tensors: tensors.update({"fc.bias": torch.zeros(4)}), "fc.bias [4], expected [3]"),
        (lambda header, tensors: tensors.update({"fc.bias": torch.full((3,), torch.nan)}), "not a number"),
        (lambda header, tensors: tensors.pop("preprocessing.mean"), "mean of the preprocessing names no"),
        (lambda header, tensors: tensors.update({MEAN: torch.full((3, 1, 1), torch.nan)}), "values that cannot be"),
        (lambda header, tensors: tensors.update({MEAN: torch.zeros(3)}), "the mean of the preprocessing is"),
        (lambda header, tensors: tensors.update({MEAN: torch.zeros(3, 5, 5)}), "expected floating-point numbers"),
        (lambda header, tensors: tensors.update({STD: torch.zeros(3, 1, 1)}), "values that cannot be"),
        (lambda header, tensors: tensors.update({STD: torch.ones(1, 1, 1)}), "the std of the preprocessing is"),
        (lambda header, tensors: tensors.update({STD: torch.ones(3, 1, 1).int()}), "the std of the preprocessing is"),
        (lambda header, tensors: header["architecture"].update(blocks=[2, 5000, 2]), "at most 5,000"),
        (lambda header, tensors: header["architecture"].update(blocks=[2, 1e30, 2]), "whole numbers"),
        (lambda header, tensors: header["architecture"].update(narrow=0), "'narrow' is 0"),
        (lambda header, tensors: header["architecture"].update(stem="lens"), "'stem' is 'lens'"),
        (lambda header, tensors: header["architecture"].update(num_classes=10**9), "at most 1,000,000"),
        (lambda header, tensors: header["preprocessing"].update(crop=[1e30, 8]), "whole numbers of pixels"),
        (lambda header, tensors: header["preprocessing"].update(crop=[0, 8]), "whole numbers of pixels"),
        (lambda header, tensors: header["preprocessing"].update(resize=[math.nan, 8]), "whole numbers of pixels"),
        (lambda header, tensors: header["preprocessing"].update(resize=[8]), "damaged"),
        (lambda header, tensors: header["preprocessing"].update(mean=[0.5]), "mean of the preprocessing names no"),
        (
            lambda header, tensors: header["preprocessing"].update(interpolation="best"),
            "unknown interpolation 'best'",
        ),
        (lambda header, tensors: header.update(classes=[1, 2, 3]), "class names are not texts"),
        (lambda header, tensors: header.update(provenance=[]), "provenance is not an object"),
        (lambda header, tensors: header.update(trust={"temperature": "x"}), "damaged"),
        (lambda header, tensors: header.update(trust=TRUST | {"temperature": 0.0}), "cannot be"),
        (lambda header, tensors: header.update(trust=TRUST | {"temperature": math.nan}), "cannot be"),
        (lambda header, tensors: (header.update(trust=TRUST), tensors.update({KNOWN: torch.ones(4)})), "cannot be"),
        (lambda header, tensors: (header.update(trust=TRUST), tensors.update({KNOWN: torch.ones(4, 7)})), "64"),
        (lambda header, tensors: tensors.update({"bn1.running_var": torch.full((16,), torch.inf)}), "infinite"),
    ],
)
def test_damaged_models(tmp_path: Path, change, hint: str) -> None:
    path = tmp_path / "m.safetensors"
    save(model(), path)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["resnetlab"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- not a dict
    change(header, tensors)
    save_file(tensors, path, {"resnetlab": json.dumps(header)})
    with pytest.raises(ResnetlabError) as caught:
        load(path)
    assert hint in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save(model(), path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save(model(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """A bit of a weight, or a letter of a class, that is changed after the file was written."""
    path = tmp_path / "m.safetensors"
    save(model(), path)
    sound = path.read_bytes()
    for changed in (sound.replace(b"bee", b"bed"), sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:]):
        assert changed != sound
        path.write_bytes(changed)
        with pytest.raises(ResnetlabError, match="was changed after it was written: its checksum is another"):
            load(path)


def test_a_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    """As earlier versions wrote it."""
    path = tmp_path / "m.safetensors"
    save(model(), path)
    with safe_open(path, "pt") as content:
        tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 -- not a dict
        said = content.metadata()
    del said["checksum"]
    save_file(tensors, path, said)
    assert load(path).classes == model().classes


def test_a_loaded_model_does_not_depend_on_its_file(tmp_path: Path) -> None:
    """A file that is mapped into memory and then cut short ends the process."""
    path = tmp_path / "m.safetensors"
    save(model(), path)
    loaded = load(path)
    os.truncate(path, 10)
    assert all(value.isfinite().all() for value in loaded.network.state_dict().values())


def test_other_classes(tmp_path: Path) -> None:
    before = model()
    after = before.with_classes(("one", "two"))
    assert (after.classes, after.architecture.num_classes) == (("one", "two"), 2)
    assert before.architecture.num_classes == 3
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(before.network.features(images), after.network.features(images))
    assert after.network.fc.weight.shape == (2, 64)
    save(after, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").classes == ("one", "two")
    assert repr(after) == "Model(cifar_resnet20-padboth, 2 classes, trained further; of unstated origin before)"
    with pytest.raises(ResnetlabError, match="is no name of a class"):
        before.with_classes(("one", ""))


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    """A last layer that was replaced by hand, as one does with networks of torchvision."""
    path, changed = tmp_path / "m.safetensors", model()
    changed.network.fc = torch.nn.Linear(64, 5)
    with pytest.raises(ResnetlabError, match=r"fc\.bias \[5\], expected \[3\].*use Model.with_classes"):
        save(changed, path)
    changed = model()
    with torch.no_grad():
        changed.network.fc.bias.fill_(math.nan)
    with pytest.raises(ResnetlabError, match="not a number or infinite"):
        save(changed, path)
    assert not path.exists()
