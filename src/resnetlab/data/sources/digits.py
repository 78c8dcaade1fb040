"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, real data without a download."""

import numpy as np

from resnetlab.data.dataset import Dataset, pixel_dataset

TEST_IMAGES = 500
SPLIT_SEED = 0


def digits() -> Dataset:
    """The digits at 8x8 pixels, with 0-16 scaled to 0-255, in a fixed split of 1,297 / 500."""
    from sklearn.datasets import load_digits  # takes two seconds, so only when needed

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.RandomState(SPLIT_SEED).permutation(len(pixels))
    train, test = order[TEST_IMAGES:], order[:TEST_IMAGES]
    return pixel_dataset(
        "digits",
        (pixels[train], data.target[train]),
        (pixels[test], data.target[test]),
        tuple(str(k) for k in range(10)),
        note=f"split once by seed {SPLIT_SEED}",
    )
