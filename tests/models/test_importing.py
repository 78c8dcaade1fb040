"""Other people's weights against the modules of their own libraries, and files that must be refused."""

import argparse
import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import timm
import torch
import torchvision
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model_weights

from resnetlab.data.class_names import CIFAR10, cifar100, imagenet, read_classes, spoken
from resnetlab.data.dataset import Pixels
from resnetlab.data.preprocessing import Fit
from resnetlab.data.sources.resident import load_npz
from resnetlab.errors import ResnetlabError
from resnetlab.models import importing
from resnetlab.models.importing import Hints, import_weights
from resnetlab.models.modelfile import load, save
from resnetlab.models.recognise import recognise
from resnetlab.models.tensors import read_tensors
from resnetlab.networks.architecture import architecture
from resnetlab.networks.resnet import build
from resnetlab.tasks.classification import CLASSIFICATION

Perturb = Callable[[nn.Module], nn.Module]
IMAGENET_NETWORKS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def saved(tmp_path: Path, content: object, name: str = "weights.pth") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def same(ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...] = (2, 3, 64, 64)) -> None:
    images = torch.randn(shape)
    with torch.no_grad():
        expected = theirs(images)
        expected = expected if isinstance(expected, Tensor) else expected.logits
        found = ours(images)
    assert found.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def transformers_config(name: str, in_bottleneck: bool = False) -> transformers.ResNetConfig:
    row = architecture(name)
    return transformers.ResNetConfig(
        embedding_size=64,
        hidden_sizes=[w * (4 if row.block == "bottleneck" else 1) for w in (64, 128, 256, 512)],
        depths=list(row.blocks),
        layer_type=row.block,
        downsample_in_bottleneck=in_bottleneck,
        id2label={k: f"kind {k}" for k in range(7)},
    )


LIBRARIES: dict[str, Callable[[str], nn.Module]] = {
    "torchvision": torchvision.models.get_model,
    "timm": timm.create_model,
    "transformers": lambda name: transformers.ResNetForImageClassification(transformers_config(name)),
}


