"""Which objects have an anchor, against a literal second implementation that makes and tries every anchor."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from resnetlab.data.preprocessing import Fit
from resnetlab.data.sources.annotated import read_annotations
from resnetlab.detection import anchor_recall as module
from resnetlab.detection.anchor_recall import AnchorRecall, Objects, advice, anchor_recall, best_overlaps
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import PRESETS, DetectorOptions, parse_options
from resnetlab.detection.proposals import ProposalNetwork
from resnetlab.networks.architecture import parse

Command = Callable[..., int]
Row = tuple[int, str, tuple[float, float, float, float]]
OPTIONS = {name: DetectorOptions(**fields) for name, fields in PRESETS.items()} | {
    "others": DetectorOptions(anchor_sizes=(20, 70), anchor_ratios=(0.3, 1.0, 1.7, 4.0), anchor_offset=3.0)
}
SMALL = OPTIONS["small"]


def literal(corners: Tensor, size: tuple[int, int], options: DetectorOptions) -> Tensor:
    """Over all anchors that the network makes for an image."""
    height, width = size
    network = ProposalNetwork(1, options)
    anchors = network.grid(torch.zeros(1, 1, -(-height // 16), -(-width // 16)))
    return box_iou(corners, anchors.double()).amax(1)


def of(parts: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> Objects:
    """Objects of images of these sizes."""
    corners = torch.cat([torch.zeros(0, 4, dtype=torch.float64), *parts])
    image = torch.tensor([k for k, part in enumerate(parts) for _ in part], dtype=torch.int64)
    return Objects(corners, torch.zeros_like(image), image, tuple(sizes), ("it",))


def some_boxes(count: int, height: int, width: int) -> Tensor:
    """Of all sizes and shapes, also outside of the image and as large as it."""
    middle = torch.rand(count, 2, dtype=torch.float64) * torch.tensor([width, height])
    half = torch.exp(4.5 * torch.rand(count, 2, dtype=torch.float64))
    whole = torch.tensor([[0.0, 0.0, width, height]], dtype=torch.float64)
    return torch.cat([middle - half, middle + half], 1).clamp(min=0).minimum(whole[:, 2:].repeat(1, 2))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [(240, 320), (161, 239), (97, 400), (16, 16), (9, 50), (600, 1)])
def test_best_overlap_equals_trying_every_anchor(name: str, size: tuple[int, int]) -> None:
    corners = some_boxes(60, *size)
    corners = corners[(corners[:, 2:] > corners[:, :2]).all(1)]
    torch.testing.assert_close(
        best_overlaps(of([corners], [size]), OPTIONS[name]), literal(corners, size, OPTIONS[name]), rtol=0, atol=1e-6
    )


def test_objects_of_several_images_and_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(240, 320), (161, 239), (97, 400)]
    parts = [some_boxes(9, *size) for size in sizes]
    expected = torch.cat([literal(part, size, SMALL) for part, size in zip(parts, sizes, strict=True)])
    monkeypatch.setattr(module, "AT_ONCE", 4)
    objects = of(parts, sizes)
    torch.testing.assert_close(best_overlaps(objects, SMALL), expected, rtol=0, atol=1e-6)
    assert len(best_overlaps(of([], []), SMALL)) == 0
    some = torch.tensor([3, 20, 26])
    torch.testing.assert_close(best_overlaps(objects.some(some), SMALL), expected[some], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (65, 63), (97, 128)])
def test_the_map_is_a_residual_network_s(size: tuple[int, int]) -> None:
    network = FasterRCNN(parse("resnet18-narrow8"), SMALL).eval()
    assert network.body.shared(torch.zeros(1, 3, *size)).shape[2:] == tuple(-(-side // 16) for side in size)


def coco(root: Path, sizes: Sequence[tuple[int, int]], rows: Sequence[Row], **more: Sequence[int]) -> Objects:
    """Objects of a file in COCO's format: image, class, and left, top, width, height."""
    names = sorted({name for _, name, _ in rows})
    for k, size in enumerate(sizes):
        Image.new("RGB", size).save(root / f"{k}.png")
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": w, "height": h} for k, (w, h) in enumerate(sizes)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        "annotations": [
            {"id": k, "image_id": image, "category_id": names.index(name) + 1, "bbox": box}
            | {"iscrowd": int(k in more.get("crowd", ()))}
            for k, (image, name, box) in enumerate(rows)
        ],
    }
    (root / "boxes.json").write_text(json.dumps(content))
    found = read_annotations(root / "boxes.json")
    unread = more.get("unread", ())
    return Objects.of(found, {str(root / f"{k}.png"): size for k, size in enumerate(sizes) if k not in unread})


