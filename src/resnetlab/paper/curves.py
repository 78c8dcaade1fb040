"""The curves of Figures 1, 4, 6 and 7, read off the vector paths of the paper's PDF.

The reading error is at most 0.03 % in Figures 1 and 6 and 0.06 % in Figure 4.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

Curve = Sequence[Sequence[float]]
"""Points (x, y): iterations in units of 10,000 and error in percent; in Figure 7 layer index and std."""


@cache
def panels() -> dict[str, dict[str, Curve]]:
    """Curves by panel ("fig6_left") and by the paper's own label ("plain-20 test")."""
    text = files("resnetlab.paper").joinpath("figures.json").read_text()
    return {name: panel for name, panel in json.loads(text).items() if isinstance(panel, dict)}


def paper_curve(network: str, shortcut: str, split: str) -> Curve | None:
    """A network's curve in Figure 4 or 6; `split` is "train" or "test" (for ImageNet its validation set)."""
    if network.startswith("cifar_"):
        return figure6(network, split) if shortcut in ("none", "A") else None
    return figure4(network, shortcut, "val" if split == "test" else split)


def figure6(network: str, split: str) -> Curve | None:
    """A CIFAR network's curve of Figure 6 over all iterations; `split` is "train" or "test".

    ResNet-1202 is only in the right panel, from 35,000 iterations on; plain-110 is in none.
    """
    label = f"{_label(network)} {split}"
    return next(
        (panels()[p][label] for p in ("fig6_left", "fig6_middle", "fig6_right") if label in panels()[p]), None
    )


def figure7(network: str, *, ordered: bool = False) -> Curve | None:
    """Standard deviations of a CIFAR network's layer responses in Figure 7, by layer, or in descending order.

    Points are (layer number, standard deviation); some layers are missing where curves hide each other.
    """
    return panels()["fig7_bottom" if ordered else "fig7_top"].get(_label(network))


def figure4(network: str, shortcut: str, split: str) -> Curve | None:
    """An ImageNet network's curve of Figure 4 up to 550,000 iterations; `split` is "train" or "val" (centre crop).

    The figure's residual networks use option A.
    """
    if shortcut not in ("none", "A"):
        return None
    label = f"{_label(network)} {split}"
    return next((panels()[p][label] for p in ("fig4_left", "fig4_right") if label in panels()[p]), None)


def _label(network: str) -> str:
    """The paper's way of writing it: plain-20, ResNet-56."""
    return network.removeprefix("cifar_").replace("plain", "plain-").replace("resnet", "ResNet-")
