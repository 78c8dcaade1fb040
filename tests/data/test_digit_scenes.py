"""The embedded detection data set."""

import numpy as np
import pytest
import torch

from resnetlab.data.boxes import Boxes
from resnetlab.data.dataset import Dataset, Files
from resnetlab.data.named import DataSource
from resnetlab.data.sources import digit_scenes as module
from resnetlab.data.sources.digit_scenes import digit_scenes
from resnetlab.data.sources.digits import digits
from resnetlab.errors import ResnetlabError


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    return digit_scenes()


def boxes(split: object) -> Boxes:
    assert isinstance(split, Files)
    assert split.boxes is not None
    return split.boxes


def test_its_splits_are_for_ever(scenes: Dataset) -> None:
    assert (len(scenes.train), len(scenes.test), scenes.validation) == (1000, 100, None)
    assert scenes.classes == tuple("0123456789")
    assert scenes.fingerprint() == "700699ede3f358f8"
    assert scenes.with_validation(50).fingerprint() == scenes.fingerprint()
    assert scenes.has_boxes
    assert scenes.describe() == (
        "digit-scenes: 1,000 training and 100 test images with 2,810 boxes, 10 classes; "
        "drawn from the training and the test images of digits"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_boxes_are_in_the_images_and_hardly_overlap(scenes: Dataset, split: str) -> None:
    found = boxes(scenes.splits[split])
    assert found.counts.min() >= 1
    assert found.counts.max() <= 4
    assert (found.corners[:, :2] >= 0).all()
    assert (found.corners[:, 2:] <= torch.tensor([192, 160])).all()
    assert 20 <= found.size[:, 1].min() <= 30
    assert 80 <= found.size[:, 1].max() <= 96
    assert not found.ignored.any()
    assert (found.classes.bincount(minlength=10) > len(found) / 6).all()
    for rows in found.tolist():
        canvas = np.zeros((160, 192), int)
        for left, top, right, bottom, *_ in rows:
            canvas[int(top) : int(bottom), int(left) : int(right)] += 1
        assert (canvas > 1).sum() <= 0.05 * 6 * min((row[2] - row[0]) * (row[3] - row[1]) for row in rows)


def test_images_are_read_like_files(scenes: Dataset) -> None:
    assert isinstance(scenes.test, Files)
    image = scenes.test.open(3)
    assert (image.size, image.mode) == ((192, 160), "RGB")
    assert np.array_equal(np.asarray(image), scenes.test.files[3].pixels)


def test_boxes_are_tight_around_the_ink(monkeypatch: pytest.MonkeyPatch) -> None:
    """On plain grey, every pixel of another colour belongs to a digit."""
    monkeypatch.setattr(module, "_background", lambda random: np.full((160, 192, 3), 128.0))
    found = module._scenes("test", digits().test, 40)
    for file, rows in zip(found.files, boxes(found).tolist(), strict=True):
        assert file.pixels is not None
        ink = (np.abs(file.pixels.astype(int) - 128).max(2) > 20).astype(int)
        covered = np.zeros_like(ink)
        for left, top, right, bottom, *_ in (map(int, row) for row in rows):
            part = ink[top:bottom, left:right]
            for edge in (part[0], part[-1], part[:, 0], part[:, -1]):
                assert edge.any()
            covered[top:bottom, left:right] = 1
        assert not (ink & ~covered).any()


def test_digits_of_test_scenes_are_test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    source, drawn = digits(), set[bytes]()
    held = {
        name: {(image / 255).tobytes() for image in split.pixels.numpy()[..., 0]}
        for name, split in source.splits.items()
    }
    assert not held["train"] & held["test"]
    draw = module._draw
    monkeypatch.setattr(module, "_draw", lambda p, ink, *more: drawn.add(ink.tobytes()) or draw(p, ink, *more))
    for name, split in source.splits.items():
        drawn.clear()
        module._scenes(name, split, 40)
        assert len(drawn) > 60
        assert drawn <= held[name]


def test_options_that_take_no_effect(scenes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DataSource("digit-scenes")
    source.refuse_unused(resident=True, on_bad=False, data_dir=False, workers=True)
    for option in ("on_bad", "data_dir"):
        given = {"on_bad": False, "data_dir": False, "workers": False, option: True}
        with pytest.raises(ResnetlabError, match=f"`{option}` takes no effect with digit-scenes"):
            source.refuse_unused(resident=False, **given)
    monkeypatch.setattr("resnetlab.data.named.digit_scenes", lambda: scenes)
    for resident in (True, False):
        assert source.load(resident).train is scenes.train
