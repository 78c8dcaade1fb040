"""Class activation maps: exact sums of logits, the right place, and pictures."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.files import places_under
from resnetlab.inference.explain import class_activation_maps, explain
from resnetlab.models.modelfile import Model, save
from resnetlab.networks.resnet import ResNet, build


def trained(name: str, classes: int = 4) -> ResNet:
    """A network with batch statistics and biases that are not those of its start."""
    torch.manual_seed(0)
    network = build(name, num_classes=classes)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    nn.init.normal_(network.fc.bias)
    return network.eval()


def model(name: str = "cifar_resnet8", classes: int = 4) -> Model:
    about = Preprocessing.by_channel(Fit.square(32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    return Model(trained(name, classes), about, tuple("abcd"[:classes]), {})


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet18-narrow8", "resnet50-narrow16", "plain18-narrow8"])
def test_the_mean_of_a_map_and_the_bias_are_the_logit(name: str) -> None:
    network = trained(name)
    images = torch.randn(3, 3, 64, 48)
    classes = torch.tensor([[0, 3], [2, 1], [3, 0]])
    with torch.no_grad():
        maps = class_activation_maps(network, network.features(images), classes)
        expected = network(images)
    sums = maps.mean((2, 3)) + network.fc.bias[classes]
    torch.testing.assert_close(sums, expected.gather(1, classes), rtol=1e-4, atol=1e-4)


def test_a_map_shows_where_its_class_is() -> None:
    """A network whose only feature is brightness: its class is where the image is bright."""
    network = trained("cifar_resnet8", 2)
    network.features = lambda x: x[:, :1].expand(-1, 64, -1, -1)  # type: ignore[method-assign]
    nn.init.zeros_(network.fc.weight)
    with torch.no_grad():
        network.fc.weight[1] = 1 / 64
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    pixels[0, 4:12, 20:28] = 255
    plain = Preprocessing.by_channel(Fit.square(32), (0.0,) * 3, (1.0,) * 3)
    (found,) = explain(Model(network, plain, ("dark", "light"), {}), pixels, [[1, 0]])
    assert found.classes == ("light", "dark")
    assert found.maps.shape == (2, 32, 32)
    assert np.unravel_index(found.maps[0].argmax(), (32, 32)) in {(y, x) for y in range(4, 12) for x in range(20, 28)}
    assert np.abs(found.maps[1]).max() == 0
    assert sum(found.probabilities) == pytest.approx(1)


def test_the_likeliest_classes_are_explained() -> None:
    some = model()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        shares = some.network(some.preprocessing(torch.from_numpy(pixels))).softmax(1)
    for k, found in enumerate(explain(some, pixels)):
        top = shares[k].topk(2)
        assert found.classes == tuple("abcd"[c] for c in top.indices)
        assert found.probabilities == pytest.approx(top.values.tolist(), rel=1e-5)
    assert len(explain(model(classes=2), pixels, count=5)[0].classes) == 2


def test_places() -> None:
    paths = [Path("a/x.png"), Path("a/x.jpg"), Path("b/x.png"), Path("b/deep/y.png")]
    found = places_under(Path("out"), paths, ".png")
    assert [str(found[path]) for path in paths] == ["out/a/x.png", "out/a/x-2.png", "out/b/x.png", "out/b/deep/y.png"]
    assert places_under(Path("out"), [Path("a/x.jpg")], ".png") == {Path("a/x.jpg"): Path("out/x.png")}


def test_predict_writes_pictures(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    save(model(), Path("m.safetensors"))
    random = np.random.default_rng(0)
    for folder in ("photos/a", "photos/b"):
        Path(folder).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(f"{folder}/{k}.png")
    Image.fromarray(random.integers(0, 256, (40, 50), dtype=np.uint8)).save("photos/a/grey.png")
    Path("photos/b/bad.jpg").write_text("no image")
    assert command("predict", "m.safetensors", "photos", "--explain", "why") == 2  # a file cannot be read
    shown = capsys.readouterr()
    assert "5 pictures of where the network sees the likeliest classes: why" in shown.out
    assert "1 of 6 files could not be read" in shown.err
    made = sorted(path.relative_to("why").as_posix() for path in Path("why").rglob("*.png"))
    assert made == ["a/0.png", "a/1.png", "a/grey.png", "b/0.png", "b/1.png"]
    with Image.open("why/a/0.png") as picture:
        assert picture.width > 2 * picture.height  # the image and two maps
    assert command("predict", "m.safetensors", "photos/a/0.png", "--explain", "why", "--engine", "onnxruntime") == 2
    assert "--explain needs the network itself" in capsys.readouterr().err
    assert command("predict", "m.safetensors", "photos/a/0.png", "--explain", "m.safetensors") == 2
    assert "m.safetensors is a file; give a folder" in capsys.readouterr().err


def test_unsure_images_are_marked(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """On the terminal and in a column of the table, by the probability of the likeliest class."""
    some = model()
    save(some, Path("m.safetensors"))
    pixels = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    Path("photos").mkdir()
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(f"photos/{k}.png")
    with torch.no_grad():
        likeliest = some.network(some.preprocessing(torch.from_numpy(pixels))).softmax(1).amax(1)
    least = float(likeliest.median()) + 1e-4  # three or more are below
    expected = (likeliest < least).tolist()
    words = ("predict", "m.safetensors", "photos", "--unsure", str(least), "--precision", "float32")
    assert command(*words) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [": unsure: " in line for line in lines] == expected
    assert f"6 images, {sum(expected)} unsure in" in last
    assert command(*words, "--out", "found.csv") == 0
    with Path("found.csv").open(newline="") as file:
        assert [row["unsure"] == "yes" for row in csv.DictReader(file)] == expected
    assert command("predict", "m.safetensors", "photos", "--unsure", "1.5") == 2
    assert "--unsure 1.5: it must be more than 0 and at most 1" in capsys.readouterr().err
