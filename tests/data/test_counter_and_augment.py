"""Random numbers and augmentation against literal second implementations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.data.augment import crop_and_flip, per_pixel_mean, preprocess, zero_pad
from resnetlab.data.counter import bits, bits_at, key, permutation
from resnetlab.data.dataset import Dataset
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.data.stream import Stream

CPU = torch.device("cpu")


def splitmix64(state: int) -> int:
    """Steele, Lea and Flood's output function in plain integers, after one step of the state."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_bits_are_splitmix64() -> None:
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the published first output of seed 0
    golden = 0x9E3779B97F4A7C15
    expected = [splitmix64(k * golden % 2**64) % 2**63 for k in range(50)]
    assert bits(torch.arange(50)).tolist() == expected


@given(st.integers(0, 2**40), st.integers(0, 10**7), st.integers(1, 300))
def test_permutations_are_permutations(seed: int, epoch: int, n: int) -> None:
    assert permutation(n, seed, epoch, CPU).sort().values.tolist() == list(range(n))


def test_permutations_are_uniform() -> None:
    first = torch.stack([permutation(5, 7, epoch, CPU) for epoch in range(6000)])
    for place in range(5):
        counts = first[:, place].bincount(minlength=5)
        assert ((counts - 1200).abs() < 5 * 1200**0.5).all(), counts


def test_coordinates_matter_and_are_independent() -> None:
    n = torch.arange(4000)
    a, b = bits(n, 0, 1, 5), bits(n, 1, 0, 5)
    assert torch.equal(a, bits_at(n, key(0, 1), torch.tensor(5)))
    assert not torch.equal(a, b)
    for x, y in ((a, b), (bits(n, 3, 1, 0), bits(n, 3, 1, 1))):
        lows = torch.stack([x & 1, y & 1]).double()
        assert abs(lows.mean().item() - 0.5) < 0.03
        assert abs(torch.corrcoef(lows)[0, 1].item()) < 0.06


def literal_crop(image: np.ndarray, padding: int, top: int, left: int, flip: bool) -> np.ndarray:
    """One image: pad with zeros, mirror the original about its middle if asked, crop."""
    height, width, _ = image.shape
    big = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    crop = big[top : top + height, left : left + width]
    return crop[:, ::-1] if flip else crop


@given(
    st.integers(1, 3),
    st.integers(3, 9),
    st.integers(3, 9),
    st.integers(0, 4),
    st.booleans(),
    st.integers(0, 1000),
    st.integers(0, 100_000),
)
def test_crops_are_crops(
    channels: int, height: int, width: int, padding: int, flip: bool, seed: int, step: int
) -> None:
    pixels = torch.from_numpy(
        np.random.default_rng(seed).integers(1, 256, (6, height, width, channels), dtype=np.uint8)
    )
    index = torch.tensor([3, 0, 3, 5])
    found = crop_and_flip(zero_pad(pixels, padding), index, padding, flip, key(seed, 1), torch.tensor(step)).numpy()
    for crop, k in zip(found, index.tolist(), strict=True):
        candidates = (
            literal_crop(pixels[k].numpy(), padding, top, left, mirrored)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            for mirrored in ((False, True) if flip else (False,))
        )
        assert any(np.array_equal(crop, candidate) for candidate in candidates)


def test_every_offset_and_both_flips_come_equally_often() -> None:
    pixels = torch.arange(1, 82, dtype=torch.uint8).reshape(1, 9, 9, 1)
    seen: dict[tuple[int, bool], int] = {}
    count = 16_200
    crops = crop_and_flip(
        zero_pad(pixels, 1), torch.zeros(count, dtype=torch.int64), 1, True, key(0, 1), torch.tensor(0)
    )
    for crop in crops[..., 0]:
        flipped = bool(crop[4, 3] > crop[4, 5])
        seen[int(crop[4, 4]), flipped] = seen.get((int(crop[4, 4]), flipped), 0) + 1
    assert len(seen) == 18
    assert all(abs(times - count / 18) < 5 * (count / 18) ** 0.5 for times in seen.values())


def test_per_pixel_mean_and_preprocessing(tiny: Dataset) -> None:
    pixels = tiny.train.pixels
    mean = per_pixel_mean(pixels)
    expected = (pixels.double() / 255).mean(0).permute(2, 0, 1)
    torch.testing.assert_close(mean.double(), expected, rtol=1e-6, atol=1e-7)
    seen = preprocess(pixels, mean)
    torch.testing.assert_close(seen, pixels.permute(0, 3, 1, 2) / 255 - mean)
    assert seen.is_contiguous(memory_format=torch.channels_last)


def stream(tiny: Dataset, seed: int = 0, batch_size: int = 20) -> Stream:
    about = Preprocessing.of_mean_image(torch.zeros(3, 8, 8))
    return Stream(tiny.train, about, batch_size, seed, padding=1, flip=True)


def test_a_batch_depends_on_seed_and_step_alone(tiny: Dataset) -> None:
    forward, backward = stream(tiny), stream(tiny)
    batches = [forward.batch(t) for t in range(12)]
    for t in reversed(range(12)):
        images, labels = backward.batch(t)
        assert torch.equal(images, batches[t][0])
        assert torch.equal(labels, batches[t][1])
    assert not torch.equal(stream(tiny, seed=1).batch(0)[0], batches[0][0])


@pytest.mark.parametrize("batch_size", [1, 20, 48, 130])
def test_every_epoch_holds_every_image_once(tiny: Dataset, batch_size: int) -> None:
    steps = -(-48 * 5 // batch_size)

    def indices(step: int) -> torch.Tensor:
        batches = stream(tiny, batch_size=batch_size)
        batches.prepare(step)
        return batches.indices(torch.tensor(step))

    order = torch.cat([indices(step) for step in range(steps)])
    epochs = order[: 48 * 5].reshape(5, 48)
    assert all(epoch.sort().values.tolist() == list(range(48)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_images_and_labels_stay_together(tiny: Dataset) -> None:
    images, labels = stream(tiny).batch(3)
    assert torch.equal((images[:, :, 2:6, 2:6].amin((1, 2, 3)) * 255 / 60).long(), labels)
