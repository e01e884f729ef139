"""Several data sets on maps that are comparable."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score, pairwise_distances

import neumap
from neumap import UMAP, AlignedUMAP, ParametricUMAP
from neumap.archive import ArchiveError, read_archive, write_archive
from neumap.callbacks import Callback, Checkpoint
from neumap.estimators.aligned.learned import misalignment
from neumap.estimators.aligned.one_network import fit_one_network
from neumap.estimators.aligned.relations import check_relations, partners_of
from neumap.losses import Kernel, umap_loss
from neumap.losses.alignment import AlignmentTerm, JointUmapTerm
from neumap.losses.terms import Batch, Softening

IRIS = load_iris()
WINDOWS = [IRIS.data[start : start + 50] for start in range(0, 125, 25)]
LABELS = [IRIS.target[start : start + 50] for start in range(0, 125, 25)]
RELATIONS = [{row + 25: row for row in range(25)} for _ in range(4)]
BACK = {row: row + 25 for row in range(25)}  # of a new window, in update
QUICK = {"n_epochs": 40, "random_state": 0}


def neighbours_kept(rows: Any, positions: NDArray[np.float32], k: int = 10) -> float:
    """Share of the nearest rows, the row included, that are nearest on the map."""
    near, there = (pairwise_distances(a).argsort(1)[:, :k] for a in (rows, positions))
    pairs = zip(near, there, strict=True)
    return float(np.mean([np.isin(one, other).mean() for one, other in pairs]))


@pytest.fixture(scope="module")
def whole() -> AlignedUMAP:
    return AlignedUMAP(random_state=0).fit(WINDOWS, relations=RELATIONS)


@pytest.fixture(scope="module")
def network() -> AlignedUMAP:
    model = AlignedUMAP(parametric=True, preset="fast", random_state=0)
    return model.fit(WINDOWS, relations=RELATIONS)


# ---- what umap-learn's tests ask for -------------------------------------------------------------


def test_every_map_keeps_its_neighbourhoods(whole: AlignedUMAP) -> None:
    for rows, positions in zip(WINDOWS, whole.embeddings_, strict=True):
        assert neighbours_kept(rows, positions) >= 0.65


def test_groups_are_clusters_of_their_map(whole: AlignedUMAP) -> None:
    for number, least in ((1, 0.75), (3, 0.4)):
        found = KMeans(2, n_init=10, random_state=0).fit_predict(whole.embeddings_[number])
        assert adjusted_rand_score(LABELS[number], found) >= least


@pytest.mark.parametrize("n_neighbors", [15, [15, 15, 15], [15, 15, 15, 20]])
def test_a_later_data_set_joins(n_neighbors: Any) -> None:
    model = AlignedUMAP(n_neighbors, random_state=0)
    model.fit(WINDOWS[:3], relations=RELATIONS[:2])
    before = [embedding.copy() for embedding in model.embeddings_]
    own = {} if n_neighbors == 15 or len(n_neighbors) > 3 else {"n_neighbors": 20}
    model.update(WINDOWS[3], relations=BACK, **own)
    assert model.n_models_ == 4
    assert model.dict_relations_ == RELATIONS[:3]
    for rows, positions in zip(WINDOWS[:4], model.embeddings_, strict=True):
        assert neighbours_kept(rows, positions) >= 0.6
    for earlier, now in zip(before, model.embeddings_, strict=False):
        np.testing.assert_array_equal(now, earlier)
    assert model.mappers_[3].n_neighbors == (15 if n_neighbors == 15 else 20)
    related = np.array([-1] * 25 + [*range(25)])
    assert misalignment(model.embeddings_[2:], [related]) < 0.3  # of the extent of the two maps


# ---- alignment -----------------------------------------------------------------------------------


def apart(model: AlignedUMAP) -> float:
    """Mean distance of related rows relative to the extent, computed anew."""
    maps = model.embeddings_
    moved = [np.linalg.norm(a[25:] - b[:25], axis=1) for a, b in itertools.pairwise(maps)]
    centred = np.concatenate(maps) - np.concatenate(maps).mean(axis=0)
    return float(np.mean(moved) / np.sqrt((centred**2).sum(axis=1).mean()))


def test_related_rows_lie_near_each_other(whole: AlignedUMAP) -> None:
    assert apart(whole) < 0.12
    assert whole.report_["misalignment"] == pytest.approx(apart(whole), rel=1e-4)
    alone = [UMAP(random_state=number).fit(rows) for number, rows in enumerate(WINDOWS)]
    maps = [model.embedding_ - model.embedding_.mean(axis=0) for model in alone]
    relations = check_relations(RELATIONS, [50] * 5)
    assert misalignment(maps, relations) > 4 * apart(whole)


def test_the_weight_and_the_window_act() -> None:
    def fitted(**parameters: Any) -> AlignedUMAP:
        model = AlignedUMAP(random_state=0, **parameters)
        return model.fit(WINDOWS, relations=RELATIONS)

    loose, tight = (fitted(alignment_regularisation=w) for w in (0.0005, 0.2))
    assert apart(tight) < 0.5 * apart(loose)
    assert "alignment_loss" not in fitted(alignment_regularisation=0.0, n_epochs=5).history_
    near, far = (fitted(alignment_window_size=w, n_epochs=5).embeddings_[0] for w in (1, 2))
    # Two windows apart no iris is the same, so a wider window changes nothing here.
    np.testing.assert_array_equal(near, far)
    same = [{row: row for row in range(50)}] * 2
    several = [
        AlignedUMAP(alignment_window_size=w, **QUICK).fit(WINDOWS[:1] * 3, relations=same)
        for w in (1, 2)
    ]
    assert not np.array_equal(several[0].embeddings_[0], several[1].embeddings_[0])


def test_one_network_places_equal_rows_alike(network: AlignedUMAP) -> None:
    maps = network.embeddings_
    for a, b in itertools.pairwise(maps):
        np.testing.assert_allclose(a[25:], b[:25], atol=1e-5)
    assert all(neighbours_kept(r, p) >= 0.6 for r, p in zip(WINDOWS, maps, strict=True))
    np.testing.assert_allclose(network.transform(WINDOWS[1], 0), maps[1], atol=1e-5)
    assert isinstance(network.encoder_, torch.nn.Module)
    assert all(isinstance(model, ParametricUMAP) for model in network.mappers_)
    assert network.mappers_[2].graph_.shape == (50, 50)


def test_related_rows_of_a_network_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    room = "neumap.estimators.aligned.one_network.fit_map"
    monkeypatch.setattr(room, lambda data, recipe, graph, warm_start: seen.update(graph=graph))
    later = WINDOWS[1].copy()
    later[:5] += 0.5  # measured again; the other 20 rows are the same
    data = [neumap.estimators.fitted.check_rows(rows, True, "x") for rows in (WINDOWS[0], later)]
    relations = check_relations(RELATIONS[:1], [50, 50])
    alignment = neumap.estimators.aligned.together.Alignment(0.004, 3)
    graphs = [scipy.sparse.csr_matrix((50, 50), dtype=np.float32)] * 2
    fit_one_network(data, graphs, relations, alignment, None)  # type: ignore[arg-type]
    edges = seen["graph"]
    assert edges.heads.tolist() == [25, 26, 27, 28, 29]
    assert edges.tails.tolist() == [50, 51, 52, 53, 54]
    np.testing.assert_allclose(edges.weights, 0.4)


def test_a_network_learns_a_later_data_set() -> None:
    model = AlignedUMAP(parametric=True, preset="fast", **QUICK)
    model.fit(WINDOWS[:2], relations=RELATIONS[:1])
    before = np.concatenate(model.embeddings_)
    model.update(WINDOWS[2], relations=BACK)
    assert [len(e) for e in model.embeddings_] == [50, 50, 50]
    after = np.concatenate(model.embeddings_[:2])
    assert np.linalg.norm(after - before, axis=1).mean() < 0.3 * before.std()
    assert model.report_["drift"]["n_landmarks"] == 100
    assert model.dict_relations_ == RELATIONS[:2]


def test_networks_of_ones_own() -> None:
    own = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    model = AlignedUMAP(parametric=True, encoder=own, **QUICK)
    model.fit(WINDOWS[:2], relations=RELATIONS[:1])
    assert isinstance(model.encoder_, torch.nn.Sequential)
    assert model.encoder_ is not own


# ---- parameters, inputs --------------------------------------------------------------------------


def test_each_map_may_have_its_own_parameters() -> None:
    same = [{row: row for row in range(50)}] * 2
    model = AlignedUMAP([5, 10, 15], min_dist=np.array([0.0, 0.1, 0.5, 0.9]), **QUICK)
    model.fit(WINDOWS[:1] * 3, relations=same)
    assert [m.n_neighbors for m in model.mappers_] == [5, 10, 15]
    assert [m.min_dist for m in model.mappers_] == [0.0, 0.1, 0.5]
    n_edges = [m.graph_.nnz for m in model.mappers_]
    assert n_edges[0] < n_edges[1] < n_edges[2]
    other = AlignedUMAP([5, 10, 15], **QUICK).fit(WINDOWS[:1] * 3, relations=same)
    assert not np.array_equal(other.embeddings_[2], model.embeddings_[2])


def test_data_sets_may_differ_in_rows_and_columns_and_have_targets() -> None:
    sparse = scipy.sparse.csr_matrix(WINDOWS[1][:40, :3])
    sets = [WINDOWS[0], sparse, WINDOWS[2]]
    relations = [{row + 25: row for row in range(15)}, {row + 25: row for row in range(15)}]
    plain = AlignedUMAP(**QUICK).fit(sets, relations=relations)
    assert [e.shape for e in plain.embeddings_] == [(50, 2), (40, 2), (50, 2)]
    assert plain.transform(WINDOWS[1][40:, :3], 1).shape == (10, 2)
    assert plain.transform(WINDOWS[3]).shape == (50, 2)
    labelled = AlignedUMAP(**QUICK).fit(sets, [None, None, LABELS[2]], relations=relations)
    assert (labelled.mappers_[2].graph_ != plain.mappers_[2].graph_).nnz > 0
    assert (labelled.mappers_[0].graph_ != plain.mappers_[0].graph_).nnz == 0


def test_equal_rows_share_a_place_with_unique() -> None:
    double = np.concatenate([WINDOWS[0][:30], WINDOWS[0][:10]])
    relations = [{row: row for row in range(30, 40)}]
    model = AlignedUMAP(unique=True, **QUICK).fit([double, double], relations=relations)
    for positions in model.embeddings_:
        np.testing.assert_array_equal(positions[30:], positions[:10])
    first, second = model.embeddings_
    assert model.mappers_[0].graph_.shape[0] < 40
    assert np.linalg.norm(first[:10] - second[:10], axis=1).mean() < first.std()


def test_seeds_repeat_and_global_state_is_kept() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - that it is untouched is the point
    one, two = (AlignedUMAP(**QUICK).fit(WINDOWS[:2], relations=RELATIONS[:1]) for _ in "ab")
    for a, b in zip(one.embeddings_, two.embeddings_, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_no_epochs_keep_the_start_where_related_rows_coincide() -> None:
    model = AlignedUMAP(n_epochs=0, random_state=0).fit(WINDOWS, relations=RELATIONS)
    for a, b in zip(model.embeddings_, model.embeddings_[1:], strict=False):
        np.testing.assert_array_equal(a[25:], b[:25])


def test_positions_to_start_from() -> None:
    starts = [rows[:, :2] for rows in WINDOWS[:2]]
    model = AlignedUMAP(n_epochs=0, init=starts).fit(WINDOWS[:2], relations=RELATIONS[:1])
    assert np.corrcoef(model.embeddings_[1][:, 0], WINDOWS[1][:, 0])[0, 1] > 0.999


class Broken(Callback):
    def on_epoch_end(self, run: Any) -> None:
        raise RuntimeError("stopped")


def test_a_fit_that_fails_changes_nothing() -> None:
    model = AlignedUMAP(**QUICK).fit(WINDOWS[:2], relations=RELATIONS[:1])
    before = model.embeddings_[1].copy()
    model.set_params(callbacks=[Broken()])
    with pytest.raises(RuntimeError, match="stopped"):
        model.fit(WINDOWS[:3], relations=RELATIONS[:2])
    with pytest.raises(RuntimeError, match="stopped"):
        model.update(WINDOWS[2], relations=BACK)
    assert model.n_models_ == 2
    np.testing.assert_array_equal(model.embeddings_[1], before)


def fit(relations: Any = RELATIONS[:1], sets: Any = None, **parameters: Any) -> Any:
    given = WINDOWS[:2] if sets is None else sets
    return AlignedUMAP(**{**QUICK, **parameters}).fit(given, relations=relations)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(None), "relations must be a list of 1 dicts for 2 data sets, got NoneType"),
        (lambda: fit([]), "relations must be a list of 1 dicts for 2 data sets, got 0"),
        (lambda: fit([{50: 0}]), r"relations\[0\] must have keys from 0 to 49, got 50"),
        (lambda: fit([{0: -1}]), r"relations\[0\] must have values from 0 to 49, got -1"),
        (lambda: fit([{0: 3, 1: 3}]), r"relations\[0\] must relate each row to one row, got value"),
        (lambda: fit([{"a": 3}]), r"relations\[0\] must be a dict from row numbers"),
        (lambda: fit([7]), r"relations\[0\] must be a dict from row numbers"),
        (lambda: fit(sets=WINDOWS[0]), "X must be a list of data sets, got ndarray"),
        (lambda: fit(sets=[]), "X must hold at least one data set"),
        (lambda: fit(sets=[WINDOWS[0], [[np.nan] * 4] * 9]), "Data set 1: "),
        (lambda: fit(n_neighbors=[5]), "n_neighbors must have a value for each data set, got 1"),
        (lambda: fit(n_neighbors=[5, "a"]), "n_neighbors must be an integer"),
        (lambda: fit(n_epochs=[5, 6]), "n_epochs must be"),
        (lambda: fit(alignment_regularisation=-1), "alignment_regularisation must be a number"),
        (lambda: fit(alignment_window_size=0), "alignment_window_size must be an integer"),
        (lambda: fit(parametric="yes"), "parametric must be True or False"),
        (lambda: fit(encoder="mlp"), "encoder must be None without a network, got 'mlp'"),
        (lambda: fit(callbacks=Checkpoint("x.ckpt")), "callbacks must hold no Checkpoint with Al"),
        (lambda: fit(preset="fast"), "preset must be 'default' without a network, got 'fast'"),
        (lambda: fit(parametric=True, n_neighbors=[5, 6]), "n_neighbors must be one value with a"),
        (lambda: fit(parametric=True, unique=True), "unique must be another with a network"),
        (lambda: fit(parametric=True, metric="precomputed"), "metric must be another with a netw"),
        (lambda: fit(parametric=True, init="pca"), "init must be 'auto' for an encoder"),
        (
            lambda: fit(parametric=True, sets=[WINDOWS[0], WINDOWS[1][:, :3]]),
            "X must have the same columns in all data sets with a network, 4, got 3 in data set 1",
        ),
    ],
)
def test_what_cannot_be_fitted(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_targets_are_one_array_per_data_set() -> None:
    with pytest.raises(ValueError, match="y must hold one array of targets per data set, 2, got 1"):
        AlignedUMAP(**QUICK).fit(WINDOWS[:2], LABELS[:1], relations=RELATIONS[:1])


def test_what_update_refuses(whole: AlignedUMAP) -> None:
    model = copy.deepcopy(whole)
    for arguments, message in (
        ({}, "relations must be a dict from rows of the new data set"),
        ({"relations": {0: 50}}, "relations must have values from 0 to 49, got 50"),
        (
            {"relations": BACK, "n_epochs": 3},
            r"Parameters of update must be of .*got \['n_epochs'\]",
        ),
        ({"relations": BACK, "n_neighbors": [5]}, "n_neighbors must be one value in update"),
    ):
        with pytest.raises(ValueError, match=message):
            model.update(WINDOWS[0], **arguments)
    assert model.n_models_ == 5
    for dataset in (5, -6, 1.5):
        with pytest.raises(ValueError, match="dataset must be an integer from -5 to 4"):
            model.transform(WINDOWS[0], dataset)


def test_before_a_fit_there_is_nothing() -> None:
    model = AlignedUMAP()
    for name in ("embeddings_", "mappers_", "dict_relations_", "n_models_", "encoder_"):
        assert not hasattr(model, name)
    with pytest.raises(neumap.estimators.fitted.NotFittedError):
        model.transform(WINDOWS[0])
    with pytest.raises(AttributeError, match="its positions are free"):
        fit(n_epochs=1).encoder_  # noqa: B018 - reading it is the test


# ---- copies and files ----------------------------------------------------------------------------


def assert_equal(ours: AlignedUMAP, theirs: AlignedUMAP) -> None:
    for a, b in zip(ours.embeddings_, theirs.embeddings_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.dict_relations_ == theirs.dict_relations_
    assert ours.history_ == theirs.history_
    assert ours.report_ == theirs.report_
    new = WINDOWS[0] + 0.05
    np.testing.assert_array_equal(ours.transform(new, 1), theirs.transform(new, 1))


@pytest.mark.parametrize("kind", ["whole", "network"])
def test_copies_and_files_are_equal(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model: AlignedUMAP = request.getfixturevalue(kind)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        neumap.load(model.save(tmp_path / "maps.neumap")),
    ):
        assert isinstance(other, AlignedUMAP)
        assert other.get_params() == model.get_params()
        assert_equal(other, model)
    assert not hasattr(clone(model), "embeddings_")
    assert clone(model).get_params() == model.get_params()


def test_files_keep_lists_and_updates(tmp_path: Path) -> None:
    model = AlignedUMAP([5, 6], metric=["euclidean", "manhattan"], **QUICK)
    model.fit(WINDOWS[:2], relations=RELATIONS[:1])
    model.update(WINDOWS[2], relations=BACK, n_neighbors=7, metric="chebyshev")
    other = neumap.load(model.save(tmp_path / "maps.neumap"))
    assert [m.n_neighbors for m in other.mappers_] == [5, 6, 7]
    assert [m.metric for m in other.mappers_] == ["euclidean", "manhattan", "chebyshev"]
    assert_equal(other, model)
    other.update(WINDOWS[3], relations=BACK, n_neighbors=8, metric="euclidean")
    assert other.n_models_ == 4
    empty = neumap.load(AlignedUMAP(7).save(tmp_path / "empty.neumap"))
    assert empty.n_neighbors == 7
    assert not hasattr(empty, "embeddings_")


def test_files_of_others_are_checked(whole: AlignedUMAP, tmp_path: Path) -> None:
    path = whole.save(tmp_path / "maps.neumap")
    archive = read_archive(path)

    def changed(name: str, value: Any) -> Path:
        nodes = copy.deepcopy(archive.metadata["estimator"])
        nodes["aligned"]["dict"][name] = value
        forged = tmp_path / "forged.neumap"
        return write_archive(forged, tensors=archive.tensors, metadata={"estimator": nodes})

    for name, value in (
        ("sizes", {"value": [50, 50]}),
        ("sizes", {"value": [50, 50, 50, 50, 51]}),
        ("relations", {"list": []}),
        ("relations", {"list": [{"value": 3}] * 4}),
        ("changed", {"value": [{}]}),
        ("changed", {"value": [{"n_neighbors": "many"}] + [{}] * 4}),
        ("parts", {"list": []}),
        ("parts", {"value": 3}),
        ("history", {"value": 3}),
    ):
        with pytest.raises(ArchiveError):
            neumap.load(changed(name, value))
    nodes = copy.deepcopy(archive.metadata["estimator"])
    nodes["class"] = "UMAP"
    nodes["parameters"] = {}
    forged = write_archive(
        tmp_path / "forged.neumap", tensors=archive.tensors, metadata={"estimator": nodes}
    )
    with pytest.raises(ArchiveError, match="must hold what a UMAP learned"):
        neumap.load(forged)


# ---- pieces --------------------------------------------------------------------------------------


def test_partners_are_found_by_walking_along_the_relations() -> None:
    dicts = [{0: 1, 1: 2, 2: 0, 3: 3}, {0: 0, 2: 1, 3: 2}, {1: 0, 2: 3}]
    sizes, window = [4, 4, 4, 4], 3
    table, pulls = partners_of(check_relations(dicts, sizes), sizes, window)
    np.testing.assert_allclose(pulls, [1, 0.5, 0.25] * 2)
    backwards = [{v: k for k, v in relation.items()} for relation in dicts]
    for number in range(4):
        for row in range(4):
            ahead, back, expected = row, row, {}
            for step in range(1, 4):
                if ahead is not None and number + step < 4:
                    ahead = dicts[number + step - 1].get(ahead)
                    expected[step - 1] = None if ahead is None else 4 * (number + step) + ahead
                if back is not None and number - step >= 0:
                    back = backwards[number - step].get(back)
                    expected[3 + step - 1] = None if back is None else 4 * (number - step) + back
            found = table[4 * number + row]
            for column in range(6):
                wanted = expected.get(column)
                assert found[column] == (-1 if wanted is None else wanted)


def test_relations_may_be_arrays_of_pairs() -> None:
    (found,) = check_relations([np.array([[1, 0], [2, 4]])], [3, 5])
    assert found.tolist() == [-1, 0, 4]


def test_terms_are_their_formulas() -> None:
    positions = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    indices = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 4])  # two edges of map one, three of two
    batch = Batch(indices, None, positions[indices], 0.5)
    kernels = (Kernel(1.0, 1.0), Kernel(2.0, 0.8))
    joint = JointUmapTerm(kernels, (2, 3), Softening(0.01, 0.01), 1)(batch)
    parts = positions[indices][:4], positions[indices][4:]
    each = [umap_loss(p, k, eps=0.01, n_negatives=1) for p, k in zip(parts, kernels, strict=True)]
    torch.testing.assert_close(joint, (2 * each[0] + 3 * each[1]) / 5)

    partners = torch.full((9, 2), -1)
    partners[0, 0], partners[4, 1] = 7, 2
    term = AlignmentTerm(partners, torch.tensor([1.0, 0.5]), lambda: positions)
    a, b = positions[0] - positions[7], positions[4] - positions[2]  # row 4 is drawn twice
    torch.testing.assert_close(term(batch), (a.square().sum() + 2 * 0.5 * b.square().sum()) / 5)
    (slope,) = torch.autograd.grad(term(batch), positions)
    assert (slope[[1, 3, 5, 6, 8]] == 0).all()
    torch.testing.assert_close(slope[0], -slope[7])


@pytest.mark.slow
def test_windows_of_digits() -> None:
    digits = load_digits().data
    ordered = digits[digits.sum(axis=1).argsort()]
    windows = [ordered[150 * i : 150 * i + 400] for i in range(4)]
    relations = [{row + 150: row for row in range(250)}] * 3
    model = AlignedUMAP(random_state=0).fit(windows, relations=relations)
    assert model.report_["misalignment"] < 0.08
    for rows, positions in zip(windows, model.embeddings_, strict=True):
        assert trustworthiness(rows, positions, n_neighbors=10) > 0.97
