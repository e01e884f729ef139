"""Processes of one machine unpack rows of files to one temporary file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_many_processes import X, ended, launch, network
from torch import distributed

from neumap import open_rows
from neumap._ranks import ALONE
from neumap.data import disk, unpacking

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="needs gloo"
)

# What a process maps says whether two of them map one file.
FIT = """
import pathlib, tempfile
import test_shared_files as there
from neumap import open_rows
from neumap.data import disk, unpacking

def inode(rows):
    address = rows.flat().ctypes.data
    for line in open("/proc/self/maps"):
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if first <= address < last:
            return line.split()[4]

tempfile.tempdir = folder + "/tmp"
tiles, written = disk.write_tiles, []
def counted(flat, source, *part):
    there.small_tiles(disk)
    tiles(there.Counting(flat, written), source, *part)
disk.write_tiles = unpacking.write_tiles = counted

for kind in ("npy", "other"):
    rows = open_rows(folder + "/" + kind + ("" if kind == "npy" else str(rank)))
    del written[:]
    model = here.short().fit(rows)
    np.save(f"{folder}/{kind} {rank}.npy", model.embedding_)
    left = [*pathlib.Path(tempfile.tempdir).glob("neumap-*")]
    print(kind, "|", inode(rows), sum(written), len(left))
    again = here.short().fit(rows)  # unpacked already
    assert np.array_equal(again.embedding_, model.embedding_)

def no_space(*given):
    raise OSError("no space is left")

unpacking._new_file = no_space
try:
    here.short().fit(open_rows(folder + "/npy"))
except (OSError, ValueError) as error:
    print("space |", type(error).__name__, error)
rows = open_rows(folder + "/npy") if rank == 0 else here.X  # the same rows
np.save(f"{folder}/mixed {rank}.npy", here.short().fit(rows).embedding_)
dist.destroy_process_group()
"""


class Counting:
    """Counts the rows that are written to an array."""

    def __init__(self, array: np.ndarray, written: list[int]) -> None:
        self.array, self.written = array, written

    def __setitem__(self, rows: Any, values: np.ndarray) -> None:
        self.written.append(len(values))
        self.array[rows] = values


def small_tiles(room: Any) -> None:
    room.tile_starts = lambda source: range(0, len(source), 40)


def write(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        np.save(folder / f"part-{number}.npy", X[80 * number : 80 * (number + 1)])
    return folder


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads what Linux has mapped")
def test_two_processes_write_and_map_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("npy", "other0", "other1"):
        write(tmp_path / name)
    (tmp_path / "tmp").mkdir()
    outputs = ended(launch(tmp_path, FIT))
    assert [code for code, _ in outputs] == [0, 0], outputs
    said = [dict(re.findall(r"^(\w+) \| (.*)$", output, re.MULTILINE)) for _, output in outputs]
    (first, n_first, n_left), (second, n_second, _) = (one["npy"].split() for one in said)
    assert first == second
    assert (n_first, n_second, n_left) == ("120", "120", "0")
    # Files of other names may hold other rows, which the checksums tell.
    (first, n_first, n_left), (second, n_second, _) = (one["other"].split() for one in said)
    assert first != second
    assert (n_first, n_second, n_left) == ("240", "240", "0")
    assert said[0]["space"] == "OSError no space is left"
    assert "in process 0 of 2. OSError: no space is left" in said[1]["space"]
    whole = [np.load(tmp_path / f"{kind} 0.npy") for kind in ("npy", "other", "mixed")]
    for rank, kind in enumerate(("npy", "other", "mixed")):
        np.testing.assert_array_equal(whole[rank], np.load(tmp_path / f"{kind} 1.npy"))
        np.testing.assert_array_equal(whole[rank], whole[0])


def test_a_process_alone_unpacks_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = open_rows(write(tmp_path / "npy"))
    unpacking.unpack_together(rows, ALONE)
    assert rows.to_unpack() is not None
    written: list[int] = []
    tiles = disk.write_tiles
    monkeypatch.setattr(
        disk, "write_tiles", lambda flat, *given: tiles(Counting(flat, written), *given)
    )
    np.testing.assert_array_equal(rows.flat(), X)
    assert sum(written) == 240
    assert rows.to_unpack() is None
    np.testing.assert_array_equal(network(n_epochs=0).fit(rows).embedding_.shape, (240, 2))
    single = open_rows(tmp_path / "npy" / "part-0.npy")
    assert single.to_unpack() is None
    assert rows.followed_by(X[:3]).to_unpack() is None
