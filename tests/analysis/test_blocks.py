"""Blocks are found, exchanged and put back; what cannot be deleted is known."""

import pytest
import torch

from resnetlab.analysis.blocks import blocks, exchanged, need_shortcuts, without_function
from resnetlab.errors import ResnetlabError
from resnetlab.networks.architecture import parse
from resnetlab.networks.inference import fused
from resnetlab.networks.resnet import build


@pytest.mark.parametrize(
    ("name", "deletable"),
    [
        ("cifar_plain20", 7),
        ("cifar_resnet20", 9),
        ("cifar_resnet20-B", 9),
        ("resnet18", 8),
        ("plain18", 5),
        ("resnet50", 16),
    ],
)
def test_blocks_of_plain_networks_that_change_the_shape_cannot_be_deleted(name: str, deletable: int) -> None:
    found = blocks(build(name, narrow=4))
    assert sum(without_function(block) is not None for block in found) == deletable
    changing = [block.name for block in found if not block.keeps_shape]
    stages = range(1 if name == "resnet50" else 2, 5 if "cifar" not in name else 4)
    assert changing == [f"layer{k}.0" for k in stages]


def test_a_deleted_block_is_its_shortcut_and_comes_back() -> None:
    network = build("cifar_resnet8", narrow=4).eval()
    x = torch.randn(2, 3, 8, 8)
    before, kept = network(x), blocks(network)
    skip = without_function(kept[1])
    assert skip is not None
    with exchanged({kept[1]: skip}):
        assert not torch.equal(network(x), before)
        torch.nn.init.zeros_(kept[1].module.bn2.weight)
        zeroed = network(x)
    assert torch.equal(network(x), zeroed)  # F(x) = 0 is the same as no F(x)
    assert blocks(network) == kept


def test_other_modules_and_plain_networks_are_refused() -> None:
    with pytest.raises(ResnetlabError, match="not a block of the paper"):
        blocks(fused(build("cifar_resnet8").eval()))
    with pytest.raises(ResnetlabError, match="plain-20 has no shortcuts; a lesion needs a residual network"):
        need_shortcuts(parse("cifar_plain20"), "a lesion")
