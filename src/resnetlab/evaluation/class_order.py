"""Labels of a data set as numbers of a model's classes, by name and never by position."""

import torch
from jaxtyping import Int64
from torch import Tensor

from resnetlab.data.class_names import numbered
from resnetlab.errors import ResnetlabError


def by_name(
    labels: Int64[Tensor, "n"], theirs: tuple[str, ...], ours: tuple[str, ...]
) -> tuple[Int64[Tensor, "n"], str]:
    """The labels, which number `theirs`, as numbers of `ours`; and a remark where one side has no names.

    A data set may lack some of the model's classes, and may have them in another order.

    Raises:
        ResnetlabError: the data set has classes that the model has not.
    """
    if theirs == ours:
        return labels, ""
    if len(theirs) == len(ours) and numbered(len(ours)) in (theirs, ours):
        side = "data" if theirs == numbered(len(ours)) else "model"
        return labels, f"; the {side} has no names of classes, so its numbers are taken for the other's"
    if unknown := [name for name in theirs if name not in ours]:
        some = ", ".join(unknown[:3]) + (" ..." if len(unknown) > 3 else "")
        raise ResnetlabError(
            f"of the data's {len(theirs)} classes, {len(unknown)} are not among the model's {len(ours)} ({some}); "
            "they are matched by name, so both must use the same names"
        )
    return torch.tensor([ours.index(name) for name in theirs])[labels], ""
