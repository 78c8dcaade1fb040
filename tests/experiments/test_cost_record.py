"""The cost study's page and picture, from made-up records with known answers."""

import copy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from resnetlab.experiments.cost import compared, cost_record, network_table, ratios, share_table, verdict
from resnetlab.experiments.earlier import read_record
from resnetlab.report.writing import write_record

RESULTS = Path(__file__).parents[2] / "results" / "cost-cpu"


def entry(work: int, forward: float, training: float) -> dict:
    return {"multiply_adds": work, "training_multiply_adds": 3 * work, "forward": forward, "training": training}


def network(label: str, work: int, forward: list[float], training: list[float], norm: float) -> dict:
    kinds = {
        "3x3 conv": entry(work, forward[1] - norm, training[1] - 4 * norm),
        "batch norm": entry(0, norm, 3 * norm),
        "SGD step": entry(0, 0.0, norm / 2),
        "rest": entry(0, 0.0, norm / 2),
    }
    stages = {"conv1": entry(work // 4, forward[1] / 4, 0.2), "fc": entry(work - work // 4, forward[1] * 3 / 4, 0.8)}
    found = {"label": label, "image_size": 224, "parameters": 10, "multiply_adds": work}
    return found | {"forward": forward, "training": training, "kinds": kinds, "stages": stages}


@pytest.fixture
def record() -> dict:
    return {
        "settings": {"batch_size": 10, "rounds": 3, "precision": "float32", "clock": "time that passes"},
        "environment": {"device": "a card", "threads": 1, "torch": "2"},
        "reference": {"layer": "layer", "forward_per_second": 2e11, "training_per_second": 1e11},
        "networks": {
            "resnet34": network("ResNet-34", 4_000_000_000, [1.0, 1.0, 2.0], [3.0, 3.0, 6.0], 0.1),
            "resnet50": network("ResNet-50", 4_200_000_000, [1.5, 1.6, 3.4], [6.0, 6.3, 12.6], 0.3),
            "resnet50-v1.5": network("ResNet-50 v1.5", 4_400_000_000, [1.5, 1.7, 3.4], [6.0, 6.4, 13.0], 0.3),
        },
    }


def test_verdict(record: dict) -> None:
    assert verdict(record) == (
        "ResNet-50 does 1.05 times ResNet-34's multiply-adds in 1.60 times (1.50 to 1.70 in 3 rounds) its time "
        "forward and 2.10 times (2.00 to 2.10 in 3 rounds) in training: in both more than its multiply-adds tell. "
        "Forward an image takes +60.0 ms: convolutions and fc +40.0, batch normalisation +20.0, all else +0.0. "
        "In training an image takes +330.0 ms: convolutions and fc +250.0, batch normalisation +60.0, all else +20.0."
    )


def test_the_verdict_can_go_other_ways(record: dict) -> None:
    record["networks"]["resnet50"] |= {"forward": [1.05, 1.05, 2.1], "training": [2.0, 2.0, 4.0]}
    assert "forward what its multiply-adds tell, in training less than its multiply-adds tell" in verdict(record)
    alone = record | {"networks": {"resnet50": record["networks"]["resnet50"]}}
    assert verdict(alone) == "One network alone has nothing to be compared with."


def test_whom_the_sentence_is_about(record: dict) -> None:
    networks = record["networks"]
    assert compared(record) == ("resnet34", "resnet50")
    assert compared({"networks": {"resnet50": networks["resnet50"], "a": networks["resnet34"]}}) == ("resnet50", "a")
    assert compared({"networks": {"a": networks["resnet34"], "b": networks["resnet50"]}}) == ("a", "b")


def test_tables(record: dict) -> None:
    assert ratios(record, "resnet50", "forward") == [1.5, 1.6, 1.7]
    rows = network_table(record).rows
    assert rows[1] == ("ResNet-50", "4.200", "1.05", "160.00", "1.60", "26.2", "630.00", "2.10", "20.0")
    kinds = share_table(record, "resnet34", "kinds", "by kind").rows
    assert kinds[0] == ("3x3 conv", "100.0", "90.00", "90.0", "44.4", "260.00", "86.7", "46.2")
    assert kinds[1] == ("batch norm", "0.0", "10.00", "10.0", "-", "30.00", "10.0", "-")
    assert share_table(record, "resnet34", "stages", "by stage").rows[0][1:4] == ("25.0", "25.00", "25.0")


def test_page_and_picture(tmp_path: Path, record: dict) -> None:
    record["networks"]["resnet34"]["kinds"]["rest"]["forward"] = -0.01  # an error of measurement
    before = copy.deepcopy(record)
    made = cost_record(record)
    written = write_record(made, tmp_path)
    assert [path.name for path in written] == ["cost.json", "cost.md", "cost.png", "cost.svg"]
    assert (tmp_path / "cost.md").read_text() == read_record(tmp_path / "cost.json").markdown()
    with Image.open(tmp_path / "cost.png") as image:
        assert image.width > 1000
    text = " ".join(ElementTree.parse(tmp_path / "cost.svg").getroot().itertext())
    for words in ("ResNet-34", "version 1.5", "batch norm", "forward", "multiply-adds of one image (1e9)"):
        assert words in text
    assert record == before


def test_a_record_of_an_earlier_version_is_read() -> None:
    record = read_record(RESULTS / "cost.json")
    assert record.sentences[0].startswith("ResNet-50 does 1.05 times ResNet-34's multiply-adds")
    assert (RESULTS / "cost.md").read_text() == record.markdown()
