"""Fuzzy graphs against umap-learn's on the same neighbours, and against hand-made cases."""

import time
import warnings

import numpy as np
import pytest
import scipy.sparse

from neumap.fuzzy import (
    FuzzyGraph,
    difference,
    edge_distances,
    fuzzy_simplicial_set,
    intersection,
    local_radii,
    membership_to_train,
    reset_local_connectivity,
    smooth_knn,
    union,
)
from neumap.neighbors import NeighborGraph, NeighborSearch, find_neighbors, query_neighbors

# umap-learn's own set-up of compiled code, not ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:numba")


@pytest.fixture(scope="module")
def umap():
    return pytest.importorskip("umap.umap_")


@pytest.fixture(scope="module")
def rows():
    """Rows in 6 columns with 25 equal ones and three far from all others."""
    rows = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    rows[:25] = rows[0]
    rows[-3:] += 50 * np.arange(1, 4, dtype=np.float32)[:, None]
    return rows


def quiet(function, *arguments, **keywords):
    """Call without the warning of isolated rows, which the far ones cause on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Every row must have a neighbour")
        return function(*arguments, **keywords)


def reference_graph(umap, graph, disconnection_distance=None, **keywords):
    indices, distances = graph.indices.copy(), graph.distances.copy()
    if disconnection_distance is not None:
        cut = distances >= disconnection_distance
        indices[cut], distances[cut] = -1, np.inf
    return umap.fuzzy_simplicial_set(
        np.empty((len(indices), 1)), indices.shape[1], None, "euclidean",
        knn_indices=indices, knn_dists=distances, **keywords,
    )  # fmt: skip


def assert_equal_graphs(ours, theirs, atol=1e-5):
    gap = abs(ours.to_csr() - scipy.sparse.csr_matrix(theirs))
    assert gap.max() <= atol
    assert (ours.heads < ours.tails).all()
    key = ours.heads * ours.n_vertices + ours.tails
    assert (np.diff(key) > 0).all()


# The graph of the data


@pytest.mark.reference
@pytest.mark.parametrize("n_neighbors", [2, 5, 15, 50])
@pytest.mark.parametrize("local_connectivity", [0.5, 1.0, 1.7, 3.0, 60.0])
def test_equals_umap_learn(umap, rows, n_neighbors, local_connectivity):
    graph = find_neighbors(rows, n_neighbors)
    for mix in (0.0, 0.3, 1.0):
        settings = {"set_op_mix_ratio": mix, "local_connectivity": local_connectivity}
        theirs, sigmas, rhos = reference_graph(umap, graph, **settings)
        assert_equal_graphs(quiet(fuzzy_simplicial_set, graph, **settings), theirs)
    ours = smooth_knn(graph.distances, n_neighbors, local_connectivity)
    np.testing.assert_allclose(ours[0], sigmas, rtol=1e-4)
    np.testing.assert_allclose(ours[1], rhos, rtol=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize("distance", [0.5, 1.5, 3.0])
def test_disconnection_equals_umap_learn(umap, rows, distance):
    graph = find_neighbors(rows, 10)
    theirs = reference_graph(umap, graph, distance)[0]
    ours = quiet(fuzzy_simplicial_set, graph, disconnection_distance=distance)
    assert_equal_graphs(ours, theirs)
    isolated = np.flatnonzero(np.asarray(theirs.sum(axis=1)).reshape(-1) == 0)
    np.testing.assert_array_equal(ours.isolated(), isolated)
    assert {397, 398, 399} <= set(isolated)


def test_isolated_rows_are_told(rows):
    graph = find_neighbors(rows, 5)
    with pytest.warns(UserWarning, match="got 3 of 400 rows without one"):
        fuzzy_simplicial_set(graph, disconnection_distance=20.0)


def test_fractional_connectivity_where_neighbours_are_cut(rows):
    graph = find_neighbors(rows, 10)
    ours = quiet(fuzzy_simplicial_set, graph, local_connectivity=2.5, disconnection_distance=1.0)
    assert np.isfinite(ours.weights).all()


def test_scale_solves_its_equation():
    distances = np.sort(np.random.default_rng(0).gamma(4.0, size=(50, 12)), axis=1)
    distances[:, 0] = 0
    sigmas, rhos = smooth_knn(distances, n_neighbors=12)
    np.testing.assert_allclose(rhos, distances[:, 1], rtol=1e-6)
    sums = np.exp(-(distances[:, 1:] - rhos[:, None]) / sigmas[:, None]).sum(axis=1)
    np.testing.assert_allclose(sums, np.log2(12), atol=1e-4)


def test_four_points_by_hand():
    # On a line at 0, 1, 3, 3.5 with two neighbours each: every weight is 1, as the only
    # neighbour is at distance rho. 0->1, 1->0, 3->3.5, 3.5->3.
    graph = find_neighbors(np.array([[0], [1], [3], [3.5]]), 2)
    fuzzy = fuzzy_simplicial_set(graph)
    assert fuzzy.heads.tolist() == [0, 2]
    assert fuzzy.tails.tolist() == [1, 3]
    assert fuzzy.weights.tolist() == [1, 1]


def test_mix_of_union_and_intersection_by_hand():
    # 0 sees 1 fully and 2 partly; 2 does not see 0.
    graph = NeighborGraph(
        np.array([[0, 1, 2], [1, 0, 3], [2, 3, 1], [3, 2, 1]]),
        np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]], dtype=np.float32), "hand", 1, 0,
    )  # fmt: skip
    whole = fuzzy_simplicial_set(graph, set_op_mix_ratio=1.0).to_csr().toarray()
    shared = fuzzy_simplicial_set(graph, set_op_mix_ratio=0.0).to_csr().toarray()
    half = fuzzy_simplicial_set(graph, set_op_mix_ratio=0.5).to_csr().toarray()
    assert whole[0, 2] > 0
    assert shared[0, 2] == 0
    assert shared[0, 1] == 1
    np.testing.assert_allclose(half, (whole + shared) / 2, atol=1e-6)


def test_fast_enough_without_compilation():
    generator = np.random.default_rng(0)
    n, k = 20_000, 15
    others = generator.integers(0, n, size=(n, k - 1))
    distances = np.sort(generator.gamma(20.0, size=(n, k)), axis=1).astype(np.float32)
    distances[:, 0] = 0
    graph = NeighborGraph(np.column_stack([np.arange(n), others]), distances, "random", 1, 0)
    started = time.process_time()  # not the wall's: other tests run at the same time
    fuzzy_simplicial_set(graph)
    assert time.process_time() - started < 2.0  # 0.1 s on an idle core


# The value


def triangle():
    weights = np.array([1.0, 0.5, 0.25], dtype=np.float32)
    return FuzzyGraph(np.array([0, 0, 1]), np.array([1, 2, 2]), weights, 4)


def test_matrix_degrees_and_isolated():
    matrix = triangle().to_csr()
    assert scipy.sparse.issparse(matrix)
    assert matrix.toarray().tolist() == [
        [0, 1, 0.5, 0], [1, 0, 0.25, 0], [0.5, 0.25, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert triangle().degrees().tolist() == [1.5, 1.25, 0.75, 0]
    assert triangle().isolated().tolist() == [3]


def test_an_edge_that_weighs_nothing_connects_no_row():
    weights = np.array([1.0, 0.5, 0.0], dtype=np.float32)
    graph = FuzzyGraph(np.array([0, 0, 2]), np.array([1, 1, 3]), weights, 5)
    assert graph.has_edges().tolist() == [True, True, False, False, False]
    np.testing.assert_array_equal(graph.isolated(), np.flatnonzero(graph.degrees() == 0))


def test_from_matrix_round_trip():
    again = FuzzyGraph.from_matrix(triangle().to_csr())
    for name in ("heads", "tails", "weights", "n_vertices"):
        np.testing.assert_array_equal(getattr(again, name), getattr(triangle(), name))
    assert again.heads.dtype == again.tails.dtype == np.int64
    assert again.weights.dtype == np.float32


# New rows


@pytest.mark.reference
@pytest.mark.parametrize("local_connectivity", [1.0, 1.5, 2.0, 3.2])
def test_membership_of_new_rows_equals_umap_learn(umap, rows, local_connectivity):
    new = np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32)
    indices, distances = query_neighbors(rows, new, 8)
    sigmas, rhos = umap.smooth_knn_dist(
        distances, 8.0, local_connectivity=max(0.0, local_connectivity - 1.0)
    )
    cut = np.where(distances >= 2.5, -1, indices)
    heads, tails, values, _ = umap.compute_membership_strengths(
        cut, distances, sigmas, rhos, bipartite=True
    )
    theirs = scipy.sparse.csr_matrix((values, (heads, tails)), shape=(60, 400))
    ours = membership_to_train(
        indices, distances, 400,
        local_connectivity=local_connectivity, disconnection_distance=2.5,
    )  # fmt: skip
    assert abs(ours - theirs).max() <= 1e-5
    assert ours.nnz == (cut >= 0).sum()


# Algebra


@pytest.fixture(scope="module")
def pair(rows):
    """Graphs of the first three and of the last three columns, over the same rows."""
    return [
        quiet(fuzzy_simplicial_set, find_neighbors(part, 12)) for part in (rows[:, :3], rows[:, 3:])
    ]


@pytest.mark.reference
def test_union_equals_umap_learn(umap, pair):
    a, b = (graph.to_csr() for graph in pair)
    theirs = umap.reset_local_connectivity(umap.general_simplicial_set_union(a, b), True)
    assert_equal_graphs(union(*pair), theirs)


@pytest.mark.reference
@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_intersection_equals_umap_learn(umap, pair, weight):
    a, b = (graph.to_csr() for graph in pair)
    met = umap.general_simplicial_set_intersection(a, b, weight)
    theirs = umap.reset_local_connectivity(met, True)
    assert_equal_graphs(intersection(*pair, weight), theirs)


@pytest.mark.reference
def test_difference_equals_umap_learn(umap, pair):
    a, b = (graph.to_csr() for graph in pair)
    left = umap.general_simplicial_set_intersection(a, b, weight=0.5, right_complement=True)
    theirs = umap.reset_local_connectivity(left, False)
    assert_equal_graphs(difference(*pair), theirs)


@pytest.mark.reference
def test_reset_equals_umap_learn(umap, pair):
    theirs = umap.reset_local_connectivity(pair[0].to_csr(), False)
    assert_equal_graphs(reset_local_connectivity(pair[0]), theirs)


def test_algebra_needs_the_same_vertices(pair):
    for operation in (union, intersection, difference):
        with pytest.raises(ValueError, match="400 and 4 vertices"):
            operation(pair[0], triangle())


# Densities


@pytest.mark.reference
def test_local_radii_equal_umap_learn(umap, rows):
    graph = find_neighbors(rows[:-3], 10)
    fuzzy = fuzzy_simplicial_set(graph)
    theirs, _, _, lengths = reference_graph(umap, graph, return_dists=True)
    theirs = theirs.tocoo()
    totals, masses = np.zeros(397), np.zeros(397)
    for i, j, weight in zip(theirs.row, theirs.col, theirs.data, strict=True):
        totals[[i, j]] += weight * lengths[i, j] ** 2
        masses[[i, j]] += weight
    radii = local_radii(fuzzy, edge_distances(fuzzy, graph) ** 2)
    np.testing.assert_allclose(radii, np.log(1e-8 + totals / masses), atol=1e-5)


def test_isolated_vertices_have_no_radius():
    radii = local_radii(triangle(), np.ones(3))
    assert np.isnan(radii).tolist() == [False, False, False, True]
    np.testing.assert_allclose(radii[:3], 0, atol=1e-6)


def test_edge_distances_take_the_larger_direction():
    neighbors = NeighborGraph(
        np.array([[0, 1], [1, 0], [2, 0], [3, -1]]),
        np.array([[0, 1.0], [0, 1.5], [0, 3.0], [0, np.inf]], dtype=np.float32), "hand", 1, 0,
    )  # fmt: skip
    assert edge_distances(triangle(), neighbors).tolist() == [1.5, 3.0, 0.0]


def test_edges_of_anchors_have_the_strengths_of_their_own_lists():
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    anchors = np.arange(0, 300, 3)
    found = NeighborSearch().find(rows, 10, anchors=anchors)
    graph = fuzzy_simplicial_set(found)
    everything = find_neighbors(rows, 10)
    sigmas, rhos = smooth_knn(everything.distances, 10)
    excess = np.maximum(everything.distances - rhos[:, None], 0)
    strengths = np.zeros((300, 300))
    np.put_along_axis(strengths, everything.indices, np.exp(-excess / sigmas[:, None]), axis=1)
    np.fill_diagonal(strengths, 0)
    strengths[np.setdiff1d(np.arange(300), anchors)] = 0  # nothing is known of their view
    union = strengths + strengths.T - strengths * strengths.T
    np.testing.assert_allclose(graph.to_csr().toarray(), union, atol=1e-6)
    assert graph.n_vertices == 300


def test_other_rows_weigh_their_neighbours_at_their_own_scale():
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    anchors = np.arange(0, 300, 3)
    search = NeighborSearch()
    longer = search.find(rows, 20, anchors=anchors)
    found = search.find(rows, 10, anchors=anchors)
    others = search.join(rows, longer, 5)
    assert np.isin(others.asking(), anchors, invert=True).all()
    strengths = np.zeros((300, 300))
    for part in (found, others):
        sigmas, rhos = smooth_knn(part.distances, part.indices.shape[1])
        excess = np.maximum(part.distances - rhos[:, None], 0)
        known = np.zeros((len(part.indices), 300))
        np.put_along_axis(known, part.indices, np.exp(-excess / sigmas[:, None]), axis=1)
        strengths[part.asking()] = known
    np.fill_diagonal(strengths, 0)
    union = strengths + strengths.T - strengths * strengths.T
    graph = fuzzy_simplicial_set(found, others=others)
    np.testing.assert_allclose(graph.to_csr().toarray(), union, atol=1e-6)


def test_lengths_of_the_edges_of_anchors():
    rows = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    found = NeighborSearch().find(rows, 6, anchors=np.arange(1, 200, 2))
    graph = fuzzy_simplicial_set(found)
    expected = np.linalg.norm(rows[graph.heads] - rows[graph.tails], axis=1)
    np.testing.assert_allclose(edge_distances(graph, found), expected, rtol=1e-5)
