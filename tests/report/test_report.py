"""Tables, verdicts and figures, from made-up records with known answers."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from resnetlab.networks.resnet import architecture, with_options
from resnetlab.paper import curves
from resnetlab.report import protocols
from resnetlab.report.figures import draw_curves
from resnetlab.report.records import Record, by_network, mean_and_spread
from resnetlab.report.tables import error_table, page, read_report, write_report
from resnetlab.report.verdict import option_sentences, verdict


def record(network: str, train: float, test: float, seed: int = 0, data: str = "cifar10") -> Record:
    recipe = {"name": "cifar", "iterations": 64_000, "batch_size": 128, "report_every": 1000, "precision": "float32"}
    config = {"recipe": recipe, "data": {"name": data, "split": "official split"}, "network": {"name": network}}
    curve = [
        {"step": step, "train_error": train + 90 - step / 800, "test_error": test + 45 - step / 1600}
        for step in range(8000, 72_000, 8000)
    ]
    curve[-1] |= {"train_error": train, "test_error": test}
    result = {
        "train_error": train,
        "test_error": test,
        "protocol": "single view, last iteration",
        "test_images": 10_000,
        "environment": {"device": "a card"},
    }
    return Record(network, seed, data, config, curve, result)


RESULTS = Path(__file__).parents[2] / "results"
DEGRADED = [
    record("cifar_resnet56", 0.05, 7.0),
    record("cifar_plain20", 1.3, 9.7),
    record("cifar_resnet20", 0.6, 8.8),
    record("cifar_plain56", 5.6, 13.2),
]


def test_the_verdict_follows_the_numbers() -> None:
    assert verdict(by_network(DEGRADED)) == (
        "Depth hurt the plain networks: plain-56 ends at 5.60 % training error, plain-20 at 1.30 % (+4.30 points; "
        "test +3.50); depth helped the residual networks: ResNet-56 ends at 0.05 % training error, ResNet-20 at "
        "0.60 % (-0.55 points; test -1.80): the degradation of plain networks, and its cure."
    )


def test_the_verdict_can_go_the_other_way() -> None:
    swapped = [
        record("cifar_resnet56", 5.6, 13.2),
        record("cifar_plain20", 1.3, 9.7),
        record("cifar_resnet20", 0.6, 8.8),
        record("cifar_plain56", 1.4, 9.0),
    ]
    text = verdict(by_network(swapped))
    assert "depth hurt the residual networks" in text
    assert "Depth did not hurt the plain networks" in text
    assert text.endswith("these runs do not show degradation cured by shortcuts.")


def test_the_verdict_counts_seeds() -> None:
    second = [
        record("cifar_resnet56", 0.05, 7.0, seed=1),
        record("cifar_plain20", 1.3, 9.7, seed=1),
        record("cifar_resnet20", 0.6, 8.8, seed=1),
        record("cifar_plain56", 1.2, 9.2, seed=1),
    ]
    assert verdict(by_network(DEGRADED + second)).endswith("in 1 of 2 seeds.")
    assert verdict(by_network(DEGRADED[:1])) == "One depth alone shows nothing about depth."


def test_depth_is_compared_within_a_kind_of_block_and_an_option() -> None:
    runs = [record("resnet34", 9.0, 9.0), record("resnet50", 8.0, 8.0), record("resnet152", 6.0, 6.0)]
    assert "ResNet-152 ends at 6.00 % training error, ResNet-50 at 8.00 %" in verdict(by_network(runs))
    assert verdict(by_network(runs[:2])) == "One depth alone shows nothing about depth."


def test_options_are_compared_within_a_depth() -> None:
    row, errors = architecture("resnet34"), {"A": 25.03, "B": 24.52, "C": 24.19}
    rows = {with_options(row, shortcut=option): error for option, error in errors.items()}  # type: ignore[arg-type]
    (sentence,) = option_sentences(rows | {architecture("resnet50"): 22.85})
    assert sentence == (
        "ResNet-34 by option: A 25.03 %, B 24.52 %, C 24.19 %; C is lowest, 0.84 points below the highest."
    )


def test_only_seeds_that_both_depths_have_are_compared() -> None:
    uneven = [*DEGRADED, record("cifar_plain20", 9.0, 9.0, seed=1)]
    assert "(+4.30 points" in verdict(by_network(uneven))


def test_the_table_stands_beside_the_papers() -> None:
    runs = [record("cifar_resnet110", 0.1, 6.5), record("cifar_resnet110", 0.1, 6.7, seed=1), *DEGRADED]
    table = error_table(runs)
    paper = "6.43 (best of 5; 6.61 ± 0.16)"
    assert table.rows == [
        ("plain-20", "0.27M", "1.30", "9.70", "-", "-"),
        ("plain-56", "0.85M", "5.60", "13.20", "-", "-"),
        ("ResNet-20", "0.27M", "0.60", "8.80", "8.75", "+0.05"),
        ("ResNet-56", "0.85M", "0.05", "7.00", "6.97", "+0.03"),
        ("ResNet-110", "1.73M", "0.10 ± 0.00", "6.60 ± 0.14", paper, "-0.01 (within ± 0.14)"),
    ]
    far = error_table([record("cifar_resnet20", 0.6, 9.7), record("cifar_resnet20", 0.6, 9.8, seed=1)])
    assert far.rows[0][-1] == "+1.00 (beyond ± 0.07)"
    assert "10,000 test images" in table.protocol
    assert "a card" in table.protocol
    assert "last 8,000 iterations" in table.protocol  # as far apart as the last two points of the curve


def test_a_changed_recipe_is_said_to_be_changed() -> None:
    run = record("cifar_resnet20", 0.6, 8.8)
    assert "Recipe: cifar, 64,000" in error_table([run]).protocol
    run.config["recipe"] |= {"precision": "bfloat16", "drops": [1, 2]}
    assert "Recipe: cifar with precision bfloat16, drops [1, 2], 64,000 iterations" in error_table([run]).protocol


def test_spread_is_the_standard_deviation_of_a_run() -> None:
    assert mean_and_spread((6.0, 7.0)) == "6.50 ± 0.71"
    assert mean_and_spread((6.0,)) == "6.00"


@pytest.mark.parametrize("train_left", [False, True])
@pytest.mark.parametrize("with_paper", [False, True])
def test_figures_are_drawn(tmp_path: Path, train_left: bool, with_paper: bool) -> None:
    draw_curves(
        [*DEGRADED, record("cifar_plain20", 2.0, 9.9, seed=1)], tmp_path / "f", "title", with_paper, train_left
    )
    with Image.open(tmp_path / "f.png") as image:
        assert image.size[0] > image.size[1] > 300
    text = "".join(ElementTree.parse(tmp_path / "f.svg").getroot().itertext())
    for word in ("plain-20", "ResNet-56", "iter. (1e4)", "error (%)"):
        assert word in text
    assert ("the paper's" in text) == with_paper


def test_figures_are_the_same_for_the_same_records(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_curves(DEGRADED, tmp_path / name, "title", with_paper=True)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_other_data_is_not_compared_with_the_papers() -> None:
    assert len(error_table([record("cifar_resnet20", 0.6, 8.8, data="cifar10-jpeg")]).header) == 4
    short = record("cifar_resnet20", 0.6, 8.8)
    short.config["recipe"]["iterations"] = 640
    assert len(error_table([short]).header) == 4


def test_reports_are_for_reading_and_for_machines(tmp_path: Path) -> None:
    write_report(DEGRADED, tmp_path / "r" / "figure6", "Figure 6")
    text = (tmp_path / "r" / "figure6.md").read_text()
    assert text.startswith("# Figure 6\n")
    assert "| ResNet-56 |" in text
    assert "and its cure." in text
    assert read_report(tmp_path / "r" / "figure6.json") == ("Figure 6", DEGRADED)


RECORDS = {path: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*/*.json"))}
TESTED = [path for path, record in RECORDS.items() if "tables" in record]
TRAINED = [path for path, record in RECORDS.items() if "runs" in record and path not in TESTED]


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_pages_of_results_are_made_from_their_records(path: Path) -> None:
    title, records = read_report(path)
    assert path.with_suffix(".md").read_text() == page(records, title)


@pytest.mark.parametrize("path", TESTED, ids=lambda path: path.stem)
def test_pages_of_tables_are_made_from_their_records(path: Path) -> None:
    assert path.with_suffix(".md").read_text() == protocols.page(RECORDS[path], path.stem)
    assert path.with_suffix(".png").exists()


@pytest.mark.parametrize(
    ("network", "split", "last", "tolerance"),
    [
        ("cifar_plain20", "test", 9.7, 0.1),
        ("cifar_plain56", "train", 5.9, 0.1),
        ("cifar_resnet20", "test", 8.78, 0.03),
        ("cifar_resnet110", "test", 6.55, 0.03),
        ("cifar_resnet1202", "test", 7.88, 0.03),
    ],
)
def test_the_papers_curves_end_where_it_says(network: str, split: str, last: float, tolerance: float) -> None:
    curve = curves.figure6(network, split)
    assert curve is not None
    assert curve[-1][0] > 6.2
    assert abs(curve[-1][1] - last) < tolerance


def test_figure_1_is_figure_6_left() -> None:
    for label, points in curves.panels()["fig1_left_train"].items():
        again = curves.panels()["fig6_left"][label]
        assert abs(points[-1][1] - again[-1][1]) < 0.05
    assert curves.figure6("cifar_plain110", "test") is None
