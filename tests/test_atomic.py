"""Files appear complete or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from neumap._atomic import replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_old_file_stands_until_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    file.write_text("old")
    with file.open() as reader, replacing(file) as draft:
        assert draft.name == "map.csv"
        draft.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert names(tmp_path) == ["map.csv"]
    assert reader.closed


def test_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    file.write_text("old")

    def half(draft: Path) -> None:
        draft.write_text("half")
        raise RuntimeError

    for path in (file, tmp_path / "new" / "folder" / "map.csv"):
        with pytest.raises(RuntimeError), replacing(path) as draft:
            half(draft)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["map.csv"]


def test_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a" / "map.csv"):
        pass
    assert names(tmp_path) == []


def test_files_beside_it_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    replace = Path.replace

    def noted(source: Path, target: Path) -> Path:
        moved.append(target.name)
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", noted)
    with replacing(tmp_path / "a.onnx") as draft:
        draft.write_text("model")
        draft.with_name("a.onnx.data").write_text("weights")
    assert moved == ["a.onnx.data", "a.onnx"]
    assert names(tmp_path) == ["a.onnx", "a.onnx.data"]


def test_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("sync"), fsync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda file, to: (steps.append("move"), replace(file, to))[1]
    )
    with replacing(tmp_path / "m") as draft:
        draft.write_text("x")
    assert steps[:2] == ["sync", "move"]


@pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX")
def test_links_and_modes_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file = tmp_path / "real" / "m.txt"
    file.write_text("old")
    file.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(file)
    with replacing(link) as draft:
        assert draft.suffix == ".csv"
        draft.write_text("new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert names(tmp_path) == ["link.csv", "real"]
