"""Cross-validation: divide the images into folds, each of which is the test split once."""

from dataclasses import replace

import numpy as np
import torch

from resnetlab.data.dataset import Dataset, joined
from resnetlab.errors import ResnetlabError

Fold = tuple[int, int]
"""The number of a fold, from 1, and how many there are."""


def folded(dataset: Dataset, which: Fold) -> Dataset:
    """The data set with one of its folds as test images and the others as training images, independent of any seed.

    The folds are of all images where the test split was made here, otherwise of the training images. They have the
    classes in the same shares; identical images and groups stay together (scikit-learn's StratifiedKFold and
    StratifiedGroupKFold).

    Raises:
        ResnetlabError: too few images for so many folds, or images with boxes.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second

    number, of = which
    if dataset.has_boxes or dataset.train.labels.ndim != 1:
        raise ResnetlabError(f"{dataset.name}: folds are for images of one class each")
    every = joined([dataset.train, dataset.test]) if dataset.automatic else dataset.train
    labels, units = every.labels.numpy(), np.array(every.units)
    for k, name in enumerate(dataset.classes):
        if 0 < (different := len(np.unique(units[labels == k]))) < of:
            raise ResnetlabError(
                f"{dataset.name}: class {name} has {different} images or groups that differ, too few for {of} folds"
            )
    alone = len(np.unique(units)) == len(units)
    splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(of, shuffle=True, random_state=0)
    _, tested = list(splitter.split(labels, labels, None if alone else units))[number - 1]
    held = torch.zeros(len(every), dtype=torch.bool)
    held[torch.from_numpy(tested)] = True
    whole = "all images" if dataset.automatic else "the training images; the data's own test images are not used"
    return replace(
        dataset,
        train=every[(~held).nonzero().flatten()],
        test=every[held.nonzero().flatten()],
        note=f"fold {number} of {of}, of {whole}",
        made_from="",
    )
