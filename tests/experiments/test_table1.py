"""The page of Table 1, from the computed record and from a record with known faults."""

import copy
import json

from resnetlab.experiments.table1 import block_text, count_table, stage_table, structure_record, verdict
from resnetlab.report.record import Record


def test_verdict(structure: dict) -> None:
    assert verdict(structure) == (
        "30 of 30 rows of Table 1 are as built here, and 8 of 9 printed counts of multiply-adds are a computed one "
        "rounded. The 50-layer network's 3.8e9 is 3.858e9 here: that is cut, not rounded. The conventions of VGG's "
        "counts: VGG-19's is convolutions and fully connected layers, VGG-16's is convolutions alone. The 34-layer "
        "plain network has 18.56 % of VGG-19's multiply-adds; Section 3.3 prints 18 % (cut, not rounded)."
    )


def test_a_difference_is_told(structure: dict) -> None:
    faulty = copy.deepcopy(structure)
    faulty["stages"][3]["computed"]["repeats"] = 5
    faulty["counts"][0] |= {"agreement": "differs", "multiply_adds": 2_000_000_000}
    faulty["counts"][1] |= {"agreement": "differs", "multiply_adds": 2_100_000_000}
    assert "29 of 30 rows" in verdict(faulty)
    assert "The 18-layer network's 1.8e9 is 2.000e9 here: another value." in verdict(faulty)
    assert [row[-1] for row in stage_table(faulty).rows].count("differs") == 1


def test_rows_read_like_table_1(structure: dict) -> None:
    texts = {(pair["printed"]["network"], pair["printed"]["stage"]): pair["printed"] for pair in structure["stages"]}
    assert block_text(texts["resnet50", "conv1"]) == "112x112: 7x7, 64, stride 2"
    assert block_text(texts["resnet50", "conv2_x"]) == (
        "56x56: 3x3 max pool, stride 2; [1x1, 64; 3x3, 64; 1x1, 256] x3"
    )
    assert block_text(texts["resnet152", "conv4_x"]) == "14x14: [1x1, 256; 3x3, 256; 1x1, 1024] x36, stride 2"
    assert block_text(texts["resnet18", "fc"]) == "1x1: average pool, 1000-d fc, softmax"


def test_the_record_is_whole_and_goes_through_json(structure: dict) -> None:
    made = structure_record(structure)
    assert len(count_table(structure).rows) == 17
    assert "differs" not in [row[-1] for row in stage_table(structure).rows]
    assert Record.from_json(json.loads(json.dumps(made.to_json()))).markdown() == made.markdown()
    assert "## Layers" in made.markdown()
    assert "## Multiply-adds" in made.markdown()
