"""The page: small, closed to the network, and safe with any text; in a browser: keys, themes, print, no scripts."""

import base64
import hashlib
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from resnetlab.report.record import Figure, Line, Panel
from resnetlab.report.webpage import SCRIPTS, STYLES, WEB, write_html
from tests.report.pages import HOSTILE, page

MOST_BYTES = 300_000
UPLOT = {  # version 1.6.32 of the npm package uplot
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
ALLOWED = {"lang", "charset", "content", "http-equiv", "name", "rel", "href", "class", "id", "tabindex", "role"}
ALLOWED |= {"src", "alt", "loading", "decoding", "width", "height", "scope", "type", "aria-label", "aria-labelledby"}
ALLOWED |= {"data-chart"}


class Parsed(HTMLParser):
    """Tags with attributes, and the texts of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append((tag, ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            kind, before = self.inside[-1]
            self.inside[-1] = kind, before + data


def test_script_and_style_are_small_and_vendored_files_unchanged() -> None:
    assert sum(len((WEB / name).read_bytes()) for name in (*SCRIPTS, *STYLES)) < MOST_BYTES
    for name, digest in UPLOT.items():
        assert hashlib.sha256((WEB / name).read_bytes()).hexdigest() == digest
    assert "MIT" in (WEB / "uPlot.LICENSE").read_text()


def test_the_policy_lets_nothing_load(written: Path) -> None:
    text = written.read_text()
    parsed = Parsed(text)
    (policy,) = [said["content"] for tag, said in parsed.tags if said.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert "unsafe" not in policy
    for kind, content in parsed.inside:
        if not content.strip().startswith("["):  # the data
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy, kind
    links = [said[name] for _, said in parsed.tags for name in ("src", "href") if name in said]
    assert links
    assert all(link and link.startswith(("data:", "#")) for link in links)


def test_hostile_names_are_text(hostile: Path) -> None:
    parsed = Parsed(hostile.read_text())
    assert {name for _, said in parsed.tags for name in said} <= ALLOWED
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    assert not [said for tag, said in parsed.tags if tag == "svg"]
    (data,) = [content for kind, content in parsed.inside if kind == "script" and content.strip().startswith("[")]
    assert json.loads(data)[0]["title"] == HOSTILE


def opened(browser: Browser, path: Path, **settings: object) -> Page:
    """The page in a new window, which fails on errors, dialogs and requests."""
    shown = browser.new_page(**settings)  # type: ignore[arg-type]
    problems: list[str] = []
    shown.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    local = ("file:", "data:")
    shown.on("request", lambda request: None if request.url.startswith(local) else problems.append(request.url))
    shown.goto(path.as_uri())
    shown.evaluate("window.scrollTo(0, 1e6)")  # charts are drawn when they are seen
    shown.problems = problems  # type: ignore[attr-defined]
    return shown


def settle(shown: Page) -> None:
    shown.wait_for_timeout(200)
    assert not shown.problems  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_no_barrier_and_no_overflow(browser: Browser, written: Path, scheme: str, width: int) -> None:
    shown = opened(browser, written, color_scheme=scheme, viewport={"width": width, "height": 900})
    settle(shown)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator(".u-wrap").count() == shown.locator(".plot").count() >= 4
    found = Axe().run(shown)
    assert found.violations_count == 0, found.generate_report()
    shown.close()


def test_hostile_names_do_nothing_in_a_browser(browser: Browser, hostile: Path) -> None:
    shown = opened(browser, hostile)
    settle(shown)
    for summary in shown.locator("summary").all():
        summary.click()
    shown.locator(".plot").first.press("ArrowRight")
    settle(shown)
    assert HOSTILE.split("\u2028")[0] in shown.locator("[aria-live]").first.inner_text()
    assert shown.title().startswith("</script>")
    shown.close()


def test_every_value_is_reached_by_keys_and_in_a_table(browser: Browser, written: Path) -> None:
    shown = opened(browser, written)
    plot, told = shown.locator(".plot").first, shown.locator("[aria-live]").first
    plot.press("ArrowRight")
    assert told.inner_text() == "iteration 1: Some text, test 90; deep, training –"
    plot.press("ArrowRight")
    assert told.inner_text() == "iteration 2: Some text, test 45; deep, training 22.5"
    plot.press("End")
    assert told.inner_text() == "iteration 20: Some text, test 4.5; deep, training 2.25"
    plot.press("PageUp")
    assert told.inner_text().startswith("iteration 10:")
    shown.locator(".series button").first.press("Enter")
    plot.press("Home")
    assert told.inner_text() == "iteration 1: deep, training –"
    shown.locator("summary").first.click()
    rows = shown.locator("details table").first.locator("tr")
    rows.first.wait_for()
    assert rows.count() == 21
    assert rows.nth(2).all_inner_texts()[0].split() == ["2", "45", "22.5"]
    settle(shown)
    shown.close()


def test_keys_in_a_zoomed_chart(browser: Browser, written: Path) -> None:
    """The values that are shown are those that are said, also where the move changes the part that is seen."""
    shown = opened(browser, written)
    plot, told = shown.locator(".plot").first, shown.locator("[aria-live]").first
    for key in ("Home", "+", "+", "+", *["ArrowRight"] * 6):
        plot.press(key)
    assert told.inner_text().startswith("iteration 7: Some text, test 12.86;")
    assert shown.locator(".series .value").first.inner_text() == "12.86"
    assert shown.locator(".controls span").first.inner_text() == "at 7"
    settle(shown)
    shown.close()


def test_no_value_beyond_the_ends_of_a_curve(browser: Browser, tmp_path: Path) -> None:
    lines = (Line((0.0, 10.0), (5.0, 6.0), "short"), Line((0.0, 10.0, 90.0), (1.0, 2.0, 3.0), "long"))
    made = page(tmp_path)
    figure = Figure("Two lengths", (Panel("", "step", "error", lines),))
    shown = opened(browser, write_html(replace(made, lead=figure), tmp_path / "out"))
    shown.locator(".plot").first.press("End")
    assert shown.locator("[aria-live]").first.inner_text() == "step 90: short –; long 3"
    shown.close()


@pytest.mark.parametrize(
    "panel",
    [
        Panel("", "x", "y", (Line((0.0, 1.0), (1.0, 2.0), "", "#00000"),)),
        Panel("", "x", "y", (Line((0.0, 1.0), (1.0, 2.0), style="wavy"),)),
        Panel("", "x", "y", (Line((0.0, 1.0), (1.0, 2.0)),), right=float("-inf")),
        Panel("", "x", "y", (Line((0.0, 1.0), (1.0,)),)),
    ],
    ids=["colour", "style", "limit", "lengths"],
)
def test_a_figure_that_cannot_be_is_named(tmp_path: Path, panel: Panel) -> None:
    text = write_html(replace(page(tmp_path), lead=Figure("Odd & ends", (panel,))), tmp_path / "out").read_text()
    assert "the figure &#39;Odd &amp; ends&#39; cannot be drawn" in text


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    """Of files on disks of other systems; they are read with placeholders that cannot be written."""
    path = write_html(page(tmp_path, "caf\udce9"), tmp_path / "out")
    assert "caf?" in path.read_text(encoding="utf-8")


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    made = page(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"x")
    text = write_html(made, tmp_path / "out").read_text()
    assert "picture.png is not a readable image" in text


def test_hover_and_zoom(browser: Browser, written: Path) -> None:
    shown = opened(browser, written)
    shown.evaluate("window.scrollTo(0, 0)")
    box = shown.locator(".plot .u-over").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    shown.mouse.move(box["x"] + box["width"] / 2, middle)
    value = shown.locator(".series .value").first
    assert 8 < float(value.inner_text()) < 10  # of 90 / 10 in the middle of 0 to 20
    place = shown.locator(".controls span").first
    before = place.inner_text()
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.75 * box["width"], middle, steps=5)
    shown.mouse.up()
    shown.mouse.move(box["x"] + 1, middle)
    assert before == "at 10"
    assert place.inner_text() in ("at 10", "at 11")  # the left end is now the middle
    shown.locator(".controls button", has_text="all").first.click()
    shown.mouse.move(box["x"] + 1, middle)
    assert place.inner_text() == "at 1"
    settle(shown)
    shown.close()


def test_resized_and_printed(browser: Browser, written: Path) -> None:
    shown = opened(browser, written, color_scheme="dark")
    settle(shown)
    shown.set_viewport_size({"width": 400, "height": 800})
    settle(shown)
    width = shown.locator(".plot").first.evaluate("plot => plot.clientWidth")
    assert shown.locator(".plot .uplot").first.evaluate("chart => chart.clientWidth") == width
    assert len(shown.pdf()) > 10_000
    settle(shown)
    shown.close()


def test_without_scripts_figures_are_pictures(browser: Browser, written: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(written.as_uri())
    pictures = shown.locator("img.static")
    assert pictures.count() == 4 == len(re.findall("<figcaption>", written.read_text())) - 2
    assert all(picture.bounding_box()["width"] > 200 for picture in pictures.all())  # type: ignore[index]
    context.close()


@pytest.mark.slow
def test_a_hundred_runs_open_within_a_second(browser: Browser, tmp_path: Path) -> None:
    path = write_html(page(tmp_path, "Run", runs=100, points=5000), tmp_path / "out")
    taken = []
    for _ in range(3):
        shown = browser.new_page()
        began = time.perf_counter()
        shown.goto(path.as_uri())
        shown.locator(".u-wrap").first.wait_for()
        taken.append(time.perf_counter() - began)
        shown.close()
    assert min(taken) < 1
