"""A trainer as CIFAR-10 tutorials write it, to measure ours against.

torchvision transforms on PIL images, a `DataLoader` with workers, eager float32 in the default memory layout.
"""

from collections.abc import Iterator

import torch
import torchvision.transforms as T
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from resnetlab.data.images import Images


class Pictures(Dataset[tuple[Tensor, int]]):
    """One PIL image at a time, as `torchvision.datasets.CIFAR10` gives it."""

    def __init__(self, images: Images) -> None:
        self.pixels, self.labels = images.pixels.numpy(), images.labels.tolist()
        self.transform = T.Compose(
            [
                T.RandomCrop(32, padding=4),
                T.RandomHorizontalFlip(),
                T.ToTensor(),
                T.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def train(network: nn.Module, images: Images, batch_size: int, workers: int) -> Iterator[float]:
    """Train without end; yields the loss of every step."""
    loader = DataLoader(Pictures(images), batch_size, shuffle=True, num_workers=workers, drop_last=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    network.train()
    while True:
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = criterion(network(inputs), targets)
            loss.backward()
            optimizer.step()
            yield loss.item()
