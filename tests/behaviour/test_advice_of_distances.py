"""What messages about distances advise is tried here, as a user would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import make_blobs
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import kneighbors_graph

from neumap import UMAP, ParametricUMAP
from neumap.neighbors import symmetric_distances

# Each row three times: the distances between copies are stored zeros.
BLOBS = make_blobs(40, n_features=5, centers=2, random_state=0)[0]
X = np.repeat(BLOBS, 3, axis=0)
FIRST, SECOND = np.arange(0, 120, 3), np.arange(1, 120, 3)


def model(**parameters: Any) -> UMAP:
    settings = {"metric": "precomputed", "n_neighbors": 8, "n_epochs": 1, "random_state": 0}
    return UMAP(**{**settings, **parameters})


def test_a_neighbour_graph_made_symmetric_keeps_its_zeros() -> None:
    one_way = kneighbors_graph(X, 12, mode="distance", metric="manhattan")
    with pytest.raises(ValueError, match=r"must be symmetric.*neighbors\.symmetric_distances\(D\)"):
        model().fit(one_way)
    both = symmetric_distances(one_way)
    expected = one_way.toarray()
    stored = one_way.copy()
    stored.data[:] = 1.0
    is_stored = stored.toarray() > 0
    np.testing.assert_array_equal(both.toarray(), np.maximum(expected, expected.T))
    assert both.nnz == (is_stored | is_stored.T).sum()
    of_all = model(n_neighbors=9).fit(pairwise_distances(X, metric="manhattan")).graph_
    of_stored = model(n_neighbors=9).fit(both).graph_
    assert of_stored[FIRST, SECOND].min() > 0.9
    np.testing.assert_allclose(of_stored.toarray(), of_all.toarray(), atol=1e-3)


def test_a_zero_stored_in_one_direction_only_is_no_symmetry() -> None:
    one_way = scipy.sparse.csr_matrix(([0.0], ([0], [1])), shape=(3, 3))
    with pytest.raises(ValueError, match="must be symmetric"):
        model(n_neighbors=2).fit(one_way)
    assert symmetric_distances(one_way).nnz == 2


def test_symmetric_distances_are_left_as_they_are() -> None:
    whole = scipy.sparse.csr_matrix(pairwise_distances(BLOBS))
    np.testing.assert_allclose(symmetric_distances(whole).toarray(), whole.toarray(), rtol=1e-12)
    assert model().fit(whole).graph_.nnz > 0  # although its last digits differ
    larger = scipy.sparse.csr_matrix(([2.0, 3.0], ([0, 1], [1, 0])), shape=(2, 2))
    assert symmetric_distances(larger).toarray().tolist() == [[0.0, 3.0], [3.0, 0.0]]


def test_infinite_distances_are_no_neighbours() -> None:
    distances = pairwise_distances(BLOBS)
    far = distances > np.sort(distances, axis=1)[:, 9].max()  # everyone keeps nine neighbours
    with pytest.raises(ValueError, match="Use infinity for rows that are no neighbours"):
        model().fit(np.where(far, -1.0, distances))
    with pytest.raises(ValueError, match="zero or more and not NaN, got a smallest value of nan"):
        model().fit(np.where(far, np.nan, distances))
    cut = np.where(far, np.inf, distances)
    fitted = model().fit(cut)
    np.testing.assert_array_equal(fitted.graph_.toarray(), model().fit(distances).graph_.toarray())
    assert np.isfinite(fitted.transform(cut[:5])).all()
    with pytest.raises(ValueError, match="not NaN"):
        fitted.transform(np.full((1, 40), np.nan))


def test_infinite_distances_of_a_network_are_passed_beside_its_rows() -> None:
    distances = pairwise_distances(BLOBS)
    far = distances > np.sort(distances, axis=1)[:, 9].max()
    cut = np.where(far, np.inf, distances)
    network = ParametricUMAP(
        metric="precomputed", n_neighbors=8, n_epochs=1, preset="fast", random_state=0
    )
    with pytest.raises(ValueError, match="infinity"):
        network.fit(cut)
    assert np.isfinite(network.fit(BLOBS, precomputed_distances=cut).embedding_).all()
