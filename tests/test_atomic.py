"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from neumap._atomic import process_space, replacing


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


# ---- what killed processes leave ----------------------------------------------------------------

WAITS = """
import sys, time
from neumap._atomic import process_space, replacing

with replacing(sys.argv[1]) as draft:
    draft.write_bytes(bytes(1000))
    print("written", flush=True)
    time.sleep(60)
"""


def half_written(file: Path) -> subprocess.Popen[str]:
    """A process that has written its draft and does not end."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, file],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    file = tmp_path / "m.neumap"
    with half_written(file) as killed, half_written(file) as alive:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        scratch = {name.split("-")[2]: name for name in names(tmp_path)}
        assert scratch.keys() == {str(killed.pid), str(alive.pid)}
        with replacing(file) as draft:
            draft.write_text("new")
        assert names(tmp_path) == sorted([scratch[str(alive.pid)], "m.neumap"])
        alive.kill()
    with replacing(file) as draft:
        draft.write_text("newer")
    assert names(tmp_path) == ["m.neumap"]


@pytest.mark.skipif(os.name != "posix", reason="processes are asked for on POSIX only")
def test_only_own_scratch_folders_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    host = process_space()
    other = "0" * 8 if host != "0" * 8 else "1" * 8
    kept = [
        f".neumap-{host}-{os.getpid()}-x",  # this process
        f".neumap-{host}-1-x",  # of another user, or the first process
        f".neumap-{other}-{ended.pid}-x",  # another machine
        f".neumap-{host}-{ended.pid}-",  # not a name of ours
        ".neumap-abcdefgh",
    ]
    for name in [*kept, f".neumap-{host}-{ended.pid}-x"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "m").write_text("half")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / f".neumap-{host}-{ended.pid}-link"
    link.symlink_to(elsewhere)
    with replacing(tmp_path / "m") as draft:
        draft.write_text("new")
    assert names(tmp_path) == sorted([*kept, "elsewhere", link.name, "m"])


def test_errors_name_the_target_and_not_the_scratch_folder(tmp_path: Path) -> None:
    file = tmp_path / "map.csv"

    def full(draft: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(draft))

    with pytest.raises(OSError, match="No space left") as caught, replacing(file) as draft:
        full(draft)
    assert (caught.value.filename, caught.value.errno) == (str(file), errno.ENOSPC)
    with pytest.raises(FileNotFoundError) as caught, replacing(file):
        (tmp_path / "rows.csv").read_text()
    assert caught.value.filename == str(tmp_path / "rows.csv")


@pytest.mark.skipif(os.name != "posix", reason="/dev/null is no folder on POSIX")
def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for file in (Path("/dev/null/m.neumap"), tmp_path / "file" / "m.neumap"):
        with pytest.raises(OSError, match=r"m\.neumap") as caught, replacing(file):
            pass
        assert caught.value.filename == str(file)
