"""A fit that is killed in any stage is continued to the same end, and no search is done twice.

The right answer is always the uninterrupted fit, compared bit by bit.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from neumap import UMAP, ParametricUMAP
from neumap.archive import ArchiveError, read_archive, write_archive
from neumap.callbacks import Callback, Checkpoint, load_checkpoint
from neumap.callbacks.checkpoint import search_file
from neumap.estimators import graph as graph_room

X = np.random.default_rng(0).normal(size=(240, 16)).astype(np.float32)
X[::3] += 2.0
Y = np.arange(240) % 3

QUICK: dict[str, Any] = {"n_neighbors": 8, "random_state": 0, "n_epochs": 4, "device": "cpu"}


def network(**given: Any) -> ParametricUMAP:
    return ParametricUMAP(**{**QUICK, "batch_size": 64, "preset": "fast", **given})


def check_equal(found: UMAP, expected: UMAP) -> None:
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    assert (found.graph_ != expected.graph_).nnz == 0
    assert found.history_ == expected.history_
    for name in ("neighbors", "neighbor_recall", "n_anchors", "n_steps", "n_edges"):
        assert found.report_[name] == expected.report_[name]


class Searches:
    """Counts the searches of a fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = 0
        search = graph_room.training_neighbors

        def counted(*given: Any) -> Any:
            self.n += 1
            return search(*given)

        monkeypatch.setattr(graph_room, "training_neighbors", counted)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Searches:
    return Searches(monkeypatch)


class Interrupt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run: Any) -> None:
        if run.step == self.step:
            raise KeyboardInterrupt


