"""Which parameters are trained, and with which weight decay and learning rate."""

from typing import Any

from torch import nn

from resnetlab.errors import ResnetlabError
from resnetlab.training.recipe import Recipe


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trained parameters by weight decay, and the last layer's apart if it has another learning rate."""
    trained = [p for p in network.parameters() if p.requires_grad]
    last = {id(p) for p in _last_layer(network).parameters()} if recipe.head_rate != 1 else set()
    norms = {id(p) for norm in _norms(network) for p in norm.parameters()}

    def is_free(p: nn.Parameter) -> bool:
        return id(p) in norms if recipe.decayed == "not-norms" else recipe.decayed == "weights" and p.ndim <= 1

    groups: list[dict[str, Any]] = []
    for factor, some in (
        (1.0, [p for p in trained if id(p) not in last]),
        (recipe.head_rate, [p for p in trained if id(p) in last]),
    ):
        decayed, free = [p for p in some if not is_free(p)], [p for p in some if is_free(p)]
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay, "factor": factor})
        groups.append({"params": free, "weight_decay": 0.0, "factor": factor})
    return [group for group in groups if group["params"]]


def frozen_parts(network: nn.Module, recipe: Recipe) -> tuple[nn.Module, ...]:
    """The parts that are not trained: stages up to `freeze`, and with `batch_norm` fixed all batch normalisation.

    Raises:
        ResnetlabError: see `parts_up_to`.
    """
    return (*parts_up_to(network, recipe.freeze), *(_norms(network) if recipe.batch_norm == "fixed" else ()))


def parts_up_to(network: nn.Module, name: str) -> tuple[nn.Module, ...]:
    """The stages of a network, in order, up to and including this one; `none` gives no stages.

    Of a detector they are the stages of the network that it is built on, its `trunk`.

    Raises:
        ResnetlabError: there is no such stage, or nothing would be left to train.
    """
    trunk: nn.Module = getattr(network, "trunk", network)
    parts = {child: part for child, part in trunk.named_children() if any(True for _ in part.parameters())}
    names = list(parts)
    if name == "none":
        return ()
    if name not in names[:-1]:
        raise ResnetlabError(f"cannot freeze up to {name!r}; choose one of {', '.join(names[:-1])}")
    return tuple(parts.values())[: names.index(name) + 1]


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def _last_layer(network: nn.Module) -> nn.Module:
    return [child for child in network.children() if any(True for _ in child.parameters())][-1]