def names_and_shapes(make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The state dict of a network, all zeros, without memory for them."""
    with torch.device("meta"):
        state = make().state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("name", IMAGENET_NETWORKS)
@pytest.mark.parametrize("library", ["torchvision", "transformers"])
def test_every_depth_is_recognised(library: str, name: str) -> None:
    found = recognise(names_and_shapes(lambda: LIBRARIES[library](name)))
    row = architecture(name)
    assert found.kind == ("transformers" if library == "transformers" else "torchvision")
    assert (found.row.name, found.row.blocks, found.row.shortcut) == (name, row.blocks, "B")
    assert found.row.version == ("v1" if row.block == "basic" else "v1.5")


@pytest.mark.parametrize(("library", "name"), [("torchvision", "resnet18"), ("timm", "resnet50")])
def test_libraries_of_networks(perturb: Perturb, tmp_path: Path, library: str, name: str) -> None:
    theirs = perturb(LIBRARIES[library](name))
    found = import_weights(saved(tmp_path, theirs.state_dict()))
    row = found.model.network.architecture
    assert (row.name, row.shortcut, row.version) == (name, "B", "v1" if row.block == "basic" else "v1.5")
    assert found.kind == "torchvision"
    assert found.model.classes == tuple(imagenet())
    same(found.model.network, theirs)


@pytest.mark.parametrize(("name", "in_bottleneck"), [("resnet18", False), ("resnet50", False), ("resnet50", True)])
def test_a_folder_of_transformers(perturb: Perturb, tmp_path: Path, name: str, in_bottleneck: bool) -> None:
    theirs = perturb(transformers.ResNetForImageClassification(transformers_config(name, in_bottleneck)))
    theirs.save_pretrained(tmp_path / "hub")
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 192}, crop_pct=0.8, resample=3)
    processor.save_pretrained(tmp_path / "hub")
    found = import_weights(tmp_path / "hub").model
    row = found.network.architecture
    assert row.name == name
    assert row.version == ("v1" if in_bottleneck or row.block == "basic" else "v1.5")
    assert found.classes == tuple(f"kind {k}" for k in range(7))
    assert found.preprocessing.fit == Fit.square(240, 192, "bicubic")
    same(found.network, theirs)


def test_transformers_preprocessing(tmp_path: Path) -> None:
    theirs = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    )
    theirs.save_pretrained(tmp_path)
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875, resample=2)
    processor.save_pretrained(tmp_path)
    found = import_weights(tmp_path).model.preprocessing
    image = Image.effect_noise((640, 512), 90).convert("RGB")  # an odd border would be cut one pixel further
    expected = transformers.AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    ours = found(torch.from_numpy(found.fit(image))[None])
    assert (ours - expected).abs().max() < 0.03  # one step of 255, where its resizing rounds another way
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 384}, crop_pct=0.875)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ResnetlabError, match="say `resize` and `crop`"):
        import_weights(tmp_path)
    assert import_weights(tmp_path, Hints(resize=256, crop=224)).model.preprocessing.fit.crop == (224, 224)


def test_timm_folder(perturb: Perturb, tmp_path: Path) -> None:
    theirs = perturb(timm.create_model("resnet50", num_classes=3))
    about = timm.get_pretrained_cfg("resnet50.a1_in1k").to_dict()
    config = {"architecture": "resnet50", "num_classes": 3, "pretrained_cfg": about, "label_names": ["x", "y", "z"]}
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = import_weights(tmp_path).model
    data = timm.data.resolve_data_config(pretrained_cfg=about)
    assert found.preprocessing.fit == Fit.square(int(224 // data["crop_pct"]), 224, data["interpolation"])
    assert torch.allclose(found.preprocessing.mean.flatten(), torch.tensor(data["mean"]))
    assert found.classes == ("x", "y", "z")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ResnetlabError, match=r"config\.json is damaged"):
        import_weights(tmp_path)


class Akamaster(nn.Module):
    """An option A block as in that repository: a quarter of the new width on either side."""

    def __init__(self, channels: int, planes: int, stride: int, both: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.grows, self.both, self.planes = stride != 1, both, planes

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grows:
            x = x[:, :, ::2, ::2]
            zeros = torch.zeros(len(x), self.planes // (4 if self.both else 2), *x.shape[2:])
            x = torch.cat([zeros, x, zeros] if self.both else [x, zeros], 1)
        return F.relu(x + y)


class Cifar(nn.Module):
    """A CIFAR repository's network, written another way than ours."""

    def __init__(self, n: int, head: str, both: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for k, (before, width) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            rest = [Akamaster(width, width, 1, both) for _ in range(n - 1)]
            setattr(self, f"layer{k}", nn.Sequential(Akamaster(before, width, 1 if k == 1 else 2, both), *rest))
        self.add_module(head, nn.Linear(64, 10))
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for k in (1, 2, 3):
            x = getattr(self, f"layer{k}")(x)
        return getattr(self, self.head)(x.mean((2, 3)))


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_option_a_with_zeros_in_both_places(perturb: Perturb, tmp_path: Path, both: bool, wrapper: str) -> None:
    theirs = perturb(Cifar(2, "linear" if both else "fc", both))
    state = {wrapper + key: value for key, value in theirs.state_dict().items()}
    hints = Hints() if both else Hints(name="cifar_resnet14", zero_channels="end", mean=(0.5,) * 3, std=(0.2,) * 3)
    found = import_weights(saved(tmp_path, {"state_dict": state, "epoch": 3}), hints)
    row = found.model.network.architecture
    assert (row.name, row.shortcut, row.zero_channels) == ("cifar_resnet14", "A", "both" if both else "end")
    assert found.model.classes == CIFAR10
    same(found.model.network, theirs, (3, 3, 32, 32))


def test_the_other_repository_with_option_a(perturb: Perturb, tmp_path: Path) -> None:
    theirs = perturb(Cifar(2, "fc", both=False))
    renames = {"conv1.": "conv_1_3x3.", "bn1.": "bn_1.", "fc.": "classifier."}

    def rename(key: str) -> str:
        if key.startswith("layer"):
            key = key.replace("layer", "stage_").replace("conv1", "conv_a").replace("conv2", "conv_b")
            return key.replace("bn1", "bn_a").replace("bn2", "bn_b")
        return next(new + key.removeprefix(old) for old, new in renames.items() if key.startswith(old))

    state = {"module." + rename(key): value for key, value in theirs.state_dict().items()}
    found = import_weights(saved(tmp_path, {"state_dict": state}))
    assert (found.kind, found.model.network.architecture.zero_channels) == ("d-x-y", "end")
    assert found.model.preprocessing.mean.flatten()[0] == pytest.approx(125.3 / 255)
    same(found.model.network, theirs, (3, 3, 32, 32))


@pytest.mark.parametrize(
    ("file", "split", "errors"),
    [
        ("resnet20-12fca82f.th", "test", 85),
        ("resnet56-4bfd9763.th", "test", 74),
        pytest.param("resnet20-12fca82f.th", "train", 8, marks=pytest.mark.slow),  # 4,000 images
        pytest.param("resnet56-4bfd9763.th", "train", 0, marks=pytest.mark.slow),
    ],
)
def test_peers_checkpoints(shared: Path, tmp_path: Path, file: str, split: str, errors: int) -> None:
    save(import_weights(shared / "peer-weights" / file).model, tmp_path / "m.safetensors")
    model = load(tmp_path / "m.safetensors")
    assert model.provenance["imported"]["sha256"].startswith(file[9:17])
    images = load_npz(shared / "cifar10-lossless-5k.npz").splits[split]
    assert isinstance(images, Pixels)
    parts = [images[k : k + 200] for k in range(0, len(images), 200)]
    batches = ((model.preprocessing(part.pixels), part.labels) for part in parts)
    found = CLASSIFICATION.test(model.network, batches)
    assert (found.metrics["error"], found.images) == (100 * errors / len(images), len(images))


def test_what_a_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, build("cifar_resnet20").state_dict())
    with pytest.raises(ResnetlabError, match="say `as=cifar_plain20`, or `as=cifar_resnet20`"):
        import_weights(path)
    with pytest.raises(ResnetlabError, match="say `zero_channels=end`"):
        import_weights(path, Hints(name="cifar_resnet20"))
    with pytest.raises(ResnetlabError, match="say `mean` and `std`"):
        import_weights(path, Hints(name="cifar_resnet20", zero_channels="end"))
    plain = import_weights(path, Hints(name="cifar_plain20", mean=(0.5,) * 3, std=(0.25,) * 3))
    assert plain.model.network.architecture.shortcut == "none"
    assert (
        import_weights(path, Hints(shortcut="none", mean=(0.5,) * 3, std=(1.0,))).model.network.architecture.name
        == "cifar_plain20"
    )
    v1 = import_weights(saved(tmp_path, build("resnet50").state_dict()), Hints(version="v1"))
    assert v1.model.network.architecture.version == "v1"
    assert not any("version" in note for note in v1.notes)


@pytest.mark.parametrize("shortcut", ["B", "C"])
def test_projections_are_recognised(tmp_path: Path, shortcut: str) -> None:
    network = build("cifar_resnet20", shortcut=shortcut, num_classes=100)
    path = saved(tmp_path, network.state_dict())
    found = import_weights(path, Hints(mean=(0.5,) * 3, std=(0.2,) * 3)).model
    assert found.network.architecture.shortcut == shortcut
    assert found.classes == cifar100()


def test_wrong_networks_are_named(tmp_path: Path) -> None:
    state = build("resnet18", version="v1").state_dict()
    path = saved(tmp_path, state)
    with pytest.raises(ResnetlabError) as caught:
        import_weights(path, Hints(name="resnet34"))
    for part in (
        str(path),
        "this is no resnet34 (its stages have 2, 2, 2, 2 blocks)",
        "missing: layer1.2.conv1.weight",
    ):
        assert part in str(caught.value)
    wide = names_and_shapes(torchvision.models.wide_resnet50_2)
    with pytest.raises(
        ResnetlabError, match=r"of another shape: layer1.0.conv1.weight \[128, 64, 1, 1\], expected \[64"
    ):
        import_weights(saved(tmp_path, wide))
    seresnet = names_and_shapes(lambda: timm.create_model("seresnet50"))
    with pytest.raises(ResnetlabError, match="unexpected: layer1.0.se"):
        import_weights(saved(tmp_path, seresnet))
    with pytest.raises(ResnetlabError, match="names are of no known source: features.0.weight"):
        import_weights(saved(tmp_path, names_and_shapes(torchvision.models.vgg11)))
    with pytest.raises(ResnetlabError, match="no network's of the paper: conv1.weight"):
        import_weights(saved(tmp_path, names_and_shapes(lambda: timm.create_model("resnet26"))))
    del state["layer1.0.bn1.weight"], state["fc.bias"]
    with pytest.raises(ResnetlabError, match=r"missing: layer1.0.bn1.weight, fc.bias"):
        import_weights(saved(tmp_path, state))


def test_too_few_classes(tmp_path: Path) -> None:
    path = saved(tmp_path, build("resnet18", num_classes=5).state_dict())
    assert import_weights(path).model.classes == ("0", "1", "2", "3", "4")
    with pytest.raises(ResnetlabError, match="2 names of classes for 5 outputs"):
        import_weights(path, Hints(classes=("cat", "dog")))


def test_lists_of_classes(tmp_path: Path) -> None:
    assert read_classes("imagenet")[:2] == ("n01440764", "n01443537")
    assert spoken("n01440764") == "tench (n01440764)"
    assert spoken("cat") == "cat"
    synsets = (Path(timm.data.__file__).parent / "_info/imagenet_synsets.txt").read_text().split()
    categories = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    assert list(imagenet()) == synsets
    assert list(imagenet().values()) == categories
    assert (len(cifar100()), list(cifar100())) == (100, sorted(cifar100()))
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\ncat\n")
    with pytest.raises(ResnetlabError, match="found 'cat' again"):
        read_classes(str(names))
    with pytest.raises(ResnetlabError, match="expected imagenet, cifar10, cifar100 or a text file"):
        read_classes("imagnet")


def test_torchvisions_releases_are_known_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, build("resnet18").state_dict())
    for name in IMAGENET_NETWORKS:
        for weights in get_model_weights(name):
            digest = weights.url.rsplit("-", 1)[1].removesuffix(".pth")
            monkeypatch.setattr(importing, "sha256", lambda _, digest=digest: digest)
            ours, theirs = import_weights(path).model.preprocessing, weights.transforms()
            assert ours.fit == Fit.square(*theirs.resize_size, *theirs.crop_size, theirs.interpolation.value)
            assert ours.mean.flatten().tolist() == pytest.approx(theirs.mean)
            assert ours.std.flatten().tolist() == pytest.approx(theirs.std)