def stopped(model: UMAP, path: Any, step: int, y: Any = None, X: Any = X, **given: Any) -> None:
    """Fit with a checkpoint, and interrupt the training at a step."""
    model.set_params(callbacks=[Checkpoint(path), Interrupt(step)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, **given)
    model.set_params(callbacks=None)


# ---- kill -9 in every stage ---------------------------------------------------------------------

# One process makes the imports, and a copy of it is killed in each stage.
KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import numpy as np, torch
torch.set_num_threads(1)
import test_stages as here
from neumap import _atomic
from neumap.callbacks import Callback, Checkpoint
from neumap.estimators import fitting, graph
from neumap.neighbors import ExactBackend
from neumap.training import EncoderEmbedder

def kill(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)

class Kill(Callback):
    def on_step_end(self, run):
        if run.step == here.BETWEEN:
            kill()

def while_writing(name, number):
    move, written = _atomic._move, []
    def moving(file, target):
        written.append(target.name)
        if written.count(name) == number:
            kill()
        move(file, target)
    _atomic._move = moving

def in_stage(name, path):
    callbacks = [Checkpoint(path)]
    if name == "validation":
        fitting.check_supervision = fitting._try_metric = kill
    elif name == "search":
        ExactBackend.search = kill
    elif name == "writing the neighbours":
        while_writing("c.search.neumap", 1)
    elif name == "graph":
        graph.fuzzy_simplicial_set = kill
    elif name == "before the first step":
        fitting.train = kill
    elif name == "between reports":
        callbacks.append(Kill())
    elif name == "writing a checkpoint":
        while_writing("c.neumap", 2)
    elif name == "embedding":
        fitting._positions = kill
    here.network(callbacks=callbacks).fit(here.X)

for name in sys.argv[2:]:
    folder = os.path.join(sys.argv[1], name)
    os.mkdir(folder)
    child = os.fork()
    if not child:
        in_stage(name, os.path.join(folder, "c.neumap"))
        os._exit(0)
    print(name, "|", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
# In which stage, whether the search had ended, and whether there is a training checkpoint.
STAGES = {
    "validation": (False, False),
    "search": (False, False),
    "writing the neighbours": (False, False),
    "graph": (True, False),
    "before the first step": (True, False),
    "between reports": (True, True),
    "writing a checkpoint": (True, True),
    "embedding": (True, True),
}
BETWEEN = 40


@pytest.fixture(scope="module")
def expected() -> ParametricUMAP:
    return network().fit(X)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    folder = tmp_path_factory.mktemp("stages")
    paths = [str(Path(__file__).parent), *sys.path]
    code = [sys.executable, "-c", KILLED.format(paths=paths), str(folder), *STAGES]
    done = subprocess.run(code, capture_output=True, text=True, timeout=300, check=False)
    ends = dict(line.split(" | ") for line in done.stdout.splitlines())
    assert ends == dict.fromkeys(STAGES, str(-signal.SIGKILL)), done.stderr
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_a_fit_killed_in_any_stage_goes_on(
    stage: str, killed: Path, expected: ParametricUMAP, searches: Searches
) -> None:
    had_searched, had_trained = STAGES[stage]
    path = killed / stage / "c.neumap"
    assert path.exists() == had_trained
    assert search_file(path).exists() == had_searched
    if had_trained:
        assert 0 < load_checkpoint(path).step <= expected.report_["n_steps"]
    else:
        with pytest.raises(
            ArchiveError, match=r"got (nothing there|.*which contains search instead)"
        ):
            load_checkpoint(search_file(path))
    checkpoint = Checkpoint(path)
    start = checkpoint.latest()
    assert (start is None) == (not had_searched)
    found = network(callbacks=[checkpoint]).fit(X, resume_from=start)
    check_equal(found, expected)
    assert searches.n == (0 if had_searched else 1)
    # The file is there for the next interruption, whichever way this fit came to it.
    check_equal(network().fit(X, resume_from=path), expected)
    assert searches.n == (0 if had_searched else 1)


def test_a_trained_fit_takes_no_step_again(killed: Path) -> None:
    steps: list[int] = []

    class Count(Callback):
        def on_step_end(self, run: Any) -> None:
            steps.append(run.step)

    network(callbacks=[Count()]).fit(X, resume_from=killed / "embedding" / "c.neumap")
    assert steps == []


# ---- other kinds of fits ------------------------------------------------------------------------

KINDS: dict[str, tuple[Callable[[], UMAP], Any, Any]] = {
    "free densmap": (lambda: UMAP(densmap=True, dens_frac=1.0, **QUICK), X, None),
    "labels": (network, X, Y),
    "anchors": (lambda: network(n_anchors=60), X, None),
    "joined lists": (lambda: network(n_anchors=20, n_epochs=None), X, None),
    "sparse": (network, scipy.sparse.csr_matrix(np.where(X > 1, X, 0)), None),
    "unique": (lambda: UMAP(unique=True, **QUICK), np.concatenate([X, X[:60]]), None),
    "other metric": (lambda: network(metric="manhattan"), X, None),
    "approximate": (lambda: network(force_approximation_algorithm=True), X, None),
    "fewer rows than neighbours": (lambda: network(n_neighbors=30), X[:25], None),
}


@pytest.mark.filterwarnings("ignore:n_neighbors")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fit_goes_on_from_its_neighbours(
    kind: str, tmp_path: Path, searches: Searches
) -> None:
    make, rows, y = KINDS[kind]
    if kind == "approximate":
        pytest.importorskip("faiss")
    expected = make().fit(rows, y)
    stopped(make(), tmp_path / "c.neumap", 1, y, rows)  # before the first report
    assert not (tmp_path / "c.neumap").exists()
    n_before = searches.n
    check_equal(make().fit(rows, y, resume_from=tmp_path / "c.neumap"), expected)
    assert searches.n == n_before


def test_landmarks_go_on_from_their_neighbours(tmp_path: Path, searches: Searches) -> None:
    positions = np.full((240, 2), np.nan, dtype=np.float32)
    positions[:20] = network().fit(X).embedding_[:20]
    expected = network().fit(X, landmark_positions=positions)
    stopped(network(), tmp_path / "c.neumap", 1, landmark_positions=positions)
    n_before = searches.n
    found = network().fit(X, landmark_positions=positions, resume_from=tmp_path / "c.neumap")
    check_equal(found, expected)
    assert searches.n == n_before
    with pytest.raises(ValueError, match="got one with other landmarks"):
        network().fit(X, landmark_positions=positions * 2, resume_from=tmp_path / "c.neumap")


def test_a_fit_that_trains_nothing_goes_on_from_its_neighbours(
    tmp_path: Path, searches: Searches
) -> None:
    checkpoint = Checkpoint(tmp_path / "c.neumap")
    expected = network(transform_mode="graph", callbacks=[checkpoint]).fit(X)
    later = network(transform_mode="graph").fit(X, resume_from=checkpoint.latest())
    assert (later.graph_ != expected.graph_).nnz == 0
    assert searches.n == 1


def test_a_fit_without_a_seed_goes_on_with_that_of_its_neighbours(tmp_path: Path) -> None:
    stopped(network(random_state=None), tmp_path / "c.neumap", 1)
    found = [network(random_state=None).fit(X, resume_from=tmp_path / "c.neumap") for _ in "ab"]
    check_equal(found[0], found[1])


def test_given_neighbours_are_not_kept(tmp_path: Path) -> None:
    graph = graph_room.NeighborSearch().find(X, 8)
    checkpoint = Checkpoint(tmp_path / "c.neumap")
    checkpoint.search_path = tmp_path / "of an earlier fit"
    network(precomputed_knn=(graph.indices, graph.distances), callbacks=[checkpoint]).fit(X)
    assert checkpoint.search_path is None
    assert [file.name for file in tmp_path.iterdir()] == ["c.neumap"]


# ---- which file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("c.neumap", "c.search.neumap"),
        ("a/c", "a/c.search.neumap"),
        ("a.b/c.d.ckpt", "a.b/c.d.search.neumap"),
        ("r/{epoch:03d}.neumap", "r/search.neumap"),
        ("r/{epoch}/c.neumap", "r/search.neumap"),
        ("r/{{x}}-{epoch}-{loss:.3f}.neumap", "r/{x}.search.neumap"),
        ("r/{{x}}.neumap", "r/{x}.search.neumap"),
    ],
)
def test_the_neighbours_have_one_file_for_all_checkpoints(path: str, expected: str) -> None:
    assert search_file(path).as_posix() == expected


