"""Tables, verdicts and figures, from made-up runs with known answers."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from resnetlab.data.class_names import CIFAR10
from resnetlab.experiments.catalogue import CATALOGUE
from resnetlab.experiments.depth import depth_record, error_table
from resnetlab.experiments.earlier import read_record
from resnetlab.experiments.experiment import Experiment
from resnetlab.experiments.imagenet import protocol_table
from resnetlab.experiments.learning_curves import experiment_figure
from resnetlab.experiments.summary import by_network, mean_and_spread
from resnetlab.experiments.verdict import depth_verdict, option_sentences
from resnetlab.networks.architecture import architecture, with_options
from resnetlab.paper import curves
from resnetlab.paper.tables import TABLE6
from resnetlab.report.figures import draw
from resnetlab.report.record import Record
from resnetlab.report.writing import write_record
from resnetlab.runs.finished import FinishedRun


def run(network: str, train: float, test: float, seed: int = 0, data: str = "cifar10") -> FinishedRun:
    recipe = {"name": "cifar", "iterations": 64_000, "batch_size": 128, "report_every": 1000, "precision": "float32"}
    config = {"recipe": recipe, "data": {"name": data, "split": "official split"}, "network": {"name": network}}
    config |= {"seed": seed}
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
    return FinishedRun(config, tuple(curve), result)


RESULTS = Path(__file__).parents[2] / "results"
DEGRADED = [
    run("cifar_resnet56", 0.05, 7.0),
    run("cifar_plain20", 1.3, 9.7),
    run("cifar_resnet20", 0.6, 8.8),
    run("cifar_plain56", 5.6, 13.2),
]


def test_the_verdict_follows_the_numbers() -> None:
    assert depth_verdict(by_network(DEGRADED)) == (
        "Depth hurt the plain networks: plain-56 ends at 5.60 % training error, plain-20 at 1.30 % (+4.30 points; "
        "test +3.50); depth helped the residual networks: ResNet-56 ends at 0.05 % training error, ResNet-20 at "
        "0.60 % (-0.55 points; test -1.80): the degradation of plain networks, and its cure."
    )


def test_the_verdict_can_go_the_other_way() -> None:
    swapped = [
        run("cifar_resnet56", 5.6, 13.2),
        run("cifar_plain20", 1.3, 9.7),
        run("cifar_resnet20", 0.6, 8.8),
        run("cifar_plain56", 1.4, 9.0),
    ]
    text = depth_verdict(by_network(swapped))
    assert "depth hurt the residual networks" in text
    assert "Depth did not hurt the plain networks" in text
    assert text.endswith("these runs do not show degradation cured by shortcuts.")


def test_the_verdict_counts_seeds() -> None:
    second = [
        run("cifar_resnet56", 0.05, 7.0, seed=1),
        run("cifar_plain20", 1.3, 9.7, seed=1),
        run("cifar_resnet20", 0.6, 8.8, seed=1),
        run("cifar_plain56", 1.2, 9.2, seed=1),
    ]
    assert depth_verdict(by_network(DEGRADED + second)).endswith("in 1 of 2 seeds.")
    assert depth_verdict(by_network(DEGRADED[:1])) == "One depth alone shows nothing about depth."


def test_depth_is_compared_within_a_kind_of_block_and_an_option() -> None:
    runs = [run("resnet34", 9.0, 9.0), run("resnet50", 8.0, 8.0), run("resnet152", 6.0, 6.0)]
    assert "ResNet-152 ends at 6.00 % training error, ResNet-50 at 8.00 %" in depth_verdict(by_network(runs))
    assert depth_verdict(by_network(runs[:2])) == "One depth alone shows nothing about depth."


def test_options_are_compared_within_a_depth() -> None:
    row, errors = architecture("resnet34"), {"A": 25.03, "B": 24.52, "C": 24.19}
    rows = {with_options(row, shortcut=option): (error,) for option, error in errors.items()}  # type: ignore[arg-type]
    (sentence,) = option_sentences(rows | {architecture("resnet50"): (22.85,)})
    assert sentence == (
        "ResNet-34 by option: A 25.03 %, B 24.52 %, C 24.19 %; C is lowest, 0.84 points below the highest."
    )


def test_only_seeds_that_both_depths_have_are_compared() -> None:
    uneven = [*DEGRADED, run("cifar_plain20", 9.0, 9.0, seed=1)]
    assert "(+4.30 points" in depth_verdict(by_network(uneven))


def test_the_table_stands_beside_the_papers() -> None:
    runs = [run("cifar_resnet110", 0.1, 6.5), run("cifar_resnet110", 0.1, 6.7, seed=1), *DEGRADED]
    table = error_table(runs, TABLE6)
    paper = "6.43 (best of 5; 6.61 ± 0.16)"
    assert list(table.rows) == [
        ("plain-20", "0.27M", "1.30", "9.70", "-", "-"),
        ("plain-56", "0.85M", "5.60", "13.20", "-", "-"),
        ("ResNet-20", "0.27M", "0.60", "8.80", "8.75", "+0.05"),
        ("ResNet-56", "0.85M", "0.05", "7.00", "6.97", "+0.03"),
        ("ResNet-110", "1.73M", "0.10 ± 0.00", "6.60 ± 0.14", paper, "-0.01 (within ± 0.14)"),
    ]
    far = error_table([run("cifar_resnet20", 0.6, 9.7), run("cifar_resnet20", 0.6, 9.8, seed=1)], TABLE6)
    assert far.rows[0][-1] == "+1.00 (beyond ± 0.07)"
    assert "10,000 test images" in table.note
    assert "a card" in table.note
    assert "last 8,000 iterations" in table.note  # as far apart as the last two points of the curve


def test_a_changed_recipe_is_said_to_be_changed() -> None:
    changed = run("cifar_resnet20", 0.6, 8.8)
    assert "Recipe: cifar, 64,000" in error_table([changed]).note
    changed.config["recipe"] |= {"precision": "bfloat16", "drops": [1, 2]}
    assert "Recipe: cifar with precision bfloat16, drops [1, 2], 64,000 iterations" in error_table([changed]).note


def test_spread_is_the_standard_deviation_of_a_run() -> None:
    assert mean_and_spread((6.0, 7.0)) == "6.50 ± 0.71"
    assert mean_and_spread((6.0,)) == "6.00"


@pytest.mark.parametrize("by_split", [False, True])
@pytest.mark.parametrize("data", ["cifar10", "elsewhere"])
def test_figures_are_drawn(tmp_path: Path, by_split: bool, data: str) -> None:
    runs = [run(r.config["network"]["name"], r.final("train"), r.final("test"), data=data) for r in DEGRADED]
    draw(
        experiment_figure([*runs, run("cifar_plain20", 2.0, 9.9, seed=1, data=data)], "title", by_split),
        tmp_path / "f",
    )
    with Image.open(tmp_path / "f.png") as image:
        assert image.size[0] > image.size[1] > 300
    text = "".join(ElementTree.parse(tmp_path / "f.svg").getroot().itertext())
    for word in ("plain-20", "ResNet-56", "iter. (1e4)", "error (%)"):
        assert word in text
    assert ("the paper's" in text) == (data == "cifar10")


def test_figures_are_the_same_for_the_same_records(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(experiment_figure(DEGRADED, "title"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_other_data_is_not_compared_with_the_papers() -> None:
    assert len(error_table([run("cifar_resnet20", 0.6, 8.8, data="cifar10-jpeg")]).header) == 4
    short = run("cifar_resnet20", 0.6, 8.8)
    short.config["recipe"]["iterations"] = 640
    assert len(error_table([short]).header) == 4


def test_the_papers_curves_stand_beside_a_shorter_schedule_by_its_share() -> None:
    def short(name: str, **recipe: object) -> FinishedRun:
        found = run(name, 5.0, 9.0, data="CIFAR-10 (JPEG)")
        config = found.config | {"data": found.config["data"] | {"classes": sorted(CIFAR10)}}
        config |= {"recipe": found.config["recipe"] | {"iterations": 6400, "drops": [3200, 4800]} | recipe}
        curve = [{**point, "step": point["step"] // 10} for point in found.curve]
        return replace(found, config=config, curve=tuple(curve))

    figure = experiment_figure([short("cifar_plain56"), short("cifar_resnet56")], "title")
    theirs = curves.figure6("cifar_plain56", "test")
    drawn = [line for line in figure.panels[0].lines if line.style == "paper"]
    assert theirs is not None
    assert drawn[1].x[-1] == pytest.approx(theirs[-1][0] * 1000)  # of 6,400 steps, in place of 64,000
    assert drawn[1].y == tuple(y for _, y in theirs)
    assert ("the paper's, 64,000 iterations scaled to these", "#888888", "paper") in figure.panels[0].legend
    assert len(error_table([short("cifar_resnet56")], TABLE6).header) == 4  # numbers are not compared
    for other in ({"drops": [1600, 4800]}, {"iterations": 9600}):
        panel = experiment_figure([short("cifar_plain56", **other)], "title").panels[0]
        assert not any(line.style == "paper" for line in panel.lines)


FIGURE6 = CATALOGUE["figure6"]
TABLE2, TABLE3 = CATALOGUE["table2"], CATALOGUE["table3"]
assert isinstance(FIGURE6, Experiment)
assert isinstance(TABLE2, Experiment)
assert isinstance(TABLE3, Experiment)


def test_records_are_for_reading_and_for_machines(tmp_path: Path) -> None:
    record = depth_record(FIGURE6, DEGRADED)
    written = write_record(record, tmp_path / "r")
    assert [path.name for path in written] == [f"figure6.{kind}" for kind in ("json", "md", "png", "svg")]
    text = (tmp_path / "r" / "figure6.md").read_text()
    assert text.startswith(f"# {FIGURE6.title}\n")
    assert "| ResNet-56 |" in text
    assert "and its cure." in text
    assert "![Figure 6: plain and residual networks of growing depth](figure6.png)" in text
    again = read_record(tmp_path / "r" / "figure6.json")
    assert again.markdown() == text
    assert again.to_json() == json.loads(json.dumps(record.to_json()))
    assert [FinishedRun.from_json(one) for one in again.runs] == DEGRADED


def by_ten_crops(network: str, train: float, one_crop: float, ten_crop: float) -> FinishedRun:
    """A run whose error by ten crops is another than that of its last report."""
    found = run(network.partition("-")[0], train, one_crop, data="digits")
    found.config["network"]["shortcut"] = network.partition("-")[2] or ("none" if "plain" in network else "B")
    about = {"protocol": "10-crop", "images": 500, "top1_error": ten_crop, "top5_error": ten_crop / 2}
    return FinishedRun(found.config, found.curve, found.result, about)


def test_a_tables_sentences_and_columns_are_of_one_protocol() -> None:
    runs = [by_ten_crops("plain18", 1.0, 50.0, 5.0), by_ten_crops("plain34", 3.0, 60.0, 6.0)]
    runs += [by_ten_crops("resnet18-A", 1.0, 40.0, 4.0), by_ten_crops("resnet34-A", 1.0, 30.0, 3.5)]
    record = TABLE2.record(TABLE2, runs, ())
    assert "(+2.00 points; test +1.00)" in record.sentences[0]
    assert "(+0.00 points; test -0.50)" in record.sentences[0]
    assert [row[3] for row in record.tables[0].rows] == ["5.00", "6.00", "4.00", "3.50"]


def test_a_table_stands_beside_its_own_rows_of_the_paper() -> None:
    runs = [by_ten_crops("resnet34-A", 1.0, 40.0, 4.0)]
    assert protocol_table(TABLE2, runs).rows[0][-2:] == ("25.03", "-")
    assert protocol_table(TABLE3, runs).rows[0][-2:] == ("25.03", "7.76")


def test_a_verdict_names_the_networks_that_it_compared() -> None:
    runs = [by_ten_crops("resnet34-A", 9.0, 9.0, 9.0), by_ten_crops("resnet34-B", 9.0, 9.0, 9.0)]
    runs += [by_ten_crops("resnet50", 8.0, 8.0, 8.0), by_ten_crops("resnet152", 6.0, 6.0, 6.0)]
    text = depth_verdict(by_network(runs))
    assert text.startswith("Depth helped the residual networks of bottleneck blocks: ResNet-152")
    assert "ResNet-34" not in text


@pytest.mark.parametrize(
    ("plain56", "said"),
    [
        ((5.6, 5.0), "the degradation of plain networks, and its cure, in all 2 seeds."),
        ((5.6, 1.3), "the degradation of plain networks, and its cure, in 1 of 2 seeds."),
        ((1.3, 1.4), "these runs do not show degradation cured by shortcuts, in any of 2 seeds."),
    ],
)
def test_a_verdict_says_in_how_many_seeds(plain56: tuple[float, float], said: str) -> None:
    runs = []
    for seed, error in enumerate(plain56):
        runs += [run("cifar_plain20", 1.3, 9.7, seed), run("cifar_plain56", error, 13.2, seed)]
        runs += [run("cifar_resnet20", 0.6, 8.8, seed), run("cifar_resnet56", 0.1, 7.0, seed)]
    assert depth_verdict(by_network(runs)).endswith(said)


def test_differences_within_the_spread_over_seeds_are_said_to_be() -> None:
    row = architecture("resnet34")
    rows = {with_options(row, shortcut="A"): (25.0, 26.0), with_options(row, shortcut="B"): (25.2, 26.1)}
    assert "which is within the spread over seeds, ± 0.71" in option_sentences(rows)[0]
    runs = [run("cifar_plain20", 1.0, 9.0), run("cifar_plain20", 1.0, 9.0, 1)]
    runs += [run("cifar_plain56", 9.0, 9.0), run("cifar_plain56", 1.0, 9.0, 1)]
    assert depth_verdict(by_network(runs)).startswith("Depth did not hurt the plain networks")


RECORDS = [path for path in sorted(RESULTS.glob("*/*.json")) if path.stem != "cost"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_pages_of_results_are_made_from_their_records(path: Path) -> None:
    record = read_record(path)
    assert path.with_suffix(".md").read_text() == record.markdown()
    assert path.with_suffix(".png").exists()
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


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
