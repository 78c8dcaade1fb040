"""Which images are right, with one rule for ties everywhere."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def errors(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> Int64[Tensor, ""]:
    """How many images are taken for another class than theirs."""
    return (place_of(logits, labels) > 0).sum()


def place_of(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """How many classes are ranked before the true one: 0 is right, below 5 is right for the top-5 error.

    Of equal logits the lowest class is first, on any device, which `argmax` and `topk` do not promise. NaN comes
    before all numbers, so images with NaN are errors.
    """
    true = logits.gather(1, labels[:, None])
    is_lower = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return (~torch.where(is_lower, logits < true, logits <= true)).sum(1)
