"""Exact statistics of images that several processes have."""

from pathlib import Path

import processes
import pytest
import torch

from resnetlab.networks.resnet import build
from resnetlab.networks.statistics import set_exact_statistics
from resnetlab.training.distributed import joined


def share(folder: Path) -> None:
    """What each process does: statistics of its own batches, and the network as it is then."""
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as world:
        network = build("cifar_resnet8", narrow=8)
        network.load_state_dict(torch.load(folder / "network.pt"))
        set_exact_statistics(network, torch.load(folder / f"{world.rank}.pt"))
        torch.save(network.state_dict(), folder / f"of {world.rank}.pt")


@pytest.mark.parametrize("sizes", [([8, 4], [3]), ([3, 2], [])])
def test_all_processes_have_the_statistics_of_all_images(tmp_path: Path, sizes: tuple[list[int], list[int]]) -> None:
    network = build("cifar_resnet8", narrow=8)
    torch.save(network.state_dict(), tmp_path / "network.pt")
    batches = [[torch.randn(size, 3, 8, 8) + size for size in own] for own in sizes]
    for rank, own in enumerate(batches):
        torch.save(own, tmp_path / f"{rank}.pt")
    for child in processes.in_two(share, tmp_path, folder=tmp_path):
        assert child.wait() == 0, child.text()
    set_exact_statistics(network, [batch for own in batches for batch in own])
    for rank in range(2):
        found = torch.load(tmp_path / f"of {rank}.pt")
        for key, value in network.state_dict().items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=key)
