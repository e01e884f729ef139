"""Several processes share the neighbour search and find what one process finds, to the bit."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from test_many_processes import WAIT, ended, ended_after_a_kill, launch, network
from torch import distributed

from neumap import ParametricUMAP
from neumap._ranks import current_ranks
from neumap.neighbors import CellBackend, NeighborGraph, NeighborSearch
from neumap.neighbors import cells as cells_room
from neumap.neighbors import exact as exact_room
from neumap.neighbors import search as search_room
from neumap.neighbors import sparse as sparse_room
from neumap.training import embedders

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="needs gloo"
)


def normal(n: int = 4000, n_columns: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, n_columns)).astype(np.float32)


def uneven() -> np.ndarray:
    """A dense ball, rows around it that share cells with few others, and equal rows."""
    rows = normal(3000, 5)
    rows[1000:] /= 100
    rows[:40] *= 1000
    rows[2000:2300] = rows[2000]
    return rows


def mostly_zero() -> Any:
    rows = normal(5000, 30)
    return scipy.sparse.csr_matrix(np.where(rows > 1, rows, 0))


ANCHORS = np.arange(0, 4000, 3)


def by_cells(rows: np.ndarray, anchors: Any = None, **given: Any) -> NeighborGraph:
    backend = CellBackend(rows_per_cell=200, n_jobs=1, ranks=current_ranks(), **given)
    return NeighborSearch(backend=backend).find(rows, 10, anchors=anchors)


def found_by(backend: Any, rows: Any, anchors: Any = None, **given: Any) -> NeighborGraph:
    search = NeighborSearch(backend=backend, ranks=current_ranks(), **given)
    return search.find(rows, 10, anchors=anchors)


def farthest_coordinate(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max())


@contextmanager
def in_bfloat16() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_room, "fast_dtype", lambda device: torch.bfloat16)
        yield


def of_bfloat16() -> NeighborGraph:
    with in_bfloat16():
        return by_cells(normal())


def on_other_machines() -> NeighborGraph:
    """The second process finds other centres, and would hold rows in more cells."""
    rank, find = current_ranks().rank, cells_room.find_centres
    measure = cells_room._Division.measure

    def measured(*given: Any) -> Any:
        n_met, dtype = measure(*given)
        return n_met + rank, dtype

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_room, "find_centres", lambda *given: find(*given) + 0.1 * rank)
        patch.setattr(cells_room._Division, "measure", measured)
        return by_cells(normal())


SEARCHES: dict[str, Callable[[], NeighborGraph]] = {
    "cells": lambda: by_cells(normal()),
    "cells in bfloat16": of_bfloat16,
    "cells on other machines": on_other_machines,
    "cells of uneven rows": lambda: by_cells(uneven()),
    "cells, one": lambda: by_cells(normal(150)),
    "anchors by cells": lambda: by_cells(normal(), ANCHORS),
    "anchors of uneven rows": lambda: by_cells(uneven(), np.arange(0, 3000, 7)),
    "exact": lambda: found_by("exact", normal(5000)),
    "exact anchors": lambda: found_by("exact", normal(9000), np.arange(0, 9000, 2)),
    "exact, one tile": lambda: found_by("exact", normal(100)),
    "cosine": lambda: found_by("exact", normal(5000), metric="cosine"),
    "manhattan": lambda: found_by("exact", normal(1100), metric="manhattan"),
    "a function": lambda: found_by("exact", normal(520), metric=farthest_coordinate),
    "sparse": lambda: found_by("exact", mostly_zero()),
    "sparse anchors": lambda: found_by("exact", mostly_zero(), np.arange(0, 5000, 2)),
    "hnsw": lambda: found_by("hnsw", normal(500)),
}
# Most uneven rows lie in one cell, which is not divided.
REPEATED = ("cells, one", "exact, one tile", "hnsw")
IN_ONE_CELL = ("cells of uneven rows", "anchors of uneven rows")


class Work:
    """Counts the rows that asked in this process, whichever search it was."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.n = 0
        answer, blocks = cells_room.Cells.answer, exact_room._smallest_of_blocks
        sparse_distances = sparse_room._distances

        def in_a_cell(own: Any, cell: int, queries: Any, here: Any, *given: Any) -> Any:
            self.n += len(here)
            return answer(own, cell, queries, here, *given)

        def in_a_tile(score: Any, n_rows: int, k: int) -> Any:
            found = blocks(score, n_rows, k)
            self.n += len(found[0])
            return found

        def of_products(products: Any, *given: Any) -> Any:
            self.n += len(products)
            return sparse_distances(products, *given)

        patch.setattr(cells_room.Cells, "answer", in_a_cell)
        patch.setattr(exact_room, "_smallest_of_blocks", in_a_tile)
        patch.setattr(sparse_room, "_distances", of_products)


