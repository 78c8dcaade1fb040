"""Files are complete or do not exist, and nothing is left behind by processes that were killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnetlab import files
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_json_lines, refuse_inside, replacing


def test_what_killed_processes_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, alive = int(ended.stdout), os.getppid()
    names = [
        f".a.{dead}.new",
        f".b.json.{dead}.new",
        f".young.{dead}.new",
        f".alive.{alive}.new",
        ".theirs.new",
        ".x.y.new",
    ]
    for name in names:
        (tmp_path / name).write_text("half")
        if "young" not in name:
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    (tmp_path / f".folder.{dead}.new").mkdir()
    os.utime(tmp_path / f".folder.{dead}.new", (time.time() - 7200,) * 2)
    monkeypatch.setattr(files, "_swept", set())
    with replacing(tmp_path / "c") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[2:], "c"])


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")

    def write() -> None:
        with replacing(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_lines_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n{"a": 3')
    with pytest.raises(ResnetlabError, match="m.jsonl, line 2 is damaged"):
        read_json_lines(path)
    path.write_bytes(b'{"a": 1}\n{"a": 3')
    assert read_json_lines(path) == [{"a": 1}]  # the last line was not finished
    path.write_bytes(b"3\n")
    with pytest.raises(ResnetlabError, match="line 1 is no JSON object"):
        read_json_lines(path)


def test_images_that_are_read_are_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(ResnetlabError, match="holds a.png, which is read"):
        refuse_inside(tmp_path, [tmp_path / "deep" / "a.png"], "explain")
    refuse_inside(tmp_path / "other", [tmp_path / "a.png"], "explain")


def test_one_line_without_control_characters() -> None:
    error = ResnetlabError("a\nb\x1b[31m\udcff\u202e ok: é, 日本\u3000\u200d\u00a0")
    assert str(error) == "a\\nb\\x1b[31m\\udcff\\u202e ok: é, 日本\u3000\u200d\u00a0"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", tmp_path / "loop", tmp_path, Path("/dev/zero")):
        for read in (files.sha256, files.read_regular):
            with pytest.raises(OSError, match=r"regular|directory|symbolic"):
                read(path)
        for read in (files.read_text, files.read_object, files.read_lines):
            with pytest.raises(ResnetlabError, match="cannot be read"):
                read(path)
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    with pytest.raises(ResnetlabError, match="latin cannot be read as text in UTF-8"):
        files.read_text(tmp_path / "latin")


def test_a_link_to_itself_is_no_traceback(tmp_path: Path) -> None:
    loop = tmp_path / "a.png"
    loop.symlink_to(loop)
    refuse_inside(tmp_path / "other", [loop], "explain")
    with pytest.raises(ResnetlabError, match="which is read"):
        refuse_inside(tmp_path, [loop], "explain")
