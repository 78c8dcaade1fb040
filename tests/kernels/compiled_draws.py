"""Batches drawn by compiled code. `test_kernels.py` runs this without type checks, which would be compiled too."""

import torch
from torch._dynamo.testing import CompileCounter

from resnetlab.data.augment import per_pixel_mean
from resnetlab.data.batch_augment import BatchAugmentation
from resnetlab.data.dataset import Dataset
from resnetlab.data.preprocessing import Preprocessing
from resnetlab.data.stream import Stream


def test_one_compilation_serves_every_seed(tiny: Dataset) -> None:
    """Many runs with different seeds share a process on a GPU."""
    counter = CompileCounter()
    mean = Preprocessing.of_mean_image(per_pixel_mean(tiny.train.pixels))
    after = BatchAugmentation(erasing=0.2, mixup=0.2, cutmix=1.0, classes=4, group=8)
    for seed in range(3):
        stream = Stream(tiny.train, mean, 8, seed, 1, flip=True, after=after)
        draw = torch.compile(stream.draw, backend=counter, dynamic=False)
        stream.prepare(5)
        images, targets = draw(torch.tensor(5))
        expected, theirs = stream.draw(torch.tensor(5))
        assert torch.equal(images, expected)
        assert torch.equal(targets, theirs)
    assert counter.frame_count == 1
