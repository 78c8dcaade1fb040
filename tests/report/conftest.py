"""Pages that were written."""

from pathlib import Path

import pytest

from resnetlab.report.webpage import write_html
from tests.report.pages import HOSTILE, page


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return write_html(page(folder, "Some text"), folder / "out")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    return write_html(page(folder, HOSTILE), folder / "out")
