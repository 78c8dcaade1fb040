"""Batches of image files: a pure function of (seed, t), with any number of threads and processes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop, functional

from resnetlab.data.batch_augment import BatchAugmentation
from resnetlab.data.photos import DRAWS, Augmentation, PhotoStream, _area, _shorter_side
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.data.reading import fitted_batches
from resnetlab.data.sources.splitting import list_images
from resnetlab.errors import ResnetlabError

CPU = torch.device("cpu")
AREA = Augmentation("area", 32, colour=0.1)
PREPROCESSING = Preprocessing.by_channel(Fit.square(36, 32), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def stream(folder: Path, augmentation: Augmentation = AREA, **options: object) -> PhotoStream:
    made = {"batch_size": 8, "seed": 3, "device": CPU} | options
    return PhotoStream(list_images(folder).train, PREPROCESSING, augmentation, **made)  # type: ignore[arg-type]


def test_any_step_with_any_number_of_threads(photos: Path) -> None:
    in_turn, alone = stream(photos, threads=1), stream(photos, threads=5)
    batches = [in_turn.batch(step) for step in range(9)]
    for step in (7, 2, 8):
        images, labels = alone.batch(step)
        assert torch.equal(images, batches[step][0])
        assert torch.equal(labels, batches[step][1])
    assert not torch.equal(stream(photos, seed=4).batch(0)[0], batches[0][0])
    for each in (in_turn, alone):
        each.close()


def test_every_image_once_an_epoch(photos: Path) -> None:
    photos_ = stream(photos, batch_size=6)
    seen = Counter(k for step in range(10) for k in photos_.indices(step))
    assert set(seen.values()) == {2}
    assert len(seen) == 30


def test_all_augmentation_is_of_the_step_whatever_the_threads_and_processes(photos: Path) -> None:
    after = BatchAugmentation(erasing=0.5, mixup=0.2, cutmix=1.0, classes=3, group=8)
    how = replace(AREA, trivial=True)
    options = {"after": after, "repeats": 2}
    one, other = (stream(photos, how, threads=threads, **options) for threads in (1, 5))
    parts = [stream(photos, how, part=k, parts=2, **options) for k in range(2)]
    plain = stream(photos).batch(3)[0]
    for step in (3, 7, 0):
        images, targets = one.batch(step)
        assert images.shape == plain.shape
        assert targets.shape == (8, 3)
        for found in (other.batch(step), [torch.cat(x) for x in zip(*(p.batch(step) for p in parts), strict=True)]):
            assert torch.equal(found[0], images)
            assert torch.equal(found[1], targets)
    for each in (one, other, *parts):
        each.close()


def test_trivial_augment_changes_crops_alone(photos: Path) -> None:
    """Some are left as they are by the identity, and by operations that change nothing in them."""
    plain, augmented = stream(photos, batch_size=30), stream(photos, replace(AREA, trivial=True), batch_size=30)
    same = [torch.equal(a, b) for a, b in zip(plain.batch(0)[0], augmented.batch(0)[0], strict=True)]
    assert 20 <= same.count(False) < 30
    assert torch.equal(plain.batch(0)[1], augmented.batch(0)[1])


@pytest.mark.parametrize("crop", ["area", "shorter-side"])
def test_parts_are_those_of_the_whole_batch(photos: Path, crop: str) -> None:
    augmentation = replace(AREA, crop=crop, sides=(36, 60))
    whole, *parts = (stream(photos, augmentation, part=k, parts=n) for k, n in ((0, 1), (0, 2), (1, 2)))
    for step in (0, 5):
        images, labels = whole.batch(step)
        halves = [part.batch(step) for part in parts]
        assert torch.equal(torch.cat([half[0] for half in halves]), images)
        assert torch.equal(torch.cat([half[1] for half in halves]), labels)


def test_classes_are_balanced(photos: Path) -> None:
    for path in sorted((photos / "train" / "ant").iterdir())[2:]:
        path.unlink()
    split = list_images(photos).train
    drawn = stream(photos, balanced=True, batch_size=60)
    counts = Counter(int(split.labels[k]) for step in range(20) for k in drawn.indices(step))
    assert all(340 < counts[number] < 460 for number in range(3))
    assert stream(photos, balanced=True).indices(7) == stream(photos, balanced=True).indices(7)


def test_flips_and_colours(photos: Path) -> None:
    plain = stream(photos, replace(AREA, flip=False, colour=0.0)).batch(2)[0]
    flipped = stream(photos, replace(AREA, colour=0.0)).batch(2)[0]
    which = [not torch.equal(a, b) for a, b in zip(plain, flipped, strict=True)]
    assert 0 < sum(which) < 8
    for a, b, turned in zip(plain, flipped, which, strict=True):
        assert torch.equal(a.flip(2) if turned else a, b)
    shift = (stream(photos).batch(2)[0] - flipped) * PREPROCESSING.std
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
    assert 0 < shift.abs().max() < 0.2


def test_random_areas_are_distributed_as_torchvisions() -> None:
    random, width, height = np.random.default_rng(0), 80, 50
    ours = np.array([_area(width, height, random.random(DRAWS), AREA) for _ in range(4000)])
    image = torch.zeros(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(4000)])
    theirs = theirs[:, [1, 0, 3, 2]]  # top, left, height, width
    for mine, peers in ((ours, theirs), (ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])):
        assert np.allclose(mine.mean(0), peers.mean(0), rtol=0.05)
        assert np.allclose(mine.std(0), peers.std(0), rtol=0.06)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= width).all()
    assert (ours[:, 1] + ours[:, 3] <= height).all()


def test_the_papers_crop_is_resize_then_crop() -> None:
    """The box in the unscaled image shows what scaling to the shorter side and cropping shows."""
    how = Augmentation("shorter-side", 224)
    random = np.random.default_rng(0)
    image = functional.resize(torch.rand(3, 20, 30), [375, 500], antialias=True)
    for _ in range(20):
        drawn = random.random(DRAWS)
        left, top, width, height = _shorter_side(500, 375, drawn, how)
        side = 256 + int(drawn[0] * 225)
        scale = side / 375
        assert width == height
        assert abs(width * scale - 224) < 0.51 * scale
        scaled = functional.resize(image, [side], antialias=True)
        there = scaled[:, round(top * scale) :, round(left * scale) :][:, :224, :224]
        here = functional.resize(image[:, top : top + height, left : left + width], [224, 224], antialias=True)
        rows, columns = there.shape[1:]
        assert (there - here[:, :rows, :columns]).abs().mean() < 0.02


def test_files_that_cannot_be_read(photos: Path) -> None:
    bad = photos / "train" / "bee" / "004.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(ResnetlabError, match=r"bee/004\.jpg is not a readable image"):
        [stream(photos, batch_size=30).batch(step) for step in range(1)]
    skipping = stream(photos, batch_size=30, on_bad="skip")
    images, labels = skipping.batch(0)
    assert (len(images), len(labels)) == (30, 30)
    assert skipping.waiting.skipped == {str(bad)}
    skipped: set[str] = set()
    split = list_images(photos).train
    fitted = list(fitted_batches(split, PREPROCESSING.fit, 7, on_bad="skip", skipped=skipped))
    assert sum(len(part) for _, part in fitted) == 29
    assert skipped == {str(bad)}
    with pytest.raises(ResnetlabError, match=r"bee/004\.jpg"):
        list(fitted_batches(split, PREPROCESSING.fit, 7))


def test_fitted_batches_are_in_order(photos: Path) -> None:
    split = list_images(photos).test
    parts = list(fitted_batches(split, PREPROCESSING.fit, 5, threads=4))
    assert [len(labels) for _, labels in parts] == [5, 5, 2]
    assert torch.equal(torch.cat([labels for _, labels in parts]), split.labels)
    from resnetlab.data.preprocessing import read_image

    for file, pixels in zip(split.files, torch.cat([pixels for pixels, _ in parts]), strict=True):
        assert np.array_equal(PREPROCESSING.fit(read_image(Path(file.path))), pixels.numpy())
