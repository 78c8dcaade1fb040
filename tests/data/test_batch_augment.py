"""Mixup, CutMix and random erasing against torchvision's, and as pure functions of seed, step and place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from torch import Tensor
from torchvision.transforms import RandomErasing, v2

from resnetlab.data.batch_augment import OFF, BatchAugmentation, BatchAugmenter, beta_quantiles
from resnetlab.data.dataset import Dataset, Pixels
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.data.stream import Stream

CLASSES, COUNT = 5, 12
MIXUP = BatchAugmentation(mixup=0.4, classes=CLASSES, group=COUNT)
CUTMIX = BatchAugmentation(cutmix=1.0, classes=CLASSES, group=COUNT)
BOTH = replace(MIXUP, cutmix=1.0)
PREPROCESSING = Preprocessing.by_channel(Fit.square(8), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(COUNT, 3, 20, 30, generator=generator)
    return images, torch.randint(0, CLASSES, (COUNT,), generator=generator)


def at(step: int) -> Tensor:
    return torch.tensor(step)


def augmenter(how: BatchAugmentation, seed: int = 7, part: int = 0, parts: int = 1) -> BatchAugmenter:
    share = COUNT // parts
    return BatchAugmenter(how, seed, torch.arange(part * share, (part + 1) * share))


def theirs(how: BatchAugmentation, step: int) -> tuple[Tensor, Tensor]:
    """torchvision's transform with our share and rectangle."""
    (pixels,), (share,) = augmenter(how)._mixing(at(step), 20, 30)
    images, labels = batch()
    if not how.cutmix:
        mixup, parameters = v2.MixUp(alpha=how.mixup, num_classes=CLASSES), {"lam": float(share)}
        return tuple(
            mixup.transform(x, {"labels": labels, "batch_size": COUNT, **parameters}) for x in (images, labels)
        )
    rows, columns = (pixels == 0).any(1).nonzero(), (pixels == 0).any(0).nonzero()
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 0, 0)
    parameters = {"box": box, "lam_adjusted": float(share), "labels": labels, "batch_size": COUNT}
    cutmix = v2.CutMix(alpha=how.cutmix, num_classes=CLASSES)
    return tuple(cutmix.transform(x, parameters) for x in (images, labels))