def test_checkpoints_of_several_names_share_the_neighbours(
    tmp_path: Path, searches: Searches
) -> None:
    checkpoint = Checkpoint(tmp_path / "{epoch}" / "c-{loss:.3f}.neumap")
    expected = network(callbacks=[checkpoint]).fit(X)
    assert checkpoint.search_path == tmp_path / "search.neumap"
    assert checkpoint.latest() == checkpoint.saved_paths[-1]
    n_before = searches.n
    check_equal(network().fit(X, resume_from=checkpoint.saved_paths[1]), expected)
    assert searches.n == n_before


def test_the_latest_file_is_the_newest_of_that_name(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a-{epoch:02d}-{loss:.3f}.neumap")
    assert checkpoint.latest() is None
    search_file(checkpoint.path).touch()
    assert checkpoint.latest() == tmp_path / "a.search.neumap"
    for number, name in enumerate(["a-10-0.200", "a-02--1.5e-07", "a-map-new", "a-03"]):
        file = tmp_path / f"{name}.neumap"
        file.touch()
        os.utime(file, ns=(number, number))
    assert checkpoint.latest() == tmp_path / "a-02--1.5e-07.neumap"
    assert Checkpoint(tmp_path / "a-[0]").latest() is None  # no pattern


def test_a_resumed_fit_with_another_checkpoint_keeps_the_neighbours_there(
    tmp_path: Path, searches: Searches
) -> None:
    stopped(network(), tmp_path / "c.neumap", 1)
    other = Checkpoint(tmp_path / "other" / "c.neumap")
    network(callbacks=[other]).fit(X, resume_from=tmp_path / "c.neumap")
    assert other.search_path == tmp_path / "other" / "c.search.neumap"
    assert searches.n == 1
    shutil.move(tmp_path / "other", tmp_path / "moved")  # both files together
    network().fit(X, resume_from=tmp_path / "moved" / "c.neumap")
    assert searches.n == 1


def test_a_checkpoint_without_its_neighbours_searches_again(
    tmp_path: Path, searches: Searches, expected: ParametricUMAP
) -> None:
    stopped(network(), tmp_path / "c.neumap", BETWEEN)
    search_file(tmp_path / "c.neumap").unlink()
    check_equal(network().fit(X, resume_from=tmp_path / "c.neumap"), expected)
    assert searches.n == 2


# ---- how large ----------------------------------------------------------------------------------


def test_the_size_is_what_the_page_says(tmp_path: Path) -> None:
    path = tmp_path / "c.neumap"
    stopped(network(), path, 1)
    assert 0 <= search_file(path).stat().st_size - 240 * 8 * 8 < 5000


def test_neighbours_that_would_be_too_large_are_not_kept(
    tmp_path: Path, searches: Searches, expected: ParametricUMAP
) -> None:
    size = 240 * 8 * 8
    checkpoint = Checkpoint(tmp_path / "c.neumap", max_search_bytes=size - 1)
    with pytest.warns(UserWarning, match=f"would have {size} bytes, and at most {size - 1}"):
        network(callbacks=[checkpoint]).fit(X)
    assert checkpoint.search_path is None
    assert not search_file(checkpoint.path).exists()
    check_equal(network().fit(X, resume_from=checkpoint.path), expected)
    assert searches.n == 2
    checkpoint = Checkpoint(tmp_path / "c.neumap", max_search_bytes=0)
    network(callbacks=[checkpoint]).fit(X)
    assert not search_file(checkpoint.path).exists()
    checkpoint = Checkpoint(tmp_path / "c.neumap", max_search_bytes=size)
    network(callbacks=[checkpoint]).fit(X)
    assert search_file(checkpoint.path).exists()


@pytest.mark.parametrize("size", [-1, float("nan")])
def test_a_size_is_a_number_from_zero(size: float) -> None:
    with pytest.raises(ValueError, match="max_search_bytes must be a number of bytes from 0, got"):
        Checkpoint("c.neumap", max_search_bytes=size)


def test_a_format_of_ones_own_has_no_neighbours(tmp_path: Path) -> None:
    own = Checkpoint(tmp_path / "c.txt", save=lambda run, path: path.write_text("x"))
    network(callbacks=[own]).fit(X)
    assert [file.name for file in tmp_path.iterdir()] == ["c.txt"]


def test_a_full_disk_does_not_end_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: ParametricUMAP
) -> None:
    from neumap.estimators import resuming

    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device", "c.search.neumap")

    monkeypatch.setattr(resuming, "write_archive", full)
    model = network(callbacks=[Checkpoint(tmp_path / "c.neumap")])
    with pytest.warns(UserWarning, match=r"c\.search\.neumap' could not be written: No space left"):
        model.fit(X)
    check_equal(model, expected)
    check_equal(network().fit(X, resume_from=tmp_path / "c.neumap"), expected)


