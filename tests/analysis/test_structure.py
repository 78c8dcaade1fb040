"""Printed structure and counts against the networks as they are built, and VGG's arithmetic against torchvision's."""

import pytest

from resnetlab.analysis.structure import Count, agreement, counts, table1_rows, vgg_cost
from resnetlab.networks.architecture import architecture
from resnetlab.networks.measure import parameter_count
from resnetlab.paper.tables import COUNTS, TABLE1, TABLE1_STAGES

EXACT = {  # multiply-adds of one image of 224x224, as other implementations count them
    ("18-layer", "option A, the same as plain"): 1_794_805_760,
    ("18-layer", "option B"): 1_814_073_344,
    ("34-layer", "option A, the same as plain"): 3_644_493_824,
    ("34-layer", "option B"): 3_663_761_408,
    ("50-layer", "option B, stride on the first 1x1 (v1)"): 3_857_973_248,
    ("50-layer", "option B, stride on the 3x3 (v1.5)"): 4_089_184_256,
    ("101-layer", "option B, stride on the first 1x1 (v1)"): 7_570_194_432,
    ("101-layer", "option B, stride on the 3x3 (v1.5)"): 7_801_405_440,
    ("152-layer", "option B, stride on the first 1x1 (v1)"): 11_282_415_616,
    ("152-layer", "option B, stride on the 3x3 (v1.5)"): 11_513_626_624,
    ("34-layer plain", "no shortcuts"): 3_644_493_824,
    ("34-layer residual", "option A, the same as plain"): 3_644_493_824,
    ("34-layer residual", "option B"): 3_663_761_408,
    ("VGG-16", "convolutions alone"): 15_346_630_656,
    ("VGG-16", "convolutions and fully connected layers"): 15_470_264_320,
    ("VGG-19", "convolutions alone"): 19_508_428_800,
    ("VGG-19", "convolutions and fully connected layers"): 19_632_062_464,
}


@pytest.fixture(scope="module")
def computed() -> list[Count]:
    return counts()


@pytest.mark.parametrize("printed", TABLE1_STAGES, ids=lambda row: f"{row.network}-{row.stage}")
def test_table_1_is_what_is_built(printed) -> None:
    assert printed in table1_rows(architecture(printed.network))


def test_no_row_of_a_network_is_missing_from_table_1() -> None:
    for name in dict.fromkeys(row.network for row in TABLE1_STAGES):
        assert table1_rows(architecture(name)) == [row for row in TABLE1_STAGES if row.network == name]


def test_a_printed_row_that_is_not_built_is_told() -> None:
    rows = table1_rows(architecture("plain18"))
    assert [row.repeats for row in rows] == [1, 2, 2, 2, 2, 1]
    assert rows[1:5] != [row for row in TABLE1_STAGES if row.network == "resnet34"][1:5]


@pytest.mark.parametrize("row", [*TABLE1, *COUNTS], ids=lambda row: row.method)
def test_printed_counts_follow_from_the_networks(row, computed) -> None:
    found = {
        count.agreement for count in computed if (count.method, count.printed) == (row.method, row.multiply_adds)
    }
    assert ("cut" if row.method == "50-layer" else "rounds") in found
    assert row.method != "50-layer" or "rounds" not in found


def test_counts_are_exact(computed) -> None:
    assert {(count.method, count.convention): count.multiply_adds for count in computed} == EXACT


@pytest.mark.parametrize(
    ("printed", "exact", "word"),
    [
        (3.8e9, 3_857_973_248, "cut"),
        (3.6e9, 3_644_493_824, "rounds"),
        (3.6e9, 3_550_000_001, "rounds"),
        (3.6e9, 3_700_000_000, "differs"),
        (3.6e9, 3_540_000_000, "differs"),
        (11.3e9, 11_282_415_616, "rounds"),
    ],
)
def test_agreement(printed: float, exact: int, word: str) -> None:
    assert agreement(printed, exact) == word


@pytest.mark.parametrize("depth", [16, 19])
def test_vgg_against_torchvision(depth: int) -> None:
    models = pytest.importorskip("torchvision.models")
    torch = pytest.importorskip("torch")
    from resnetlab.networks.measure import layer_costs

    with torch.device("meta"):
        peer = getattr(models, f"vgg{depth}")()
    cost = vgg_cost(depth)
    assert cost.parameters == parameter_count(peer)
    layers = layer_costs(peer, (3, 224, 224))
    assert cost.convolutions == sum(layer.multiply_adds for layer in layers if layer.name.startswith("features"))
    assert cost.fully_connected == sum(layer.multiply_adds for layer in layers if layer.name.startswith("classifier"))


def test_the_share_of_section_3_3(structure: dict) -> None:
    share = structure["plain34_percent_of_vgg19"]
    assert share["computed"] == pytest.approx(18.564, abs=1e-3)
    assert share["agreement"] == "cut"