def test_wrappings_of_checkpoints(tmp_path: Path) -> None:
    state = build("resnet18").state_dict()
    averaged = {"module." + key: value + 1 for key, value in state.items()} | {"n_averaged": torch.tensor(9)}
    training = {"model": state, "model_ema": averaged, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    path = saved(tmp_path, training)
    with pytest.raises(ResnetlabError, match="say which with `entry`, model or model_ema"):
        import_weights(path)
    plain, ema = (import_weights(path, Hints(entry=name)).model.network for name in ("model", "model_ema"))
    assert torch.equal(plain.fc.bias + 1, ema.fc.bias)
    with pytest.raises(ResnetlabError, match="no entry 'ema'; it has model, model_ema, epoch, args"):
        import_weights(path, Hints(entry="ema"))
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    found = import_weights(saved(tmp_path, {k: v for k, v in half.items() if "num_batches" not in k}))
    assert found.model.network.fc.weight.dtype == torch.float32
    assert int(found.model.network.bn1.num_batches_tracked) == 0
    with pytest.raises(ResnetlabError, match="no state dict: expected tensors by name, found epoch"):
        import_weights(saved(tmp_path, {"epoch": 3}))
    with pytest.raises(ResnetlabError, match="holds a list"):
        import_weights(saved(tmp_path, [1, 2]))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("harm"),)


