"""A record: tables, figures and sentences, with the runs or measurements behind them."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from resnetlab.errors import ResnetlabError
from resnetlab.files import in_form

FORMAT = 2
NUMBER = re.compile(r"[-+]?\d[\d.,:]*(\s|[%MGTk(±]|e\d|$)|-?$")  # with a unit, a spread or a remark; or empty


@dataclass(frozen=True)
class Table:
    """Text cells under a header, with a note on how the numbers were obtained."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    title: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column, whether all its cells begin with a number."""
        return tuple(all(NUMBER.match(row[k]) for row in self.rows) for k in range(len(self.header)))

    def markdown(self) -> str:
        """The table as Markdown, with its title above and its note below."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        text = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
        above = f"## {self.title}\n\n" if self.title else ""
        return f"{above}{text}\n" + (f"\n{self.note}\n" if self.note else "")


@dataclass(frozen=True)
class Line:
    """A line or points; `low` and `high` are a band around them, `notes` are texts next to the points.

    `style` is one of STYLES in report/figures.py. A line without a label is not in the legend.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str = ""
    colour: str = "#888888"
    style: str = "test"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bar:
    """One segment of a stacked bar: its place on the x axis, its height, its label in the legend."""

    place: float
    height: float
    label: str
    colour: str
    width: float = 0.38


@dataclass(frozen=True)
class Panel:
    """One plot. `legend` has additional entries as (label, colour, style)."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    ticks: tuple[str, ...] = ()
    """Labels of the positions 0, 1, ... on the x axis."""
    legend: tuple[tuple[str, str, str], ...] = ()
    right: float | None = None
    """End of the x axis."""
    top: float | None = None
    """End of the y axis."""
    left: float | None = None
    """Start of the x axis. Default: 0 if `right` is given."""
    bottom: float | None = None
    """Start of the y axis. Default: 0, or the lowest value on a logarithmic axis."""
    log: bool = False
    """Whether the y axis is logarithmic."""
    grid: tuple[tuple[float, ...], ...] = ()
    """Values on a regular grid, row by row from the bottom, drawn as filled contours between the four limits."""


@dataclass(frozen=True)
class Figure:
    """Panels side by side; `share` gives them one y axis. `size` is a panel's width and height in inches.

    `below` puts one legend for all panels under them.
    """

    title: str
    panels: tuple[Panel, ...]
    share: bool = True
    size: tuple[float, float] = (4.1, 3.6)
    below: bool = False


@dataclass(frozen=True)
class Record:
    """All results of an experiment or a study. `name` is the name of its files.

    `runs` are the runs behind the numbers (configuration, result and curve of each), `data` the measurements of a
    study. A later version can make tables and figures from them again.
    """

    name: str
    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    runs: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """The record as Markdown, with links to its pictures."""
        parts = [f"# {self.title}"]
        parts += [" ".join(self.sentences)] if self.sentences else []
        for number, figure in enumerate(self.figures):
            text = (figure.title.splitlines() or [""])[0]
            parts.append(f"![{text}]({self.picture(number)}.png)")
        parts += [table.markdown().rstrip() for table in self.tables]
        return "\n\n".join(parts) + "\n"

    def picture(self, number: int) -> str:
        """The file name of a figure, without suffix."""
        return self.name if number == 0 else f"{self.name}-{number + 1}"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON."""
        return {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Record":
        """The inverse of `to_json`.

        Raises:
            ResnetlabError: `content` is not a record of this format; names the part.
        """
        if content.get("format") != FORMAT:
            raise ResnetlabError(f"a record of format {content.get('format')}; this resnetlab reads {FORMAT}")
        record = in_form(content, cls, "no record")
        for table in record.tables:
            if odd := next((row for row in table.rows if len(row) != len(table.header)), None):
                raise ResnetlabError(f"no record: a row of {len(odd)} cells in a table of {len(table.header)}")
        return record
