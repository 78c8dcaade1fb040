"""After training: the temperature, and the features of training images, from validation images."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from resnetlab.models.modelfile import load, save
from resnetlab.models.trust import KNOWN, fit_trust
from resnetlab.training.batches import Batches
from resnetlab.training.distributed import World, collected


def add_trust(file: Path, batches: Batches, images: int, device: torch.device) -> Iterator[str]:
    """Fit the trust of a model to the validation images, if there are any, and write it into its file.

    Connected processes run a share of the images each.
    """
    if "validation" not in batches.tests:
        return
    yield "fitting the temperature to validation images"
    model = load(file)
    network = model.network.to(device).to(memory_format=torch.channels_last)
    last, network.fc = network.fc, nn.Identity()  # type: ignore[assignment]
    stride = max(1, -(-images // KNOWN))
    mine_of_all = _features(network, (some[::stride] for some in batches.calibration()))
    known = torch.unique(collected(mine_of_all), dim=0)  # with synchronised layers all processes have all images
    labels: list[Tensor] = []

    def tested() -> Iterator[Tensor]:
        for pixels, truth in batches.tests["validation"]():
            labels.append(truth)
            yield pixels

    mine = _features(network, tested())
    with torch.inference_mode():
        logits = collected(last(mine))
    truth, features = (
        collected(torch.cat([*labels, torch.zeros(0, dtype=torch.int64, device=device)])),
        collected(mine),
    )
    if not len(truth) or not len(known):
        yield "there is no temperature: none of the validation images can be read"
        return
    trust = fit_trust(logits, truth, features, known)
    network.fc = last
    if World.here().rank == 0:
        save(replace(model, trust=trust), file)
    yield f"temperature {trust.temperature:.2f}, fitted to {trust.validation:,} validation images"


def _features(network: nn.Module, batches: Iterable[Float[Tensor, "n c h w"]]) -> Float[Tensor, "n features"]:
    """The input of the last layer."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        found = [network(images).flatten(1) for images in batches if len(images)]
    return torch.cat(found) if found else torch.zeros(0, 1, device=device)