def all_searches(folder: str, rank: int) -> None:
    work = {}
    for name, search in SEARCHES.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search_room, "_sampled_recall", lambda *given: 0.5)
            count = Work(patch)
            graph = search()
            work[name] = count.n
        np.savez(f"{folder}/{name} {rank}.npz", i=graph.indices, d=graph.distances)
    Path(folder, f"work {rank}.json").write_text(json.dumps(work))


SEARCH_ALL = """
import test_shared_search as there
there.all_searches(folder, rank)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("faiss")
    folder = tmp_path_factory.mktemp("shared")
    outputs = ended(launch(folder, SEARCH_ALL))
    assert [code for code, _ in outputs] == [0, 0], outputs
    return folder


@pytest.mark.parametrize("name", SEARCHES)
def test_two_processes_find_the_neighbours_of_one(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(search_room, "_sampled_recall", lambda *given: 0.5)
    work = Work(monkeypatch)
    expected = SEARCHES[name]()
    for rank in range(2):
        with np.load(folder / f"{name} {rank}.npz") as found:
            np.testing.assert_array_equal(found["i"], expected.indices)
            np.testing.assert_array_equal(found["d"], expected.distances)
    done = [json.loads((folder / f"work {rank}.json").read_text())[name] for rank in range(2)]
    assert max(done) <= work.n
    if name not in REPEATED:
        assert sum(done) < 1.15 * work.n  # few rows are asked by both
    if name not in (*REPEATED, *IN_ONE_CELL):
        assert max(done) < 0.68 * work.n  # of three tiles one process has two


# ---- fits ---------------------------------------------------------------------------------------

FIT = """
import test_shared_search as there
with there.small_cells():
    for name, fit in there.FITS.items():
        model = fit()
        graph = model.graph_
        np.savez(f"{folder}/fit {name} {rank}.npz", d=graph.data, i=graph.indices, p=graph.indptr)
    np.savez(f"{folder}/placed {rank}.npz", **there.placed())
dist.destroy_process_group()
"""
ROWS = normal(1500)
FITS: dict[str, Callable[[], ParametricUMAP]] = {
    "all rows": lambda: network(n_epochs=None, max_time=0.01, device="cpu").fit(ROWS),
    "anchors": lambda: network(n_anchors=400, n_epochs=1).fit(ROWS),
    "joined lists": lambda: network(n_anchors=100, n_epochs=None, max_time=0.01).fit(ROWS),
    "labels": lambda: network(transform_mode="graph").fit(ROWS, np.arange(1500) % 3),
}


def placed() -> dict[str, Any]:
    """The positions of a fit, of its rows as new rows, and how many rows this process encoded."""
    n_rows: list[int] = []

    def counted(n_outputs: int, expected: int) -> None:
        n_rows.append(n_outputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedders, "ENCODE_ROWS", 256)
        patch.setattr(embedders, "check_row_count", counted)
        model = network(n_epochs=0).fit(ROWS)
        n_encoded = sum(n_rows)
        return {"own": model.embedding_, "new": model.transform(ROWS), "n": n_encoded}


@contextmanager
def small_cells() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_room, "MAX_EXACT_ROWS", 100)
        patch.setattr(cells_room, "ROWS_PER_CELL", 100)
        yield


def test_graph_and_positions_of_a_fit_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = ended(launch(tmp_path, FIT))
    assert [code for code, _ in outputs] == [0, 0], outputs
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    for name, fit in FITS.items():
        with small_cells():
            expected = fit().graph_
        for rank in range(2):
            with np.load(tmp_path / f"fit {name} {rank}.npz") as found:
                np.testing.assert_array_equal(found["p"], expected.indptr)
                np.testing.assert_array_equal(found["i"], expected.indices)
                np.testing.assert_array_equal(found["d"], expected.data)
    together = [dict(np.load(tmp_path / f"placed {rank}.npz")) for rank in range(2)]
    alone = placed()
    for found in together:
        np.testing.assert_array_equal(found["own"], alone["own"])
        np.testing.assert_array_equal(found["own"], found["new"])
    assert [int(found["n"]) for found in together] == [768, 732]  # of six parts
    assert alone["n"] == 1500


# ---- what goes wrong ----------------------------------------------------------------------------

FAILING = """
import signal
import test_shared_search as there
from neumap._ranks import LostProcessError
from neumap.neighbors import cells

