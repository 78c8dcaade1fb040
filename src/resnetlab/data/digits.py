"""Handwritten digits that come with scikit-learn: 1,797 grey images of 8x8 pixels, real data without a download."""

import numpy as np

from resnetlab.data.images import ImageSet, image_set

TEST_IMAGES = 500
SPLIT_SEED = 0


def digits() -> ImageSet:
    """The digits at their native size, 0-16 stretched to 0-255, split 1,297 / 500 once and for all."""
    from sklearn.datasets import load_digits  # two seconds that other data sets need not wait for

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.RandomState(SPLIT_SEED).permutation(len(pixels))
    train, test = order[TEST_IMAGES:], order[:TEST_IMAGES]
    return image_set(
        "digits",
        (pixels[train], data.target[train]),
        (pixels[test], data.target[test]),
        tuple(str(k) for k in range(10)),
        note=f"split once by seed {SPLIT_SEED}",
    )
