"""Search by cells: against all pairs, over thread counts, and on data that are hard for it."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from neumap._workers import workers
from neumap.neighbors import CellBackend, NeighborSearch, find_neighbors, resolve_metric
from neumap.neighbors import cells as cells_module
from neumap.neighbors import exact as exact_module
from neumap.neighbors import mapped as mapped_module
from neumap.neighbors import partition as partition_module
from neumap.neighbors import search as search_module
from neumap.neighbors.hnsw import found_share
from neumap.neighbors.mapped import MappedRows
from neumap.neighbors.partition import (
    find_centres,
    left_factor,
    nearest_cells,
    right_factor,
    scores_as_integers,
    smallest_columns,
    sorted_keys,
)

EUCLIDEAN = resolve_metric("euclidean")
SMALL = CellBackend(rows_per_cell=200, n_jobs=1)


def normal(n=3000, n_columns=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_columns)).astype(np.float32)


def tight_clusters(n_clusters=60, n_each=50):
    generator = np.random.default_rng(0)
    centres = generator.normal(scale=500, size=(n_clusters, 1, 6))
    rows = centres + generator.normal(scale=0.02, size=(n_clusters, n_each, 6))
    return rows.reshape(-1, 6).astype(np.float32)


def with_outliers():
    rows = normal(3000, 6)
    rows[::300] *= 1000
    return rows


def uneven():
    """Two thirds of the rows in a ball, the others spread a hundred times as wide."""
    rows = normal(3000, 5)
    rows[1000:] /= 100
    return rows


def far_away():
    return normal(3000, 10) + np.float32(4096)


def line():
    return np.linspace(0, 1, 3000, dtype=np.float32)[:, None] * np.ones(4, dtype=np.float32)


DATA = [normal, tight_clusters, with_outliers, uneven, far_away, line]


def all_pairs(rows, k, metric="euclidean"):
    """Sorted distances in float64 for a few rows; the numbers of these rows."""
    sample = np.random.default_rng(1).choice(len(rows), min(len(rows), 300), replace=False)
    matrix = cdist(rows[sample].astype(np.float64), rows.astype(np.float64), metric)
    return sample, np.sort(matrix, axis=1)[:, :k]


@pytest.fixture(params=["float32", "as measured"])
def precision(request, monkeypatch):
    """Also run without bfloat16 where the processor has it."""
    if request.param == "float32":
        monkeypatch.setattr(cells_module, "fast_dtype", lambda device: torch.float32)


# What is found


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("make", DATA)
def test_finds_the_neighbours(make):
    rows = make()
    graph = find_neighbors(rows, 10, backend=SMALL)
    sample, truth = all_pairs(rows, 10)
    found = graph.distances[sample]
    assert found_share(found[:, 1:], truth * (1 + 1e-4)) >= 0.96
    assert graph.backend == "cells"
    assert graph.recall >= 0.95


@pytest.mark.parametrize("metric", ["cosine", "correlation", "hellinger"])
def test_metrics_that_reduce_to_euclidean_distance(metric):
    rows = np.abs(normal(2500, 12))
    graph = find_neighbors(rows, 10, metric=metric, backend=SMALL)
    exact = find_neighbors(rows, 10, metric=metric, backend="exact")
    assert found_share(graph.distances, exact.distances) >= 0.97
    agreeing = graph.indices == exact.indices
    np.testing.assert_allclose(
        graph.distances[agreeing], exact.distances[agreeing], rtol=1e-4, atol=1e-6
    )


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("make", DATA)
def test_distances_are_those_of_the_indices(make):
    rows = make()
    graph = find_neighbors(rows, 8, backend=SMALL)
    differences = rows.astype(np.float64)[:, None] - rows.astype(np.float64)[graph.indices]
    expected = np.sqrt(np.square(differences).sum(axis=2))
    np.testing.assert_allclose(graph.distances, expected, rtol=1e-5)
    np.testing.assert_array_equal(graph.indices[:, 0], np.arange(len(rows)))
    assert (np.diff(graph.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == 8 for row in graph.indices)


@pytest.mark.parametrize(("n_columns", "least"), [(4, 2), (40, 8)])
def test_rows_are_held_in_as_many_cells_as_the_recall_needs(n_columns, least):
    rows = normal(6000, n_columns)
    sample, truth = all_pairs(rows, 10)
    needed = {}
    for target in (0.8, 0.97):
        backend = CellBackend(target_recall=target, rows_per_cell=200)
        cells = backend.build(rows, 10, EUCLIDEAN)
        needed[target] = cells.n_held
        found = backend.search(rows, 10, EUCLIDEAN)[1][sample]
        assert found_share(found[:, 1:], truth) >= target - 0.02
    assert needed[0.97] >= max(least, needed[0.8])
    assert n_columns == 4 or needed[0.97] > needed[0.8]


def test_queries_of_new_rows():
    rows, new = normal(4000, 12), normal(700, 12, seed=1)
    search = NeighborSearch(backend=SMALL)
    indices, distances = search.index(rows).query(new, 9)
    matrix = cdist(new.astype(np.float64), rows.astype(np.float64))
    assert found_share(distances, np.sort(matrix, axis=1)[:, :9]) >= 0.95
    expected = np.take_along_axis(matrix, indices, axis=1)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


# Anchors: some rows ask, among all


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("make", DATA)
def test_anchors_find_their_neighbours_among_all_rows(make):
    rows = make()
    anchors = np.sort(np.random.default_rng(2).choice(len(rows), 500, replace=False))
    graph = NeighborSearch(backend=SMALL).find(rows, 10, anchors=anchors)
    truth = np.sort(cdist(rows[anchors].astype(np.float64), rows.astype(np.float64)), axis=1)
    assert found_share(graph.distances[:, 1:], truth[:, :10] * (1 + 1e-4)) >= 0.96
    assert graph.recall >= 0.95
    np.testing.assert_array_equal(graph.anchors, anchors)
    np.testing.assert_array_equal(graph.indices[:, 0], anchors)
    assert graph.n_vertices == len(rows)
    differences = rows[anchors].astype(np.float64)[:, None] - rows.astype(np.float64)[graph.indices]
    expected = np.sqrt(np.square(differences).sum(axis=2))
    np.testing.assert_allclose(graph.distances, expected, rtol=1e-5)
    assert (np.diff(graph.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == 10 for row in graph.indices)


def test_anchors_ask_in_as_many_cells_as_the_recall_needs():
    rows = normal(6000, 40)
    anchors = np.arange(0, 6000, 5)
    truth = np.sort(cdist(rows[anchors].astype(np.float64), rows.astype(np.float64)), axis=1)
    for target in (0.8, 0.97):
        backend = CellBackend(target_recall=target, rows_per_cell=200)
        found = backend.search_of_anchors(rows, anchors, 10)[1].numpy()
        assert target - 0.02 <= found_share(found[:, 1:], truth[:, :10]) <= target + 0.1


def test_threads_and_the_code_for_cards_do_not_change_the_answer_for_anchors(monkeypatch):
    rows, anchors = uneven(), np.arange(1, 3000, 3)
    monkeypatch.setattr(cells_module, "fast_dtype", lambda device: torch.float32)

    def ask(n_jobs):
        return NeighborSearch(backend=CellBackend(rows_per_cell=200, n_jobs=n_jobs)).find(
            rows, 10, anchors=anchors
        )

    one = ask(1)
    for module in (cells_module, partition_module):
        monkeypatch.setattr(module, "is_on_card", lambda tensor: True)
    for other in (ask(1), ask(4)):
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.distances, other.distances)


def test_anchors_among_equal_rows_and_in_cells_of_too_few_rows(monkeypatch):
    rows = normal(3000, 6)
    rows[500:2500] = rows[0]
    anchors = np.arange(0, 3000, 7)
    graph = NeighborSearch(backend=SMALL).find(rows, 8, anchors=anchors)
    np.testing.assert_array_equal(graph.indices[:, 0], anchors)
    assert (graph.distances[(anchors >= 500) & (anchors < 2500)] == 0).all()
    assert all(len(set(row)) == 8 for row in graph.indices)
    monkeypatch.setattr(cells_module, "CELL_PER_NEIGHBOR", 0)
    clusters = tight_clusters(12, 4)
    backend = CellBackend(rows_per_cell=4, target_recall=0.1)
    indices, distances = backend.search_of_anchors(clusters, np.arange(0, 48, 5), 9)
    truth = np.sort(cdist(clusters[::5].astype(np.float64), clusters.astype(np.float64)), axis=1)
    assert found_share(distances.numpy(), truth[:, :9]) >= 0.5
    assert (indices >= 0).all()


# The same answer


@pytest.mark.parametrize("make", [normal, uneven])
def test_threads_do_not_change_the_answer(make):
    rows = make()
    one = find_neighbors(rows, 10, backend=CellBackend(rows_per_cell=200, n_jobs=1))
    for n_jobs in (2, 3, 5):
        other = find_neighbors(rows, 10, backend=CellBackend(rows_per_cell=200, n_jobs=n_jobs))
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.distances, other.distances)


def test_a_seed_decides_the_cells():
    rows = normal(3000, 20)
    low = {"target_recall": 0.5, "rows_per_cell": 200}
    found = [CellBackend(seed=seed, **low).search(rows, 10, EUCLIDEAN)[0] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_global_state_and_rows_stay_as_they_were():
    rows = normal()
    before, threads = rows.copy(), torch.get_num_threads()
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    find_neighbors(rows, 5, backend=CellBackend(rows_per_cell=200, n_jobs=2))
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads


def test_rows_on_disk_give_the_same_without_a_copy(tmp_path):
    np.save(tmp_path / "rows.npy", normal())
    on_disk = np.load(tmp_path / "rows.npy", mmap_mode="r")
    cells = SMALL.build(SMALL.prepare(on_disk, EUCLIDEAN), 6, EUCLIDEAN)
    assert np.shares_memory(cells.rows.numpy(), on_disk)
    np.testing.assert_array_equal(
        find_neighbors(on_disk, 6, backend=SMALL).indices,
        find_neighbors(normal(), 6, backend=SMALL).indices,
    )


@pytest.mark.parametrize("anchors", [None, np.arange(0, 3000, 4)])
@pytest.mark.parametrize(
    ("dtype", "metric"),
    [("f8", "euclidean"), ("u1", "euclidean"), ("f4", "cosine"), ("f8", "correlation")],
)
def test_rows_on_disk_are_mapped_a_block_at_a_time(dtype, metric, anchors, tmp_path, monkeypatch):
    values = (np.abs(normal(3000, 3)) * 40).astype(dtype)  # held in few cells
    np.save(tmp_path / "rows.npy", values)
    on_disk = np.asarray(np.load(tmp_path / "rows.npy", mmap_mode="r"))  # as a store gives it
    monkeypatch.setattr(cells_module, "N_SAMPLE", 64)
    monkeypatch.setattr(search_module, "N_RECALL_ROWS", 64)
    in_memory = NeighborSearch(metric=metric, backend=SMALL).find(values, 6, anchors=anchors)
    blocks = []
    read = MappedRows._read

    def watched(self, rows):
        block = read(self, rows)
        blocks.append(len(block))
        return block

    monkeypatch.setattr(MappedRows, "_read", watched)
    for module in (exact_module, mapped_module, cells_module):
        for name in ("TILE_COLUMNS", "BLOCK_BYTES", "SAMPLE_BLOCK"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 512)
    found = NeighborSearch(metric=metric, backend=SMALL).find(on_disk, 6, anchors=anchors)
    np.testing.assert_array_equal(found.indices, in_memory.indices)
    np.testing.assert_array_equal(found.distances, in_memory.distances)
    assert found.recall == in_memory.recall
    # k-means takes 64 rows for each of 15 cells, the measured recall 64 rows with 14 candidates.
    assert max(blocks) <= 64 * 15


@pytest.mark.parametrize("make", [normal, uneven, tight_clusters])
def test_the_code_for_cards_gives_the_same(make, monkeypatch):
    """On the processor, as if its tensors were on a card."""
    rows = make()
    monkeypatch.setattr(cells_module, "fast_dtype", lambda device: torch.float32)
    here = find_neighbors(rows, 10, backend=SMALL)
    for module in (cells_module, partition_module):
        monkeypatch.setattr(module, "is_on_card", lambda tensor: True)
    monkeypatch.setattr(cells_module, "CARD_TILE_BYTES", 1 << 18)
    there = find_neighbors(rows, 10, backend=SMALL)
    assert there.on_device is None
    np.testing.assert_array_equal(here.indices, there.indices)
    np.testing.assert_array_equal(here.distances, there.distances)


# Equal rows, few rows


@pytest.mark.parametrize("most_products", [0, 1 << 22, 1 << 39])
@pytest.mark.parametrize("largest_part", [1 << 15, 300])
def test_equal_rows_keep_their_own_number_first(largest_part, most_products, monkeypatch):
    monkeypatch.setattr(cells_module, "LARGEST_PART", largest_part)
    monkeypatch.setattr(cells_module, "MOST_PRODUCTS", max(most_products, 1))
    rows = normal(3000, 6)
    rows[500:2500] = rows[0]
    graph = find_neighbors(rows, 8, backend=SMALL)
    np.testing.assert_array_equal(graph.indices[:, 0], np.arange(3000))
    assert (graph.distances[500:2500] == 0).all()
    assert all(len(set(row)) == 8 for row in graph.indices)
    sample, truth = all_pairs(rows, 8)
    assert found_share(graph.distances[sample], truth) >= 0.96


@pytest.mark.parametrize("anchors", [None, np.arange(0, 3000, 7)])
def test_a_dense_group_in_one_cell_is_searched_whole(anchors, monkeypatch):
    """Cells are divided by a sample, and one may hold many times the rows of the others."""
    monkeypatch.setattr(cells_module, "LARGEST_PART", 300)
    rows = normal(3000, 6)
    rows[1000:] *= 0.02
    rows[:1000] *= 30.0
    search = NeighborSearch(backend=SMALL, seed=0)
    graph = search.find(rows, 10, anchors=anchors)
    asked = np.arange(3000) if anchors is None else anchors
    places = np.flatnonzero(asked >= 1000)[::20]
    truth = np.sort(cdist(rows[asked[places]], rows), axis=1)[:, :10]
    share = found_share(graph.distances[places], truth)
    assert share > 0.97
    np.testing.assert_array_equal(graph.indices[:, 0], asked)


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_rows_that_are_all_equal(value):
    rows = np.full((1500, 4), value, dtype=np.float32)
    graph = find_neighbors(rows, 5, backend=SMALL)
    np.testing.assert_array_equal(graph.indices[:, 0], np.arange(1500))
    assert (graph.distances == 0).all()
    assert (graph.indices >= 0).all()


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (2, 2), (7, 7), (40, 39), (900, 850)])
def test_few_rows_and_nearly_as_many_neighbours(n, k):
    rows = normal(n, 3)
    graph = find_neighbors(rows, k, backend=CellBackend(rows_per_cell=10))
    exact = find_neighbors(rows, k, backend="exact")
    np.testing.assert_allclose(graph.distances, exact.distances, rtol=1e-6)
    assert all(len(set(row)) == k for row in graph.indices)
    assert (graph.indices == exact.indices).mean() > 0.9999  # rounding decides between ties


def test_a_cell_of_too_few_rows_is_answered_by_all(monkeypatch):
    monkeypatch.setattr(cells_module, "CELL_PER_NEIGHBOR", 0)
    rows = tight_clusters(12, 4)  # each cluster has fewer rows than neighbours are asked for
    backend = CellBackend(rows_per_cell=4, target_recall=0.1)
    indices, distances = backend.search(rows, 9, EUCLIDEAN)
    truth = np.sort(cdist(rows.astype(np.float64), rows.astype(np.float64)), axis=1)[:, :9]
    np.testing.assert_array_equal(indices[:, 0], np.arange(48))
    assert found_share(distances, truth) >= 0.5
    assert (indices >= 0).all()


def test_a_cell_that_holds_no_row_is_passed_over(monkeypatch):
    rows, anchors = normal(2000, 6), np.arange(0, 2000, 9)
    places = cells_module.find_centres

    def with_an_empty_cell(*arguments):
        centres = places(*arguments).clone()
        centres[-1] = 1e3  # no row is near it
        return centres

    monkeypatch.setattr(cells_module, "find_centres", with_an_empty_cell)
    backend = CellBackend(target_recall=2.0, rows_per_cell=200)  # anchors ask in every cell
    indices, distances = backend.search_of_anchors(rows, anchors, 8)
    truth = np.sort(cdist(rows[anchors].astype(np.float64), rows.astype(np.float64)), axis=1)
    np.testing.assert_allclose(distances.numpy(), truth[:, :8], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(indices[:, 0].numpy(), anchors)

    metric = resolve_metric("euclidean")
    index = CellBackend(rows_per_cell=200, target_recall=0.5).build(rows, 8, metric)
    new = np.full((3, 6), 1e3, dtype=np.float32) + normal(3, 6)
    found = CellBackend(rows_per_cell=200).query(index, new, 8, metric)
    truth = np.sort(cdist(new.astype(np.float64), rows.astype(np.float64)), axis=1)[:, :8]
    np.testing.assert_allclose(found[1], truth, rtol=1e-4)


def test_metric_that_does_not_reduce_to_euclidean_distance():
    with pytest.raises(ValueError, match=r"backend='cells', got 'manhattan'\. Use backend='exact'"):
        find_neighbors(normal(50), 3, metric="l1", backend="cells")


# Pieces


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_have_the_order_of_the_distances(dtype):
    queries, rows = torch.from_numpy(normal(20, 16)), torch.from_numpy(normal(50, 16, seed=1))
    left, right = left_factor(queries, 24, dtype), right_factor(rows, 64, dtype)
    scores = scores_as_integers(left, right)
    integers = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    assert scores.dtype == integers
    squared = cdist(queries.numpy(), rows.numpy(), "sqeuclidean")
    found = scores[:20, :50].view(dtype).float().numpy()
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    np.testing.assert_allclose(found, squared, rtol=tolerance, atol=tolerance)
    assert (scores[:20, 50:] > scores[:20, :50].max()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_centred_and_converted_a_few_at_a_time(dtype, monkeypatch):
    rows, places = torch.from_numpy(normal(50, 16)), torch.tensor([3, 7, 8, 40, 41])
    middle = rows.mean(0)
    expected = right_factor(rows[places] - middle, 64, dtype)
    monkeypatch.setattr(partition_module, "COPY_BYTES", 2 * 4 * 16)  # two rows
    found = right_factor(rows, 64, dtype, places, middle)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbors_do_not_depend_on_how_many_rows_are_copied_at_once(metric, monkeypatch):
    rows = normal(2000, 24)
    search = NeighborSearch(metric=metric, backend="cells", seed=0)
    expected = search.find(rows, 10)
    monkeypatch.setattr(partition_module, "COPY_BYTES", 50 * 4 * 24)
    found = search.find(rows, 10)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("n_columns", [16, 100, 640, 1600])
@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
def test_smallest_columns(n_columns, dtype):
    scores = torch.from_numpy(np.random.default_rng(0).permutation(20 * n_columns) - 300)
    scores = scores.view(20, n_columns).to(dtype)
    columns = smallest_columns(scores, 7)
    expected = scores.sort(dim=1).values[:, :7]
    torch.testing.assert_close(scores.gather(1, columns).sort(dim=1).values, expected)


def test_keys_sort_by_score_then_by_number():
    scores = torch.tensor([[5, 2, 2, -1]], dtype=torch.int32)
    keys = sorted_keys(scores, torch.tensor([[3, 9, 4, 8]]), 3)
    assert (keys & 0xFFFFFFFF).tolist() == [[8, 4, 9]]
    assert (keys >> 32).tolist() == [[-1, 2, 2]]


def test_nearest_cells_are_those_of_all_distances():
    rows, centres = normal(700, 5), normal(90, 5, seed=1)
    with workers(2) as run:
        found = nearest_cells(
            torch.from_numpy(rows), torch.from_numpy(centres), 6, torch.float32, run
        )
    expected = np.argsort(cdist(rows.astype(np.float64), centres.astype(np.float64)), axis=1)
    assert (found.numpy() == expected[:, :6]).mean() > 0.999


def test_the_first_of_equally_near_cells_takes_a_row(monkeypatch):
    rows, centres = torch.from_numpy(normal(900, 5)), torch.from_numpy(normal(40, 5, seed=1))
    twice = torch.cat([centres, centres])
    monkeypatch.setattr(partition_module, "BLOCK_ROWS", 64)
    monkeypatch.setattr(partition_module, "BLOCKS_OF_TASK", 4)  # of 15
    for dtype in (torch.float32, torch.bfloat16):
        with workers(2) as run:
            found = nearest_cells(rows, twice, 1, dtype, run)[:, 0]
        assert found.max() < 40
        expected = torch.cdist(rows.double(), centres.double()).argmin(dim=1)
        assert (found == expected).double().mean() > (0.999 if dtype == torch.float32 else 0.9)


@pytest.mark.parametrize("m", [1, 3])
def test_rows_by_cell_rise_in_each_cell(m):
    cells = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (200, m)).astype(np.int32))
    cells[cells == 4] = 5  # a cell without a row
    starts, rows = cells_module._by_cell(cells, 9)
    assert rows.dtype == torch.int32
    assert starts[0] == 0
    for cell in range(9):
        expected = [row for row in range(200) for own in cells[row] if own == cell]
        assert rows[starts[cell] : starts[cell + 1]].tolist() == expected


def test_the_number_of_cells_of_anchors_makes_for_few_comparisons():
    """Each row is compared with the centres, and each anchor with the rows of about 6 cells."""

    def comparisons(n_cells):
        return n * n_cells + 6 * n_anchors * n / n_cells

    backend = CellBackend()
    for n, n_anchors in [(10_000_000, 146_000), (3_000_000, 100_000)]:
        n_cells = n / backend._usual_rows(n, np.arange(n_anchors))
        least = min(comparisons(number) for number in range(100, 12_000, 20))
        assert comparisons(n_cells) <= 1.01 * least
        assert comparisons(n / 1000) > 1.5 * least
    assert backend._usual_rows(300_000, np.arange(100_000)) == 1000
    assert backend._usual_rows(10_000_000, None) == 1000


def test_cells_of_anchors_hold_more_rows_where_anchors_are_few(monkeypatch):
    rows, seen = normal(6000, 4), []
    search = cells_module.find_centres
    monkeypatch.setattr(cells_module, "ROWS_PER_CELL", 100)

    def counted(rows, n_cells, *others):
        seen.append(n_cells)
        return search(rows, n_cells, *others)

    monkeypatch.setattr(cells_module, "find_centres", counted)
    anchors = np.arange(0, 6000, 100)
    for backend in (CellBackend(), CellBackend(rows_per_cell=150)):
        distances = backend.search_of_anchors(rows, anchors, 6)[1]
        truth = np.sort(cdist(rows[anchors].astype("f8"), rows.astype("f8")), axis=1)[:, :6]
        assert found_share(distances.numpy(), truth * (1 + 1e-4)) >= 0.95
    assert seen == [6000 // round(6000 / np.sqrt(6 * 60)), 40]


@pytest.mark.parametrize("block", [1 << 14, 97])
def test_true_distances_are_those_of_all_pairs(block, monkeypatch):
    monkeypatch.setattr(cells_module, "SAMPLE_BLOCK", block)
    for rows in (normal(2000, 7), tight_clusters()):
        asking = np.array([3, 4, 800, 1999])
        found = CellBackend(n_jobs=2).true_distances(rows, asking, 9)
        truth = np.sort(cdist(rows[asking].astype("f8"), rows.astype("f8")), axis=1)[:, :9]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-6)


def test_every_centre_is_that_of_a_row_where_many_are_equal():
    rows = torch.zeros(500, 3)
    rows[:30] = torch.from_numpy(normal(30, 3))
    with workers(1) as run:
        centres = find_centres(rows, 20, np.random.default_rng(0), torch.float32, run)
    assert centres.shape == (20, 3)
    assert torch.isfinite(centres).all()


@pytest.mark.gpu
def test_a_card_finds_the_neighbours():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rows = normal(20_000, 12)
    first, second = (find_neighbors(rows, 15, backend=CellBackend(device="cuda")) for _ in range(2))
    np.testing.assert_array_equal(first.indices, second.indices)
    sample, truth = all_pairs(rows, 15)
    assert found_share(first.distances[sample], truth) >= 0.96
    np.testing.assert_array_equal(first.indices[:, 0], np.arange(20_000))
    for kept, array in zip(first.on_device, (first.indices, first.distances), strict=True):
        np.testing.assert_array_equal(kept.cpu().numpy(), array)
