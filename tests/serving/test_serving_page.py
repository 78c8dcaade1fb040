"""The server's page in a browser."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.serving.conftest import CLASSES, photo


def test_the_page(address: str, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(photo(0, size=(90, 60)))
    (tmp_path / "no.png").write_bytes(b"x")
    shown = browser.new_page(viewport={"width": 360, "height": 800})
    problems: list[str] = []
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    shown.goto(address)
    shown.locator("#about", has_text="3 classes").wait_for()
    shown.locator("#explain").check()
    shown.locator("#files").set_input_files([tmp_path / "cat.png", tmp_path / "no.png"])
    shown.locator("#answers li").nth(1).wait_for()
    newest, first = shown.locator("#answers li").all()
    assert "no.png is not a readable image" in newest.inner_text()
    names = [bar.locator("span").first.inner_text() for bar in first.locator(".bar").all()]
    assert len(names) == 2
    assert set(names) < set(CLASSES)  # one of them with markup
    assert first.locator("meter").count() == 2
    assert first.locator("figure img").count() == 2
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360
    assert not problems
    shown.close()