@pytest.mark.parametrize("how", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
def test_images_and_targets_are_torchvisions(how: BatchAugmentation) -> None:
    for step in range(20):
        images, targets = augmenter(how)(*batch(), at(step))
        expected, soft = theirs(how, step)
        torch.testing.assert_close(images, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(targets, soft, rtol=1e-6, atol=1e-6)


def test_a_rectangle_has_the_share_and_place_of_torchvisions() -> None:
    """Ours follows from its share and centre by the formula in CutMix's paper, cut off at the edges."""
    shares, areas, left = [], [], []
    for step in range(2000):
        (pixels,), (share,) = augmenter(CUTMIX)._mixing(at(step), 20, 30)
        assert float(pixels.mean()) == pytest.approx(float(share))
        columns = (pixels == 0).any(0).nonzero()
        shares.append(float(share))
        areas.append(int((pixels == 0).sum()))
        left.append(int(columns.min()) if len(columns) else -1)
    torch.manual_seed(0)
    cutmix = v2.CutMix(alpha=1.0, num_classes=CLASSES)
    drawn = [cutmix.make_params([batch()[0]]) for _ in range(2000)]
    boxes = np.array([parameters["box"] for parameters in drawn])
    assert np.mean(shares) == pytest.approx(np.mean([p["lam_adjusted"] for p in drawn]), abs=0.02)
    assert np.std(shares) == pytest.approx(np.std([p["lam_adjusted"] for p in drawn]), abs=0.02)
    empty = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    assert np.mean(np.array(areas) == 0) == pytest.approx(empty.mean(), abs=0.02)
    assert np.mean([x for x in left if x >= 0]) == pytest.approx(boxes[~empty, 0].mean(), abs=0.5)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    values = beta_quantiles(alpha).double().numpy()
    assert values.mean() == pytest.approx(0.5)
    assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-3)
    how = replace(MIXUP, mixup=alpha, group=1)
    many = BatchAugmenter(how, 3, torch.arange(4000))._mixing(at(9), 1, 1)[1]
    assert kstest(many.double().numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


def test_one_of_the_two_is_drawn() -> None:
    mixed = [augmenter(BOTH)._mixing(at(step), 20, 30)[0].unique().numel() == 1 for step in range(400)]
    assert 160 < sum(mixed) < 240


@pytest.mark.parametrize("group", [3, 4, 6, 12])
def test_a_group_is_mixed_among_itself_with_one_share(group: int) -> None:
    images, labels = batch()
    mixed, targets = augmenter(replace(BOTH, group=group))(images, labels, at(4))
    for k in range(0, COUNT, group):
        places = torch.arange(k, k + group)
        alone = BatchAugmenter(replace(BOTH, group=group), 7, places)(images[places], labels[places], at(4))
        assert torch.equal(mixed[places], alone[0])
        assert torch.equal(targets[places], alone[1])
        shares = BatchAugmenter(replace(BOTH, group=group), 7, places)._mixing(at(4), 20, 30)[1]
        assert len(shares) == 1
        partners = labels[places].roll(1, 0)
        expected = torch.where(labels[places] == partners, 1.0, shares)
        torch.testing.assert_close(targets[places].gather(1, labels[places, None])[:, 0], expected)


def test_targets_are_shares_that_sum_to_one() -> None:
    _, targets = augmenter(BOTH)(*batch(), at(3))
    torch.testing.assert_close(targets.sum(1), torch.ones(COUNT))


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    images = torch.ones(4000, 1, 32, 24)
    ours, _ = BatchAugmenter(replace(OFF, erasing=0.6), 5, torch.arange(4000))(images, torch.arange(4000), at(11))
    torch.manual_seed(0)
    transform = RandomErasing(p=0.6)
    peers = torch.stack([transform(image) for image in images])
    measured = []
    for some in (ours, peers):
        gone = (some == 0)[:, 0]
        some_gone = gone.flatten(1).any(1)
        heights, widths = gone.any(2).sum(1)[some_gone].double(), gone.any(1).sum(1)[some_gone].double()
        assert torch.equal(heights * widths, gone[some_gone].sum((1, 2)).double())  # one rectangle
        tops, lefts = (gone[some_gone].any(axis).int().argmax(1).double() for axis in (2, 1))
        numbers = (heights, widths, heights * widths, tops, lefts)
        measured.append(
            [float(some_gone.double().mean()), *(f(x).item() for x in numbers for f in (torch.mean, torch.std))]
        )
    assert measured[0] == pytest.approx(measured[1], rel=0.06)


@pytest.mark.parametrize("how", [replace(BOTH, erasing=0.5), replace(BOTH, erasing=0.5, group=4)])
def test_processes_make_parts_of_the_batch_of_one(how: BatchAugmentation) -> None:
    images, labels = batch()
    for step in (0, 5):
        whole = augmenter(how)(images, labels, at(step))
        for parts in (2, 3):
            made = []
            for part in range(parts):
                one = augmenter(how, part=part, parts=parts)
                made.append(one(images[one.places], labels[one.places], at(step)))
            for k in range(2):
                assert torch.equal(torch.cat([x[k] for x in made]), whole[k])


def test_nothing_is_done_if_all_is_off() -> None:
    images, labels = batch()
    found, targets = augmenter(OFF)(images, labels, at(3))
    assert found is images
    assert targets is labels


def stream(tiny: Dataset, after: BatchAugmentation = OFF, **options: int) -> Stream:
    assert isinstance(tiny.train, Pixels)
    return Stream(tiny.train, PREPROCESSING, 16, 3, 1, True, after=after, **options)  # type: ignore[arg-type]


def test_batches_in_memory_are_augmented(tiny: Dataset) -> None:
    how = BatchAugmentation(erasing=0.5, mixup=0.2, cutmix=1.0, classes=4, group=16)
    plain, mixed = stream(tiny), stream(tiny, how)
    for step in (4, 0):
        images, labels = plain.batch(step)
        assert mixed.batch(step)[0].is_contiguous(memory_format=torch.channels_last)
        expected = BatchAugmenter(how, 3, torch.arange(16))(images, labels, at(step))
        found = mixed.batch(step)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        halves = [stream(tiny, how, part=k, parts=2).batch(step) for k in range(2)]
        for k in range(2):
            assert torch.equal(torch.cat([half[k] for half in halves]), found[k])


def test_repeats_are_the_same_images_augmented_anew(tiny: Dataset) -> None:
    several = stream(tiny, repeats=4)
    seen: list[int] = []
    for step in range(12):
        several.prepare(step)
        index = several.indices(at(step)).reshape(4, 4)
        assert (index == index[0]).all()
        seen += index[0].tolist()
    assert sorted(seen) == list(range(48))  # each once in four epochs of 48 images
    images, labels = several.batch(2)
    assert not torch.equal(images[:4], images[4:8])
    assert torch.equal(labels[:4], labels[4:8])
    assert torch.equal(stream(tiny, repeats=1).batch(5)[0], stream(tiny).batch(5)[0])
