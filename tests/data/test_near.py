"""Images that look nearly the same are found, and only those."""

import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from resnetlab.data.held_out import linked
from resnetlab.data.near import WITHIN, perceptual_hash, similar_hashes

SHARED = Path(__file__).parents[3] / "shared" / "data"
CLOSE = [0, 1, 3, 0b111111, 0b1111110, 2**63, 2**63 + 1]


@given(st.lists(st.sampled_from(CLOSE) | st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.integers(0, 9))
def test_the_same_pairs_as_comparing_all(values: list[int], within: int) -> None:
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(values)), 2)
        if (values[a] ^ values[b]).bit_count() <= within
    ]
    found, expected = similar_hashes(np.array(values, np.uint64), within), linked(len(values), pairs)
    first_of = {unit: k for k, unit in reversed(list(enumerate(found)))}
    assert [first_of[unit] for unit in found] == expected


def copies(image: Image.Image) -> list[Image.Image]:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return [
        Image.open(buffer),
        image.resize((image.width // 2, image.height // 2)),
        ImageEnhance.Brightness(image).enhance(1.1),
    ]


def test_copies_of_photographs_are_near_and_others_are_not() -> None:
    if not (SHARED / "photos-300.tar").exists():
        pytest.skip("the photographs are not here")
    with tarfile.open(SHARED / "photos-300.tar") as tar:
        members = [member for member in tar if member.isfile()][:60]
        photos = [Image.open(io.BytesIO(tar.extractfile(m).read())).convert("RGB") for m in members]  # type: ignore[union-attr]
    looks = [perceptual_hash(photo) for photo in photos]
    assert min((a ^ b).bit_count() for a, b in itertools.combinations(looks, 2)) > WITHIN + 4
    far = [
        (perceptual_hash(copy) ^ own).bit_count()
        for photo, own in zip(photos, looks, strict=True)
        for copy in copies(photo)
    ]
    assert np.mean(np.array(far) <= WITHIN) > 0.97


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_image_has_a_look(mode: str) -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200), dtype=np.uint8))
    assert 0 <= perceptual_hash(grey.convert(mode) if mode != "I;16" else grey.convert("I").convert("I;16")) < 2**64
