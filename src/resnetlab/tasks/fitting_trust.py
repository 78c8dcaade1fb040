"""After training: the temperature, and the features of training images, from validation images."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from resnetlab.models.modelfile import load, save
from resnetlab.models.trust import KNOWN, fit_trust
from resnetlab.training.batches import CALIBRATED_ON, Batches
from resnetlab.training.distributed import World, collected

FEW = 50  # validation images, for a temperature


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
    stride = max(1, -(-min(images, CALIBRATED_ON) // KNOWN))
    mine_of_all = _features(network, last.in_features, every(stride, batches.calibration()))
    known = torch.unique(collected(mine_of_all), dim=0)[:KNOWN]  # with synchronised layers all processes have all
    labels: list[Tensor] = []

    def tested() -> Iterator[Tensor]:
        for pixels, truth in batches.tests["validation"]():
            labels.append(truth)
            yield pixels

    mine = _features(network, last.in_features, tested())
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
    few = "; they are few, so rely on no probability" if trust.validation < FEW else ""
    limit = ", its limit: the answers for them are no better than guesses" if trust.is_at_limit else ""
    yield f"temperature {trust.temperature:.2f}, fitted to {trust.validation:,} validation images{limit}{few}"


def every(stride: int, batches: Iterable[Float[Tensor, "_ c h w"]]) -> Iterator[Float[Tensor, "_ c h w"]]:
    """Each `stride`-th image, counted over the batches."""
    begin = 0
    for images in batches:
        yield images[begin::stride]
        begin = (begin - len(images)) % stride


def _features(
    network: nn.Module, width: int, batches: Iterable[Float[Tensor, "_ c h w"]]
) -> Float[Tensor, "n {width}"]:
    """The input of the last layer, of `width` numbers an image."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        found = [network(images).flatten(1) for images in batches if len(images)]
    return torch.cat(found) if found else torch.zeros(0, width, device=device)
