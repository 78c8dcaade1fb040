"""Write a page of records: one HTML file that needs no server and no network.

Its policy (Content-Security-Policy) lets it load nothing: pictures are in the file, and the hashes of its only script
and style are in the policy. Without scripts the figures are static pictures.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from resnetlab.data.preprocessing import read_image
from resnetlab.errors import ResnetlabError
from resnetlab.files import replacing
from resnetlab.report.charts import chart, values
from resnetlab.report.figures import rendered
from resnetlab.report.inline import data_url, policy
from resnetlab.report.record import Figure, Record

WEB = files("resnetlab.report") / "web"
WIDEST = 1100  # pixels of a picture
QUALITY = 80
SCRIPTS = "uPlot.iife.min.js", "page.js"
STYLES = "uPlot.min.css", "page.css"


@dataclass(frozen=True)
class Picture:
    """An image beside a record; `caption` says what it shows."""

    caption: str
    file: Path

    def encoded(self) -> dict[str, Any]:
        """The picture as a data URL, no wider than the page, with its width and height; or what is wrong with it."""
        try:
            image, buffer = read_image(self.file).convert("RGB"), io.BytesIO()
        except ResnetlabError as error:
            return {"problem": str(error)}
        image.thumbnail((WIDEST, 8 * WIDEST))
        image.save(buffer, "WEBP", quality=QUALITY)
        url = data_url("image/webp", buffer.getvalue())
        return {"problem": "", "source": url, "width": image.width, "height": image.height}


@dataclass(frozen=True)
class Section:
    """One record on the page, with what is beside it. `anchor` is its address in the page.

    `facts` say how it was made; `command` makes it again; `inner` are further records of the same subject.
    """

    anchor: str
    record: Record
    pictures: tuple[Picture, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    inner: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of the overview: `anchor` is the section that it leads to, if there is one."""

    cells: tuple[str, ...]
    anchor: str = ""
    command: str = ""
    """What makes it, where it was not yet made."""


@dataclass(frozen=True)
class Overview:
    """What there is, and what there could be."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All that the page shows; `lead` is the figure on its first screen, with a sentence below it."""

    title: str
    about: tuple[str, ...]
    overview: Overview | None
    groups: Mapping[str, tuple[Section, ...]]
    lead: Figure | None = None
    lead_text: str = ""


def write_html(page: Page, folder: Path) -> Path:
    """Write `folder`/index.html, and return its path."""
    path = folder / "index.html"
    text = html(page)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # of names of files that are not UTF-8
    return path


def html(page: Page) -> str:
    """The whole page."""
    script, style = ("\n".join(_asset(name) for name in names) for names in (SCRIPTS, STYLES))
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    charts: list[dict[str, Any]] = []

    def drawn(figure: Figure) -> dict[str, Any]:
        """A figure's static picture, and the number of its chart if it is interactive; or why it cannot be drawn."""
        try:
            source = data_url("image/svg+xml", rendered(figure, "svg"))
        except ResnetlabError as error:
            return {"problem": str(error)}
        found = chart(figure)
        if found is not None:
            charts.append(found)
        return {
            "problem": "",
            "source": source,
            "chart": None if found is None else len(charts) - 1,
            "name": _name(figure),
            "values": [] if found else values(figure),
        }

    body = environment.get_template("body.html.j2").render(page=page, drawn=drawn)
    guard = policy(script, style, "img-src data:")
    return environment.get_template("page.html.j2").render(
        title=page.title, policy=guard, style=style, script=script, body=body, charts=charts
    )


def _name(figure: Figure) -> str:
    return " ".join(figure.title.split("\n"))


def _asset(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")