def test_pickles_that_would_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = {"conv1.weight": Evil()}
    legacy = tmp_path / "legacy.pth"
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps(state))
    for path, reason in (
        (saved(tmp_path, state), "would run code"),
        (legacy, "would run code"),
        (bare, "a pickle that"),
    ):
        with pytest.raises(ResnetlabError, match=f"is refused: .*{reason}") as caught:
            import_weights(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ResnetlabError, match=r"run code \(torchvision.models.resnet.ResNet\)"):
        import_weights(saved(tmp_path, torchvision.models.resnet18()))
    assert not Path("harm").exists()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small checkpoint in each format."""
    folder = tmp_path_factory.mktemp("sound")
    state = build("cifar_resnet8").state_dict()
    torch.save(state, folder / "a.pth")
    torch.save(state, folder / "b.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "c.safetensors")
    return folder


FORMATS = st.sampled_from(["a.pth", "b.pth", "c.safetensors"])


@settings(max_examples=60)
@given(FORMATS, st.floats(0, 0.999))
def test_truncated_files(sound: Path, name: str, at: float) -> None:
    whole, path = (sound / name).read_bytes(), sound / f"cut-{name}"
    path.write_bytes(whole[: int(at * len(whole))])
    with pytest.raises(ResnetlabError, match=name):
        read_tensors(path)


@settings(max_examples=150)
@given(FORMATS, st.integers(0, 3000), st.integers(0, 255))
def test_damaged_files_never_crash(sound: Path, name: str, at: int, value: int) -> None:
    content, path = bytearray((sound / name).read_bytes()), sound / f"hit-{name}"
    content[at] = value
    path.write_bytes(content)
    with suppress(ResnetlabError):
        read_tensors(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    for path, hint in ((tmp_path / "none.pth", "does not exist"), (tmp_path / "empty.pth", "is empty")):
        with pytest.raises(ResnetlabError, match=hint):
            import_weights(path)
    with pytest.raises(ResnetlabError, match="name the file of weights"):
        import_weights(tmp_path)
    with pytest.raises(ResnetlabError, match="is a folder"):
        read_tensors(tmp_path)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (lambda x: x.to_sparse(), "in the layout torch.sparse_coo"),
        (lambda x: torch.empty(x.shape, device="meta"), "without values"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantised"),
        (lambda x: x.to(torch.complex64), "of complex numbers"),
    ],
)
def test_tensors_that_are_not_dense_and_real(tmp_path: Path, odd, reason: str) -> None:
    state = build("cifar_resnet8", num_classes=3).state_dict()
    state["layer1.0.conv1.weight"] = odd(state["layer1.0.conv1.weight"])
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ResnetlabError, match=f"odd.pth: layer1.0.conv1.weight is {reason}"):
        import_weights(tmp_path / "odd.pth")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("w.pth", "w.safetensors", "w.caffemodel"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ResnetlabError, match=f"{name} cannot be read: it is not a regular file"):
            import_weights(tmp_path / name)