def test_shares_by_size_and_class(tmp_path: Path) -> None:
    """At twice the size, one by one, with all that is to be left out."""
    rows: list[Row] = [
        (0, "cat", (10, 20, 64, 64)),
        (0, "cat", (100, 20, 8, 9)),
        (0, "dog", (60.5, 33, 12, 40)),
        (0, "ox", (30, 30, 64, 64)),
        (1, "dog", (0, 0, 90, 61)),
        (1, "emu", (30, 30, 2, 60)),
        (1, "cat", (40, 30, 300, 300)),  # clipped
        (0, "cat", (100, 20, 8, 0)),  # without area
        (0, "cat", (400, 20, 9, 9)),  # outside
        (1, "cat", (5, 5, 40, 40)),  # a crowd
        (2, "dog", (5, 5, 40, 40)),  # its image cannot be read
    ]
    sizes = [(160, 120), (100, 150), (100, 100)]
    objects = coco(tmp_path, sizes, rows, crowd=(9,), unread=(2,))
    assert len(objects) == 7
    fit = Fit.uncropped(240, 400)
    best, groups = list[float](), dict[str, list[int]]()
    for k, (image, name, (left, top, width, height)) in enumerate(rows[:7]):
        w, h = sizes[image]
        scaled = fit.scaled_size(h, w)
        across, down = scaled[1] / w, scaled[0] / h
        right, bottom = min(w, left + width), min(h, top + height)
        corners = [left * across, top * down, right * across, bottom * down]
        best.append(literal(torch.tensor([corners], dtype=torch.float64), scaled, SMALL).item())
        side = ((corners[2] - corners[0]) * (corners[3] - corners[1])) ** 0.5
        kind = "below 32 px" if side < 32 else "32 to 96 px" if side <= 96 else "above 96 px"
        for group in (kind, name, "all"):
            groups.setdefault(group, []).append(k)
    recall = anchor_recall(objects, fit, SMALL)
    shares = {share.name: share for share in (*recall.by_size, *recall.by_class, recall.all)}
    assert [share.name for share in recall.by_class] == ["cat", "dog", "emu", "ox"]
    assert shares.keys() == groups.keys()
    for name, members in groups.items():
        found = [sum(best[k] >= iou for k in members) / len(members) for iou in (0.5, 0.7)]
        assert (shares[name].objects, shares[name].found, shares[name].strict) == (len(members), *found)
    low = {k for name, members in groups.items() if shares[name].is_low and name != "all" for k in members}
    assert recall.low.nonzero()[:, 0].tolist() == sorted(low)
    assert 0 < len(low) < 7


def at(objects: Objects, side: int, options: DetectorOptions = SMALL) -> tuple[AnchorRecall, str]:
    fit = Fit.uncropped(side, round(side * 5 / 3))
    recall = anchor_recall(objects, fit, options)
    return recall, advice(objects, recall, fit, options)


def test_small_objects_are_lost_in_small_images(tmp_path: Path) -> None:
    rows: list[Row] = [(0, "mite", (32.0 * k + 5, 16.0 * k + 5, 38, 38)) for k in range(12)]
    rows += [(1, "moth", (70.0 * k, 40.0 * k, 200, 150)) for k in range(5)]
    objects = coco(tmp_path, [(640, 480), (480, 640)], rows)
    recall, said = at(objects, 240)
    assert [share.found for share in recall.by_class] == [0, 1]
    assert "below 32 px (0.0 %) and mite (0.0 %), together 0.0 %; train with `image_size=480` (100.0 %)" in said
    recall, said = at(objects, 480)
    assert recall.all.found == 1
    assert said == ""