# ---- other fits, damaged and forged files -------------------------------------------------------


@pytest.fixture
def search(tmp_path: Path) -> Path:
    stopped(network(), tmp_path / "c.neumap", 1)
    return tmp_path / "c.search.neumap"


@pytest.mark.parametrize(
    ("make", "rows", "message"),
    [
        (lambda: network(n_neighbors=9), X, r"n_neighbors \(8 there, 9 here\)"),
        (lambda: network(min_dist=0.3), X, "min_dist"),
        (network, X[::-1].copy(), "got one with other X"),
    ],
)
def test_another_fit_is_refused(
    make: Callable[[], UMAP], rows: np.ndarray, message: str, search: Path
) -> None:
    for path in (search, search.with_name("c.neumap")):
        with pytest.raises(ValueError, match=message):
            make().fit(rows, resume_from=path)


def test_neighbours_of_another_fit_beside_a_checkpoint_are_not_taken(
    tmp_path: Path, search: Path, searches: Searches
) -> None:
    other = tmp_path / "other.neumap"
    expected = network(n_neighbors=9, callbacks=[Checkpoint(other)]).fit(X)
    search.replace(search_file(other))
    n_before = searches.n
    # Those of another number are refused by their shape, those of equal shape by the fingerprint.
    with pytest.warns(UserWarning, match="cannot be used and are searched again"):
        check_equal(network(n_neighbors=9).fit(X, resume_from=other), expected)
    assert searches.n == n_before + 1

    expected = network(callbacks=[Checkpoint(other)]).fit(X)
    stopped(network(random_state=1), tmp_path / "c.neumap", 1)
    search.replace(search_file(other))
    with pytest.warns(UserWarning, match="origin must be that of this fit, got 'that of another'"):
        check_equal(network().fit(X, resume_from=other), expected)


