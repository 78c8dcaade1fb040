"""Numbers in the documents are those of the records."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_what_comes_from_records_is_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    pages = importlib.import_module("benchmarks.pages")
    text = path.read_text()
    assert pages.filled(text) == text, "run python -m benchmarks.pages"
    assert "<!-- end -->" in text or path.stem != "why"
    assert sys.modules["benchmarks.pages"] is pages


def test_a_changed_number_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    pages = importlib.import_module("benchmarks.pages")
    text = "a\n<!-- why-digits/lesions.json sentences -->\nThe error is 0 %.\n<!-- end -->\nb"
    made = pages.filled(text)
    assert made.startswith("a\n<!-- why-digits/lesions.json sentences -->\nDeleting one block")
    assert made.endswith("<!-- end -->\nb")
    assert pages.filled(made) == made
