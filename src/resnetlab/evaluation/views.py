"""Test protocols: how the views of an image become one prediction."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from resnetlab.data import Images, Preprocessing
from resnetlab.evaluation.metrics import Counts, count


def single_view(network: nn.Module, images: Images, preprocessing: Preprocessing, batch_size: int = 500) -> Counts:
    """The original image, once (Section 4.2), in evaluation mode; the network's mode is put back."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for k in range(0, len(images), batch_size):
            part = images[k : k + batch_size]
            yield preprocessing(part.pixels), part.labels

    return counted(network, batches())


def counted(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Counts:
    """Errors on images that are prepared, in evaluation mode; the mode of each part is put back."""
    with in_evaluation_mode(network):
        return count(network, batches, next(network.parameters()).device)


@contextmanager
def in_evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Within this context the network is in evaluation mode; then each part is in its own again."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
