"""A smaller copy has the same images in the same splits and classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetlab.data import pack as module
from resnetlab.data.pack import pack
from resnetlab.data.preprocessing import open_image
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError


def test_the_same_images_smaller(photos: Path, tmp_path: Path) -> None:
    before, out = list_images(photos), tmp_path / "packed"
    assert list(pack(before, out, 32, 95)) == [None] * 42
    after = list_images(out)
    assert after.classes == before.classes
    assert after.note == "split by shard: train, test"
    for mine, theirs in ((after.train, before.train), (after.test, before.test)):
        assert np.array_equal(mine.labels, theirs.labels)
        for small, large in zip(mine.files, theirs.files, strict=True):
            packed, original = (open_image(file.read(), file.path) for file in (small, large))
            assert min(packed.size) == 32
            assert packed.width / packed.height == pytest.approx(original.width / original.height, rel=0.05)
            pixels = np.asarray(original.convert("RGB").resize(packed.size, 3)).astype(float)
            assert np.abs(np.asarray(packed) - pixels).mean() < 12
    assert list(pack(before, out, 32, 95)) == [None] * 42  # again costs nothing


def test_small_images_are_copied_as_they_are(photos: Path, tmp_path: Path) -> None:
    list(pack(list_images(photos), tmp_path / "packed", 100, 90))
    before, after = list_images(photos).train, list_images(tmp_path / "packed").train
    copied = [small.read() == large.read() for small, large in zip(after.files, before.files, strict=True)]
    assert copied.count(False) == 1  # the one that had to be turned


def test_stopped_anywhere_it_goes_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 8)
    listing, out = list_images(photos), tmp_path / "packed"
    steps = pack(listing, out, 32, 90)
    for _ in range(20):
        next(steps)
    steps.close()
    assert sorted(path.name for path in out.glob("*.tar")) == ["train-00000.tar", "train-00001.tar"]
    with pytest.raises(ResnetlabError, match="not completely packed"):
        list_images(out)
    kept = (out / "train-00000.tar").stat().st_mtime_ns
    assert len(list(pack(listing, out, 32, 90))) == 42
    assert (out / "train-00000.tar").stat().st_mtime_ns == kept
    assert len(list_images(out).train) == 30
    with pytest.raises(ResnetlabError, match="with another size"):
        list(pack(listing, out, 48, 90))


def test_what_cannot_be_read_is_left_out_and_named(photos: Path, tmp_path: Path) -> None:
    bad = photos / "train" / "bee" / "004.jpg"
    bad.write_bytes(b"x")
    reasons = [reason for reason in pack(list_images(photos), tmp_path / "packed", 32, 90) if reason]
    assert len(reasons) == 1
    assert str(bad) in reasons[0]
    assert len(list_images(tmp_path / "packed").train) == 29
    with pytest.raises(ResnetlabError, match="holds other files"):
        list(pack(list_images(photos), photos, 32, 90))


def test_an_image_that_is_too_wide_for_jpeg_is_named(tmp_path: Path) -> None:
    for label in ("ant", "bee"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(3):
            size = (65_530, 8) if (label, k) == ("ant", 0) else (20 + k, 20)
            Image.new("RGB", size, (k, k, 0)).save(tmp_path / "data" / label / f"{k}.png")
    reasons = [reason for reason in pack(list_images(tmp_path / "data"), tmp_path / "out", 32, 90, 1) if reason]
    assert len(reasons) == 1
    assert "ant/0.png is not a readable image" in reasons[0]
