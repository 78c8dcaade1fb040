"""What is printed at 80 columns: no number is broken, no step is lost."""

import io
import re

import pytest
from rich.console import Console

from resnetlab.cli.terminal import Monitor, grid
from resnetlab.report.record import Table
from resnetlab.runs.progress import Progress
from resnetlab.tasks.classification import CLASSIFICATION

WIDE = Table(
    ("network", "params", "training error %", "top-1 error %", "top-5 error %", "paper top-1", "paper top-5"),
    tuple(
        (f"ResNet-{n} B", "58.16M", "12.34 ± 0.56", "21.43 ± 0.16", "5.71 ± 0.08", "21.43", "5.71") for n in (34, 152)
    ),
)


def printed(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(grid(table, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_numbers_are_whole_at_any_width(width: int) -> None:
    text = printed(WIDE, width)
    assert max(map(len, text.splitlines())) <= width
    for cell in (cell for row in WIDE.rows for cell in row[1:]):
        assert cell in text
    for word in " ".join(WIDE.header).split():
        assert word in text


def test_text_is_wrapped_between_words() -> None:
    rows = (("ResNet-18", "56x56: 3x3 max pool, stride 2; [3x3, 64; 3x3, 64] x2", "same"),)
    text = printed(Table(("network", "printed", "agreement"), rows), 50)
    assert "ResNet-18" in text
    assert "agreement" in text
    assert text.count("│ ResNet-18") == 1
    assert len(text.splitlines()) < 10


def test_the_step_and_the_time_left_stay_at_80_columns() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    label = "a network of a rather long name"
    with Monitor(console) as monitor:
        monitor.show(
            label, Progress(12_345, 64_000, CLASSIFICATION.headline, 12.3, 45.6, speed="999 images/s", left=3723.0)
        )
        assert isinstance(console.file, io.StringIO)
        monitor._bars.refresh()
    shown = console.file.getvalue()
    assert "12345/64000" in shown
    assert "1:02:03 left" in shown


def test_labels_are_whole_at_80_columns() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    labels = ("plain-20", "ResNet-56, seed 12")
    with Monitor(console) as monitor:
        for label in labels:
            monitor.expect(label, 1000)
        at = Progress(619, 1000, CLASSIFICATION.headline, 0.03, 0.20, speed="498 images/s", left=95.0)
        monitor.show(labels[0], at)
        assert isinstance(console.file, io.StringIO)
        monitor._bars.refresh()
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue()).splitlines()[-3:]
    (running,) = (line for line in last if "619/1000" in line)
    assert re.search(r"plain-20 +619/1000 +0:01:35 left +training error  0\.03 %", running)
    assert re.search(r"ResNet-56, seed 12 +0/1000 +waiting", last[-1])
