"""Trainers as others write them, to measure ours against: each trains without end and yields after every step."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchvision.transforms as T
from PIL import Image
from timm.data.loader import create_loader
from timm.optim._optim_factory import create_optimizer_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from resnetlab.data.dataset import Pixels

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Pictures(Dataset[tuple[Any, int]]):
    """One PIL image at a time, as `torchvision.datasets.CIFAR10` gives it."""

    def __init__(self, images: Pixels, transform: Callable[[Image.Image], Tensor] | None = None) -> None:
        self.pixels, self.labels = images.pixels.numpy(), images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.pixels[index])
        return (self.transform(image) if self.transform else image), self.labels[index]


def tutorial(
    network: nn.Module, images: Pixels, batch_size: int, workers: int, device: torch.device
) -> Iterator[float]:
    """As CIFAR-10 tutorials and repositories: transforms of PIL images, a `DataLoader`, eager float32."""
    transform = T.Compose(
        [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
    )
    loader = _loader(Pictures(images, transform), batch_size, workers, device)
    criterion, optimizer = nn.CrossEntropyLoss(), _sgd(network.to(device).train())
    while True:
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = criterion(network(inputs), targets)
            loss.backward()
            optimizer.step()
            yield loss.item()


def torchvision_reference(
    network: nn.Module, images: Pixels, batch_size: int, workers: int, device: torch.device
) -> Iterator[float]:
    """As torchvision's reference scripts: its v2 transforms, mixed precision, metrics read after every step."""
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize(MEAN, STD),
            v2.ToPureTensor(),
        ]
    )
    loader = _loader(Pictures(images, transform), batch_size, workers, device)
    criterion, optimizer = nn.CrossEntropyLoss(), _sgd(network.to(device).train())
    while True:
        for inputs, targets in loader:
            inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16):
                output = network(inputs)
                loss = criterion(output, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            best = output.topk(5).indices == targets[:, None]
            _ = best[:, :1].sum().item(), best.sum().item()
            yield loss.item()


def timm_train(
    network: nn.Module, images: Pixels, batch_size: int, workers: int, device: torch.device
) -> Iterator[float]:
    """As timm's training script: its loader (prefetching on a GPU), its optimizer, bfloat16, channels last."""
    loader = create_loader(
        Pictures(images),  # type: ignore[arg-type]
        (3, 32, 32),
        batch_size,
        is_training=True,
        use_prefetcher=device.type == "cuda",
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        mean=MEAN,
        std=STD,
        num_workers=workers,
        device=device,
        persistent_workers=workers > 0,
    )
    network = network.to(device).to(memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(network, "momentum", 0.1, 1e-4, 0.9)
    criterion = nn.CrossEntropyLoss()
    while True:
        for inputs, targets in loader:
            inputs = inputs.to(device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16):
                loss = criterion(network(inputs), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield 0.0


PEERS = {"tutorial": tutorial, "torchvision's reference": torchvision_reference, "timm": timm_train}


def _loader(
    data: Dataset[tuple[Tensor, int]], batch_size: int, workers: int, device: torch.device
) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(
        data,
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