@pytest.mark.parametrize(
    ("box", "options"), [((0, 0, 25, 25), SMALL), ((0, 0, 640, 480), replace(SMALL, anchor_sizes=(32,))),
                         ((100, 9, 20, 160), SMALL)]
)  # fmt: skip
def test_what_is_advised_helps(tmp_path: Path, box: tuple[int, int, int, int], options: DetectorOptions) -> None:
    """Small, large and narrow objects; every share that is named is what comes of the option."""
    left, top, width, height = box
    rows: list[Row] = [(0, "it", (left + 3.0 * k, top + 2.0 * k, width, height)) for k in range(10)]
    objects = coco(tmp_path, [(640, 480)], rows)
    recall, said = at(objects, 240, options)
    assert recall.all.found < 0.5
    named = re.findall(r"`(\w+)=([^`]*)` \(([\d.]+) %\)", said.partition("train with")[2])
    assert named
    for option, value, share in named:
        side, more = (int(value), {}) if option == "image_size" else (240, parse_options([value]))
        changed, _ = at(objects, side, replace(options, **more))
        assert f"{100 * changed.all.found:.1f}" == share
        assert changed.all.found > recall.all.found


def test_bccd(bccd: Path) -> None:
    """Platelets are lost at 240 pixels."""
    found = read_annotations(bccd)
    sizes = {
        file.path: (int(size[0]), int(size[1]))
        for raw in found.splits.values()
        for file, size in zip(raw.files, raw.sizes, strict=True)
    }
    objects = Objects.of(found, sizes)
    assert (len(objects), len(objects.sizes)) == (4886, 364)
    small, said = at(objects, 240)
    large, silent = at(objects, 480)
    assert {share.name for share in small.by_class if share.is_low} == {"Platelets"}
    assert "Platelets" in said
    assert silent == ""
    shares = [{share.name: share.found for share in recall.by_class}["Platelets"] for recall in (small, large)]
    assert shares[0] < 0.2
    assert shares[1] > 0.9


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """A data set with small objects."""
    coco(tmp_path, [(100, 60)], [(0, "mite", (30, 30, 2, 2)), (0, "moth", (10, 5, 20, 20))])
    return tmp_path / "boxes.json"


def test_the_command(command: Command, boxes: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*options: str) -> str:
        command("check-data", str(boxes), *options)
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    usual = printed()
    assert "mite 1 0.0 % 0.0 % moth 1 100.0 % 0.0 % all 2 50.0 % 0.0 %" in usual
    assert "scaled to 600 pixels, longer ones to 1,000 at most" in usual
    assert "Too few objects have an anchor at IoU 0.5: below 32 px (0.0 %) and mite (0.0 %)" in usual
    assert "train with --" in usual
    assert "300 pixels, longer ones to 500" in printed("--image-size", "300")
    assert "Anchors of 64, 128, 256, 512 pixels" in printed("--detector", "preset=coco")
    assert "Anchors of 32 pixels, height over width 1, 2," in printed(
        "--detector", "anchor_sizes=32", "anchor_ratios=1,2"
    )
    for options, error in (
        (("--detector", "score=0.1"), "the detector's option score changes no anchor; here choose anchor_sizes"),
        (("--detector", "anchor_size=8"), "did you mean anchor_sizes"),
        (("--image-size", "0"), "--image-size 0: it must be at least 1"),
    ):
        assert command("check-data", str(boxes), *options) == 2
        assert error in capsys.readouterr().err
    for options, error in (
        (("--image-size", "300"), "--image-size 300 takes no effect"),
        (("--detector", "preset=coco"), "--detector preset=coco takes no effect"),
    ):
        assert command("check-data", str(photos), *options) == 2
        assert f"{error}: {photos} has no boxes" in capsys.readouterr().err


def test_without_torchvision(
    command: Command, boxes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest is checked; options that need it are refused."""
    for name in [name for name in sys.modules if name.startswith("resnetlab.detection.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    monkeypatch.setitem(sys.modules, "torchvision.models.detection._utils", None)
    command("check-data", str(boxes))
    printed = capsys.readouterr().out
    assert "to see which objects have an anchor, install `resnetlab[detection]`: " in printed
    assert "1 image: " in printed
    assert command("check-data", str(boxes), "--image-size", "300") == 2
    assert "install `resnetlab[detection]`" in capsys.readouterr().err