def failing(*given):
    if rank == 1:
        raise MemoryError("no memory is left")
    return answer(*given)

def killing(*given):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(*given)

def wrong(first, second):
    return -1.0 if 290 in (first[0], second[0]) else abs(first[0] - second[0])

answer = cells.Cells.answer
with there.small_cells():
    for name in ("answer", "find_centres", "nearest_cells", "_by_cell"):
        room = cells.Cells if name == "answer" else cells
        answer = getattr(room, name)
        setattr(room, name, failing)
        try:
            here.network().fit(there.ROWS)
        except (MemoryError, ValueError) as error:
            print(name, "|", type(error).__name__, error)
        setattr(room, name, answer)
    lines = np.arange(300, dtype=np.float32)[:, None]
    try:
        here.network(metric=wrong).fit(lines)
    except ValueError as error:
        print("metric |", error)
    print("together |", len(here.network(n_epochs=1).fit(there.ROWS).embedding_))
    answer = cells.Cells.answer
    cells.Cells.answer = killing
    try:
        here.network().fit(there.ROWS)
    except LostProcessError as error:
        print(f"lost: {error}", flush=True)
        os._exit(1)  # gloo's own threads may abort an ordinary end
"""


def test_an_error_or_a_kill_in_the_search_of_one_process_ends_the_others(tmp_path: Path) -> None:
    ((first, own), (second, other)), seconds = ended_after_a_kill(launch(tmp_path, FAILING))
    assert seconds < WAIT / 2
    said = [dict(re.findall(r"^(\w+) \| (.*)$", output, re.M)) for output in (own, other)]
    for name in ("answer", "find_centres", "nearest_cells", "_by_cell"):
        assert said[1][name] == "MemoryError no memory is left"
        assert said[0][name].startswith("ValueError All processes of a fit must be able to take")
        assert "in process 1 of 2. MemoryError: no memory is left" in said[0][name]
    assert "from row 256 to row 290" in said[1]["metric"]  # the first row of its tile
    assert [one["together"] for one in said] == ["1500", "1500"]
    assert (first, second) == (1, -signal.SIGKILL)
    assert "lost: All processes of a fit must run until its end, got no answer" in own


# ---- neighbours that were kept -------------------------------------------------------------------

FIRST = """
import signal
from neumap.callbacks import Callback, Checkpoint
from neumap._ranks import LostProcessError

class Kill(Callback):
    def on_step_end(self, run):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

np.save(f"{folder}/whole {rank}.npy", here.short().fit(here.X).embedding_)
try:
    here.short(callbacks=[Checkpoint(folder + "/c.neumap"), Kill()]).fit(here.X)
except LostProcessError:
    sys.exit(3)
"""
LATER = """
from neumap.callbacks import Checkpoint
from neumap.estimators import fitting, graph

def counted(*given):
    searches.append(1)
    return search(*given)

search, searches = graph.training_neighbors, []
graph.training_neighbors = counted
start = Checkpoint(folder + "/c.neumap").latest()
np.save(f"{folder}/later {rank}.npy", here.short().fit(here.X, resume_from=start).embedding_)
print("searches |", len(searches))
if rank == 1:  # this process alone does not find the neighbours
    fitting.kept_neighbors = lambda *given: None
np.save(f"{folder}/one {rank}.npy", here.short().fit(here.X, resume_from=start).embedding_)
print("searches |", len(searches))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_go_on_from_the_neighbours(tmp_path: Path) -> None:
    (first, _), (second, _) = ended(launch(tmp_path, FIRST))
    assert (first, second) == (3, -signal.SIGKILL)
    assert [file.name for file in tmp_path.glob("c*.neumap")] == ["c.search.neumap"]
    outputs = ended(launch(tmp_path, LATER))
    assert [code for code, _ in outputs] == [0, 0], outputs
    for rank, (_, output) in enumerate(outputs):
        assert re.findall(r"searches \| (\d)", output) == ["0", "1"]
        expected = np.load(tmp_path / f"whole {rank}.npy")
        for how in ("later", "one"):
            np.testing.assert_array_equal(np.load(tmp_path / f"{how} {rank}.npy"), expected)