def test_damaged_neighbours_are_refused_or_searched_again(
    tmp_path: Path, search: Path, expected: ParametricUMAP
) -> None:
    content = bytearray(search.read_bytes())
    content[len(content) // 2] ^= 1
    search.write_bytes(content)
    for path in (search, tmp_path / "c.neumap"):
        with pytest.raises(ArchiveError, match="damaged"):
            network().fit(X, resume_from=path)
    stopped(network(), tmp_path / "c.neumap", BETWEEN)
    search.write_bytes(content)
    with pytest.warns(UserWarning, match="searched again, which takes time and gives the same"):
        check_equal(network().fit(X, resume_from=tmp_path / "c.neumap"), expected)


def forgeries(metadata: Any, indices: np.ndarray, distances: np.ndarray) -> dict[str, Any]:
    def at(values: np.ndarray, place: Any, value: Any) -> np.ndarray:
        changed = values.copy()
        changed[place] = value
        return changed

    def told(**given: Any) -> dict[str, Any]:
        return {"search": {**metadata["search"], **given}}

    return {
        "a row that does not exist": (metadata, at(indices, (5, 3), 240), distances),
        "a negative row": (metadata, at(indices, (5, 3), -2), distances),
        "another row first": (metadata, at(indices, (5, 0), 6), distances),
        "a row that is far from itself": (metadata, indices, at(distances, (5, 0), 1.0)),
        "not a number": (metadata, indices, at(distances, (5, 3), np.nan)),
        "no row at a distance": (metadata, at(indices, (5, 3), -1), distances),
        "fewer rows": (metadata, indices[:-1], distances[:-1]),
        "fewer neighbours": (metadata, indices[:, :-1], distances[:, :-1]),
        "other lengths": (metadata, indices, distances[:, :-1]),
        "other numbers": (metadata, indices.astype(np.float32), distances),
        "larger numbers": (metadata, indices.astype(np.int64), distances),
        "a tensor": (metadata, torch.from_numpy(indices), distances),
        "no origin": ({"search": {**metadata["search"], "origin": 3}}, indices, distances),
        "no fingerprint": (told(origin={}), indices, distances),
        "recall": (told(recall="all"), indices, distances),
        "a name without end": (told(backend="x" * 10_000), indices, distances),
        "no name": (told(backend=3), indices, distances),
        "a list": ({"search": [1]}, indices, distances),
    }


def test_forged_neighbours_are_refused(search: Path, tmp_path: Path) -> None:
    """Under valid checksums; no row number reaches the training that does not exist."""
    archive = read_archive(search)
    indices, distances = archive.tensors["indices"], archive.tensors["distances"]
    for name, (metadata, i, d) in forgeries(archive.metadata, indices, distances).items():
        write_archive(
            tmp_path / "forged.neumap", tensors={"indices": i, "distances": d}, metadata=metadata
        )
        try:
            network().fit(X, resume_from=tmp_path / "forged.neumap")
        except ArchiveError:
            continue
        pytest.fail(name)


def test_a_checkpoint_names_no_file_elsewhere(tmp_path: Path) -> None:
    from test_resume import rewrite

    from neumap.callbacks.checkpoint import read_checkpoint

    stopped(network(), tmp_path / "c.neumap", BETWEEN)
    for place in ("/etc/search.neumap", "../secret.txt", 3):
        rewrite(tmp_path / "c.neumap", {**read_checkpoint(tmp_path / "c.neumap"), "search": place})
        with pytest.raises(ArchiveError, match="search must be"):
            network().fit(X, resume_from=tmp_path / "c.neumap")


def test_checkpoints_of_before_have_no_neighbours(
    tmp_path: Path, searches: Searches, expected: ParametricUMAP
) -> None:
    from test_resume import rewrite

    from neumap.callbacks.checkpoint import read_checkpoint

    stopped(network(), tmp_path / "c.neumap", BETWEEN)
    state = read_checkpoint(tmp_path / "c.neumap")
    del state["search"]
    rewrite(tmp_path / "c.neumap", state)
    check_equal(network().fit(X, resume_from=tmp_path / "c.neumap"), expected)
    assert searches.n == 2
