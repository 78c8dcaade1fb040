"""Run folders: one owner, one configuration, nothing half-written."""

import errno
from pathlib import Path

import pytest

from resnetlab import files
from resnetlab.errors import ResnetlabError
from resnetlab.runs.folder import RunFolder
from resnetlab.runs.stored import read_curve

TASK = {"name": "classification", "metrics": [{"name": "error", "unit": "%", "scale": 100.0, "best": "lowest"}]}
CONFIG = {
    "task": TASK,
    "data": {"name": "tiny", "fingerprint": "0"},
    "network": {"name": "resnet18"},
    "recipe": {"name": "x", "iterations": 4, "drops": [1, 2]},
    "seed": 0,
}
SETTINGS = {"source": "tiny", "data_dir": "data", "threads": 1}


def test_the_same_configuration_opens_again(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "r", CONFIG) as run:
        assert run.result is None
        assert run.settings == {}
        run.set_settings(SETTINGS)
        run.finish({"test_error": 1.0})
    with RunFolder.open(tmp_path / "r", CONFIG) as run:
        assert run.settings == SETTINGS
        assert run.result == {"test_error": 1.0}


def test_another_configuration_is_refused_by_its_differences(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, CONFIG):
        pass
    other = {**CONFIG, "recipe": {"name": "x", "iterations": 4, "drops": [1, 3]}}
    with (
        pytest.raises(ResnetlabError, match=r"recipe.drops is \[1, 2\] there and \[1, 3\] here"),
        RunFolder.open(tmp_path, other),
    ):
        pass


def test_a_run_from_before_a_field_of_the_recipe_goes_on_where_the_field_keeps_its_default(tmp_path: Path) -> None:
    recipe = {"name": "x", "iterations": 4, "drops": [1, 2], "decayed": "all"}
    with RunFolder.open(tmp_path, CONFIG):
        pass
    with RunFolder.open(tmp_path, {**CONFIG, "recipe": recipe}) as run:
        assert run.result is None
    with (
        pytest.raises(ResnetlabError, match="recipe.decayed is 'all' there and 'weights' here"),
        RunFolder.open(tmp_path, {**CONFIG, "recipe": recipe | {"decayed": "weights"}}),
    ):
        pass


def test_a_run_from_before_a_field_of_the_network_goes_on(tmp_path: Path) -> None:
    network = {"name": "resnet18", "version": "v1"}
    with RunFolder.open(tmp_path, {**CONFIG, "network": network}):
        pass
    with RunFolder.open(tmp_path, {**CONFIG, "network": network | {"narrow": 1}}):
        pass
    with (
        pytest.raises(ResnetlabError, match="network.narrow is 1 there and 8 here"),
        RunFolder.open(tmp_path, {**CONFIG, "network": network | {"narrow": 8}}),
    ):
        pass


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ResnetlabError, match="not empty and not a run folder"), RunFolder.open(tmp_path, CONFIG):
        pass
    with pytest.raises(ResnetlabError, match="is a file"), RunFolder.open(tmp_path / "thesis.tex", CONFIG):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnetlab.runs.folder.WAIT_FOR_LOCK_SECONDS", 0.1)
    with (
        RunFolder.open(tmp_path, CONFIG),
        pytest.raises(ResnetlabError, match="in use by another process"),
        RunFolder.open(tmp_path, CONFIG),
    ):
        pass


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"recipe": ')
    with pytest.raises(ResnetlabError, match="config.json is damaged"), RunFolder.open(tmp_path, CONFIG):
        pass


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def fill_the_disk() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert files.read_json_lines(path) == [{"step": 1}, {"step": 2}]
    assert files.read_json_lines(tmp_path / "none") == []


def test_hidden_files_of_others_are_kept(tmp_path: Path) -> None:
    """A run that is refused removes what it wrote, and nothing else."""
    (tmp_path / ".env").write_text("mine")
    (tmp_path / ".config.json.1.new").write_text("half")  # of a process that was killed
    (tmp_path / ".git").mkdir()
    with pytest.raises(ResnetlabError, match="no"), RunFolder.open(tmp_path, CONFIG):
        raise ResnetlabError("no")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".config.json.1.new", ".env", ".git"]


@pytest.mark.parametrize("line", ["{}", '{"step": "1"}', '{"step": 1, "test_error": "x"}', '{"step": 1, "a": null}'])
def test_a_line_that_is_no_point_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"event": "warmed_up", "step": 1}}\n{line}\n')
    with pytest.raises(ResnetlabError, match=r"metrics.jsonl has a line that is no point of a curve"):
        read_curve(tmp_path)
