"""The notebook runs from top to bottom, in a kernel as in a course, with a few steps."""

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

SOURCE = Path(__file__).parents[1] / "docs" / "notebooks" / "degradation.py"


@pytest.mark.filterwarnings("default")  # of the packages that run notebooks
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "4")
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = jupytext.read(SOURCE)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    assert printed.count("training error") == 4
    assert "cifar_resnet56" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert (tmp_path / "runs" / "cifar_plain20" / "model.safetensors").exists()
