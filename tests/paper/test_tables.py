"""What the paper prints agrees with itself."""

import pytest

from resnetlab.paper.tables import COUNTS, TABLE1, TABLE1_STAGES, TABLE2, TABLE3, TABLE4, TABLE6, TABLES


def error(table, method: str) -> float:
    return next(row.top1_error for row in table if row.method == method)


def test_table_2_and_3_share_their_cells() -> None:
    assert error(TABLE2, "plain-34") == error(TABLE3, "plain-34") == 28.54
    assert error(TABLE2, "ResNet-34") == error(TABLE3, "ResNet-34 A") == 25.03


def test_stated_differences() -> None:
    assert error(TABLE2, "ResNet-18") - error(TABLE2, "ResNet-34") == pytest.approx(2.85)
    assert error(TABLE2, "plain-34") - error(TABLE2, "ResNet-34") == pytest.approx(3.51)


def test_multi_scale_testing_beats_ten_crops() -> None:
    for name in ("ResNet-34 B", "ResNet-34 C", "ResNet-50", "ResNet-101", "ResNet-152"):
        assert error(TABLE4, name) < error(TABLE3, name)


def test_every_number_has_its_table_and_protocol() -> None:
    for number, rows in TABLES.items():
        assert all(row.table == number and row.protocol for row in rows)
    assert len(TABLE6) == 12


def test_the_layers_of_table_1_are_as_many_as_its_columns_say() -> None:
    for printed in TABLE1:
        rows = [row for row in TABLE1_STAGES if row.network == printed.network]
        assert sum(row.repeats * len(row.layers) for row in rows) == printed.layers
        assert [row.output for row in rows] == [112, 56, 28, 14, 7, 1]


def test_figure_3_and_table_1_agree_on_34_layers() -> None:
    (residual,) = [row for row in COUNTS if row.network == "resnet34"]
    assert residual.multiply_adds == next(row.multiply_adds for row in TABLE1 if row.layers == 34)
