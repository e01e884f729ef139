"""Row stores: every kind of storage hands out the rows of one dense array."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr
from scipy import sparse
from torch.overrides import TorchFunctionMode
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from neumap.data import (
    CsrRows,
    DatasetRows,
    DenseRows,
    MemmapRows,
    RowStore,
    as_rows,
    check_input,
    first_rows,
)
from neumap.data.disk import tile_starts
from neumap.data.rows import is_row_store

N_ROWS, N_FEATURES = 61, 12
INDICES = torch.tensor([60, 3, 3, 0, 17, 59, 3])


def dense_answer() -> np.ndarray:
    """Integers 0..255, so that every storage can hold them exactly; two thirds are zero."""
    rng = np.random.default_rng(5)
    values = rng.integers(1, 256, size=(N_ROWS, N_FEATURES))
    return (values * (rng.random(values.shape) < 1 / 3)).astype(np.float32)


class PlainDataset(Dataset[Any]):
    def __init__(self, rows: np.ndarray, labelled: bool = False) -> None:
        self.rows, self.labelled = rows, labelled

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        row = torch.from_numpy(self.rows[index])
        return (row, index % 3) if self.labelled else row


class BatchedDataset(PlainDataset):
    """Counts how often it is asked for whole batches."""

    n_calls = 0

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.n_calls += 1
        return [self[index] for index in indices]


def in_memmap(values: np.ndarray, folder: Path) -> Any:
    np.save(folder / "rows.npy", values)
    return np.load(folder / "rows.npy", mmap_mode="r")


def in_hdf5(values: np.ndarray, folder: Path, **options: Any) -> Any:
    file = h5py.File(folder / "rows.h5", "w")
    return file.create_dataset("rows", data=values, **options)


def in_zarr(values: np.ndarray, folder: Path) -> Any:
    array = zarr.create_array(
        str(folder / "rows.zarr"), shape=values.shape, chunks=(8, 5), dtype=values.dtype
    )
    array[:] = values
    return array


Make = Callable[[np.ndarray, Path], Any]

KINDS: dict[str, tuple[Make, type]] = {
    "float32": (lambda X, _: X, DenseRows),
    "float64": (lambda X, _: X.astype(np.float64), DenseRows),
    "float16": (lambda X, _: X.astype(np.float16), DenseRows),
    "big-endian": (lambda X, _: X.astype(">f4"), DenseRows),
    "int64": (lambda X, _: X.astype(np.int64), DenseRows),
    "uint8": (lambda X, _: X.astype(np.uint8), DenseRows),
    "uint16": (lambda X, _: X.astype(np.uint16), DenseRows),
    "object": (lambda X, _: X.astype(object), DenseRows),
    "fortran order": (lambda X, _: np.asfortranarray(X), DenseRows),
    "reversed view": (lambda X, _: X[::-1].copy()[::-1], DenseRows),
    "list": (lambda X, _: X.tolist(), DenseRows),
    "tensor": (lambda X, _: torch.from_numpy(X), DenseRows),
    "tensor with gradient": (lambda X, _: torch.from_numpy(X).requires_grad_(), DenseRows),
    "float64 tensor": (lambda X, _: torch.from_numpy(X).double(), DenseRows),
    "bfloat16 tensor": (lambda X, _: torch.from_numpy(X).bfloat16(), DenseRows),
    "sparse tensor": (lambda X, _: torch.from_numpy(X).to_sparse_coo(), CsrRows),
    "sparse csr tensor": (lambda X, _: sparse_csr_tensor(X), CsrRows),
    "csr": (lambda X, _: sparse.csr_matrix(X), CsrRows),
    "csr array": (lambda X, _: sparse.csr_array(X), CsrRows),
    "csr of int64": (lambda X, _: sparse.csr_matrix(X.astype(np.int64)), CsrRows),
    "csc": (lambda X, _: sparse.csc_matrix(X), CsrRows),
    "coo with duplicates": (lambda X, _: duplicated_coo(X), CsrRows),
    "memmap": (in_memmap, MemmapRows),
    "float64 memmap": (lambda X, d: in_memmap(X.astype(np.float64), d), MemmapRows),
    "sliced memmap": (lambda X, d: in_memmap(np.repeat(X, 2, axis=0), d)[::2], MemmapRows),
    "hdf5": (in_hdf5, MemmapRows),
    "hdf5 of float64": (lambda X, d: in_hdf5(X.astype(np.float64), d), MemmapRows),
    "chunked hdf5": (lambda X, d: in_hdf5(X, d, chunks=(7, 4), compression="gzip"), MemmapRows),
    "chunked hdf5 of bytes": (
        lambda X, d: in_hdf5(X.astype(np.uint8), d, chunks=(7, 4)),
        MemmapRows,
    ),
    "zarr": (in_zarr, MemmapRows),
    "dataset": (lambda X, _: PlainDataset(X), DatasetRows),
    "dataset of pairs": (lambda X, _: PlainDataset(X, labelled=True), DatasetRows),
    "dataset with __getitems__": (lambda X, _: BatchedDataset(X), DatasetRows),
    "tensor dataset": (lambda X, _: TensorDataset(torch.from_numpy(X)), DenseRows),
}


def sparse_csr_tensor(X: np.ndarray) -> torch.Tensor:
    csr = sparse.csr_matrix(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls CSR a beta feature, once per process
        return torch.sparse_csr_tensor(
            torch.from_numpy(csr.indptr),
            torch.from_numpy(csr.indices),
            torch.from_numpy(csr.data),
            size=csr.shape,
        )


def duplicated_coo(X: np.ndarray) -> Any:
    """Every value in two entries that add up to it."""
    coo = sparse.coo_matrix(X)
    twice = (np.tile(coo.row, 2), np.tile(coo.col, 2))
    return sparse.coo_matrix((np.concatenate([coo.data - 1, np.ones_like(coo.data)]), twice))


@pytest.fixture(params=KINDS, ids=list(KINDS))
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[np.ndarray, RowStore]:
    X = dense_answer()
    if request.param == "bfloat16 tensor":
        X = torch.from_numpy(X).bfloat16().float().numpy()
    make, store = KINDS[request.param]
    rows = as_rows(make(X, tmp_path), dims=(4, 3))
    assert type(rows) is store
    return X, rows


def as_dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


class TestEveryStore:
    def test_describes_its_rows(self, stored: tuple[np.ndarray, RowStore]) -> None:
        _, rows = stored
        assert is_row_store(rows)
        assert (rows.n_rows, rows.row_shape, rows.n_features) == (N_ROWS, (4, 3), N_FEATURES)
        assert rows.device == torch.device("cpu")

    def test_gather_equals_the_dense_rows(self, stored: tuple[np.ndarray, RowStore]) -> None:
        X, rows = stored
        got = rows.gather(INDICES)
        assert got.dtype == torch.float32
        assert not got.requires_grad
        np.testing.assert_array_equal(got.numpy(), X[INDICES.numpy()].reshape(-1, 4, 3))

    def test_gather_of_nothing(self, stored: tuple[np.ndarray, RowStore]) -> None:
        _, rows = stored
        assert rows.gather(torch.empty(0, dtype=torch.int64)).shape == (0, 4, 3)

    def test_a_gathered_batch_is_not_the_data(self, stored: tuple[np.ndarray, RowStore]) -> None:
        X, rows = stored
        rows.gather(torch.arange(N_ROWS)).fill_(99.0)
        np.testing.assert_array_equal(rows.gather(torch.arange(N_ROWS)).numpy().reshape(X.shape), X)

    @pytest.mark.parametrize("batch_rows", [1, 10, N_ROWS, 1000])
    def test_slices_are_all_rows_in_order(
        self, stored: tuple[np.ndarray, RowStore], batch_rows: int
    ) -> None:
        X, rows = stored
        slices = list(rows.slices(batch_rows))
        assert all(len(piece) == batch_rows for piece in slices[:-1])
        np.testing.assert_array_equal(torch.cat(slices).numpy(), X.reshape(-1, 4, 3))

    def test_to_matrix_is_flat(self, stored: tuple[np.ndarray, RowStore]) -> None:
        X, rows = stored
        np.testing.assert_array_equal(as_dense(rows.to_matrix()), X)
        # Gathering still works, also where the matrix replaced a chunked array.
        np.testing.assert_array_equal(
            rows.gather(INDICES).numpy(), X[INDICES.numpy()].reshape(-1, 4, 3)
        )

    def test_moments_equal_the_formulas(self, stored: tuple[np.ndarray, RowStore]) -> None:
        X, rows = stored
        mean, scale = rows.mean_and_scale()
        exact = X.astype(np.float64)
        np.testing.assert_allclose(mean.numpy(), exact.mean(axis=0), rtol=1e-5)
        singular = np.linalg.svd(exact - exact.mean(axis=0), compute_uv=False)[0]
        assert scale == pytest.approx(singular / np.sqrt(N_ROWS), rel=1e-4)

    def test_checked_input_gives_the_same_store(self, stored: tuple[np.ndarray, RowStore]) -> None:
        _, rows = stored
        assert as_rows(rows, dims=(4, 3)) is rows
        with pytest.raises(
            ValueError, match=r"rows of shape \(2, 6\) on cpu, got .*Build the store"
        ):
            as_rows(rows, dims=(2, 6))


@pytest.mark.parametrize("kind", KINDS)
def test_checked_input_equals_the_dense_answer(kind: str, tmp_path: Path) -> None:
    X = dense_answer()
    checked = check_input(KINDS[kind][0](X, tmp_path))
    assert (checked.n_features, checked.row_shape) == (N_FEATURES, (N_FEATURES,))
    assert checked.feature_names is None
    got = as_rows(checked).gather(torch.arange(N_ROWS)).numpy()
    np.testing.assert_allclose(got, X, rtol=2**-8 if kind == "bfloat16 tensor" else 0)


class TestRowShape:
    def test_arrays_with_axes_come_as_they_are(self) -> None:
        images = np.arange(2 * 3 * 4 * 1, dtype=np.float32).reshape(2, 3, 4, 1)
        rows = as_rows(images)
        assert rows.row_shape == (3, 4, 1)
        assert rows.to_matrix().shape == (2, 12)
        np.testing.assert_array_equal(rows.gather(torch.tensor([1])).numpy(), images[1:])

    def test_axes_of_length_one_may_come_and_go(self) -> None:
        assert as_rows(np.zeros((2, 28, 28)), dims=(28, 28, 1)).row_shape == (28, 28, 1)
        assert as_rows(np.zeros((2, 28, 28, 1)), dims=(28, 28)).row_shape == (28, 28)

    @pytest.mark.parametrize("shape", [(2, 783), (2, 3, 28, 28), (2, 28, 28)])
    def test_a_shape_that_does_not_fit_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(
            ValueError, match=r"dims must fit the rows .* got \(28, 28, 3\) \(2352 values\)\. Pass"
        ):
            as_rows(np.zeros(shape), dims=(28, 28, 3))

    def test_on_disk_arrays_with_axes(self, tmp_path: Path) -> None:
        images = np.arange(20 * 3 * 4, dtype=np.float32).reshape(20, 3, 4)
        for array in (
            in_memmap(images, tmp_path),
            in_hdf5(images, tmp_path, chunks=(3, 2, 4)),
            in_zarr_chunks(images, tmp_path, (6, 3, 2)),
        ):
            rows = as_rows(array)
            np.testing.assert_array_equal(
                rows.gather(torch.tensor([19, 2])).numpy(), images[[19, 2]]
            )
            np.testing.assert_array_equal(rows.to_matrix(), images.reshape(20, 12))


def in_zarr_chunks(values: np.ndarray, folder: Path, chunks: tuple[int, ...]) -> Any:
    array = zarr.create_array(
        str(folder / "chunks.zarr"), shape=values.shape, chunks=chunks, dtype=values.dtype
    )
    array[:] = values
    return array


class TestDenseStorage:
    @pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.bool_])
    def test_contiguous_data_are_viewed(self, dtype: type) -> None:
        X = dense_answer().astype(dtype)
        X.flags.writeable = False  # read-only memory is no reason to copy, or to warn
        rows = as_rows(X, dims=(4, 3))
        assert np.shares_memory(rows.to_matrix(), X)
        assert rows.to_matrix().dtype == dtype

    def test_float_slices_are_views(self) -> None:
        X = dense_answer()
        assert all(np.shares_memory(piece.numpy(), X) for piece in as_rows(X).slices(20))

    def test_a_tensor_is_viewed(self) -> None:
        X = torch.from_numpy(dense_answer())
        rows = as_rows(X)
        assert isinstance(rows, DenseRows)
        assert rows.table.data_ptr() == X.data_ptr()

    def test_pixels_over_255_stay_float_by_default(self) -> None:
        rows = as_rows(dense_answer() / 255)
        assert isinstance(rows, DenseRows)
        assert rows.table.dtype == torch.float32


class TestSparse:
    def test_canonical_csr_is_viewed(self) -> None:
        X = sparse.csr_matrix(dense_answer())
        matrix = as_rows(X).to_matrix()
        assert sparse.isspmatrix_csr(matrix)
        for part in ("data", "indices", "indptr"):
            assert np.shares_memory(getattr(matrix, part), getattr(X, part))

    def test_duplicate_entries_of_the_caller_stay(self) -> None:
        X = duplicated_coo(dense_answer()).astype(np.float32)
        order = np.argsort(X.row, kind="stable")
        starts = np.r_[0, np.bincount(X.row, minlength=N_ROWS).cumsum()]
        csr = sparse.csr_matrix((X.data[order], X.col[order], starts), X.shape)
        n_entries = csr.nnz
        rows = as_rows(csr)
        np.testing.assert_array_equal(rows.to_matrix().toarray(), dense_answer())
        assert (csr.nnz, rows.to_matrix().nnz) == (n_entries, n_entries // 2)

    def test_empty_rows_and_an_empty_matrix(self) -> None:
        rows = as_rows(sparse.csr_matrix((5, 300), dtype=np.float32))
        assert not rows.gather(torch.tensor([0, 4])).any()
        mean, scale = rows.mean_and_scale()
        assert (float(mean.abs().max()), scale) == (0.0, 1.0)

    def test_gathering_needs_memory_for_the_batch_only(self) -> None:
        n_rows, n_features, batch = 20_000, 5_000, 64  # 400 MB if it were dense
        X = sparse.random_array(
            (n_rows, n_features), density=0.002, format="csr", dtype=np.float32, rng=3
        )
        checked = check_input(X)
        chosen = torch.arange(0, n_rows, n_rows // batch)[:batch]
        used = most_bytes_used(lambda: as_rows(checked).gather(chosen))
        gathered = as_rows(checked).gather(chosen)
        assert used < 5 * gathered.nbytes
        np.testing.assert_array_equal(gathered[3].numpy(), X[chosen.numpy()[3:4]].toarray()[0])


class CountTensorBytes(TorchFunctionMode):
    """Adds up the bytes of every tensor that any operation returns, views included."""

    n_bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.n_bytes += result.numel() * result.itemsize
        return result


def most_bytes_used(work: Callable[[], Any]) -> int:
    """Upper bound: numpy's peak plus all tensors that were ever made."""
    with CountTensorBytes() as tensors:
        tracemalloc.start()
        work()
        _, numpy_peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return numpy_peak + tensors.n_bytes


class TestDisk:
    def test_a_memmap_is_not_read_as_a_whole(self, tmp_path: Path) -> None:
        n_bytes = 64 * 2**20
        X = np.memmap(tmp_path / "flat.bin", np.float32, "w+", shape=(n_bytes // 4096, 1024))
        X[5] = 3.0
        rows = as_rows(check_input(X))
        assert most_bytes_used(lambda: rows.gather(torch.tensor([5, 6]))) < 2**20
        assert np.shares_memory(rows.to_matrix(), X)

    def test_a_contiguous_hdf5_dataset_is_mapped(self, tmp_path: Path) -> None:
        rows = as_rows(in_hdf5(dense_answer(), tmp_path))
        matrix = rows.to_matrix()
        assert np.shares_memory(matrix, rows.to_matrix())
        assert not matrix.flags.writeable
        assert matrix.base is not None

    def test_a_hdf5_dataset_without_a_plain_file_is_still_read(self) -> None:
        X = dense_answer()
        file = h5py.File("memory", "w", driver="core", backing_store=False)
        rows = as_rows(file.create_dataset("rows", data=X))
        np.testing.assert_array_equal(rows.gather(INDICES).numpy(), X[INDICES.numpy()])
        np.testing.assert_array_equal(rows.to_matrix(), X)

    def test_a_hdf5_file_with_a_user_block(self, tmp_path: Path) -> None:
        X = dense_answer()
        with h5py.File(tmp_path / "block.h5", "w", userblock_size=1024) as file:
            rows = as_rows(file.create_dataset("rows", data=X))
            np.testing.assert_array_equal(rows.to_matrix(), X)

    def test_a_chunked_array_is_unpacked_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = in_hdf5(dense_answer(), tmp_path, chunks=(7, 4))
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        rows = as_rows(source)
        first = rows.to_matrix()
        source[:] = 0.0  # read again, this would show
        assert np.shares_memory(rows.to_matrix(), first)
        np.testing.assert_array_equal(rows.gather(INDICES).numpy(), dense_answer()[INDICES.numpy()])
        del rows, first
        gc.collect()
        assert list(scratch.iterdir()) == []

    def test_tiles_hold_whole_chunks(self, tmp_path: Path) -> None:
        chunked = in_hdf5(dense_answer(), tmp_path, chunks=(7, 4))
        row_bytes = 4 * N_FEATURES
        assert tile_starts(chunked, tile_bytes=20 * row_bytes).step == 14
        assert tile_starts(chunked, tile_bytes=row_bytes).step == 7
        assert tile_starts(dense_answer(), tile_bytes=20 * row_bytes).step == 20

    def test_a_full_disk_is_reported_and_the_advice_works(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = as_rows(in_zarr(dense_answer(), tmp_path))
        large = tmp_path / "large"
        large.mkdir()
        made_in: list[Path] = []
        new_file = tempfile.TemporaryFile

        def watched(**options: Any) -> Any:
            made_in.append(options["dir"])
            return new_file(**options)

        def usage(folder: Path) -> Any:
            return type("Usage", (), {"free": 10**9 if Path(folder) == large else 100})()

        monkeypatch.setattr(tempfile, "TemporaryFile", watched)
        monkeypatch.setattr("shutil.disk_usage", usage)
        with pytest.raises(OSError, match=r"must have .* GB free, .* got .* GB\. .*set .* TMPDIR"):
            rows.to_matrix()
        monkeypatch.setenv("TMPDIR", str(large))
        monkeypatch.setattr(tempfile, "tempdir", None)  # as in a process that starts now
        np.testing.assert_array_equal(rows.to_matrix(), dense_answer())
        assert made_in == [large]

    def test_arithmetic_on_a_memmap_is_an_ordinary_array(self, tmp_path: Path) -> None:
        assert isinstance(as_rows(in_memmap(dense_answer(), tmp_path) + 1), DenseRows)


class TestDataset:
    def test_whole_batches_are_asked_for_where_possible(self) -> None:
        dataset = BatchedDataset(dense_answer())
        as_rows(dataset).gather(INDICES)
        assert dataset.n_calls == 1

    def test_lists_of_numbers_are_rows(self) -> None:
        class Lists(PlainDataset):
            def __getitem__(self, index: int) -> list[float]:
                return list(self.rows[index].tolist())

        got = as_rows(Lists(dense_answer())).gather(INDICES)
        np.testing.assert_array_equal(got.numpy(), dense_answer()[INDICES.numpy()])

    def test_a_stream_is_refused(self) -> None:
        class Stream(IterableDataset[Any]):
            def __iter__(self) -> Any:
                return iter(dense_answer())

        with pytest.raises(TypeError, match=r"map-style Dataset .* got Stream\. Collect"):
            check_input(Stream())

    def test_unequal_items_are_named(self) -> None:
        class Ragged(PlainDataset):
            def __getitem__(self, index: int) -> Any:
                return torch.zeros(12 if index != 4 else 11)

        with pytest.raises(ValueError, match=r"first, \(12,\), got item 4 of shape \(11,\)\. Crop"):
            check_input(Ragged(dense_answer()))

    def test_items_that_are_not_numbers(self) -> None:
        class Words(PlainDataset):
            def __getitem__(self, index: int) -> Any:
                return {"image": self.rows[index]}

        with pytest.raises(TypeError, match=r"must be a tensor .* got dict\. Convert"):
            check_input(Words(dense_answer()))


class TestMoments:
    @pytest.mark.parametrize("kind", ["dense", "sparse"])
    @pytest.mark.parametrize("shape", [(400, 90), (50, 200), (1, 90), (30, 1)])
    def test_wide_rows_against_a_full_decomposition(
        self, kind: str, shape: tuple[int, int]
    ) -> None:
        rng = np.random.default_rng(1)
        X = (rng.random(shape) * (rng.random(shape) < 0.2) * np.linspace(1, 3, shape[1])).astype(
            np.float32
        )
        mean, scale = as_rows(sparse.csr_matrix(X) if kind == "sparse" else X).mean_and_scale()
        exact = X.astype(np.float64)
        singular = np.linalg.svd(exact - exact.mean(axis=0), compute_uv=False)[0]
        expected = singular / np.sqrt(shape[0]) if shape[0] > 1 else 1.0
        assert scale == pytest.approx(expected, rel=1e-3)
        np.testing.assert_allclose(mean.numpy(), exact.mean(axis=0), rtol=1e-5, atol=1e-8)

    def test_a_far_off_cloud_keeps_its_digits(self) -> None:
        X = np.random.default_rng(2).standard_normal((500, 100)).astype(np.float32) + 1000
        _, scale = as_rows(X).mean_and_scale()
        exact = X.astype(np.float64)
        singular = np.linalg.svd(exact - exact.mean(axis=0), compute_uv=False)[0]
        assert scale == pytest.approx(singular / np.sqrt(500), rel=1e-3)

    def test_the_sample_follows_the_seed(self, global_random_state_untouched: None) -> None:
        X = np.random.default_rng(3).standard_normal((3000, 5)).astype(np.float32)
        rows = as_rows(X)
        first, again, other = (rows.mean_and_scale(max_rows=500, seed=s) for s in (1, 1, 2))
        assert torch.equal(first.mean, again.mean)
        assert not torch.equal(first.mean, other.mean)
        assert first.scale == pytest.approx(rows.mean_and_scale().scale, rel=0.15)

    @pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
    def test_broken_rows_do_not_count(self, make: Callable[[np.ndarray], Any]) -> None:
        X = np.random.default_rng(4).standard_normal((80, 70)).astype(np.float32)
        broken = np.vstack([X, X[:2]])
        broken[80, 3], broken[81, 0] = np.nan, np.inf
        got, expected = as_rows(make(broken)).mean_and_scale(), as_rows(X).mean_and_scale()
        np.testing.assert_allclose(got.mean.numpy(), expected.mean.numpy(), atol=1e-6)
        assert got.scale == pytest.approx(expected.scale, rel=1e-4)

    def test_a_sample_of_no_rows_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"max_rows must be at least 1, got 0\. Pass"):
            as_rows(dense_answer()).mean_and_scale(max_rows=0)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["float32", "uint8", "csr", "memmap", "dataset"])
def test_rows_on_a_graphics_card(kind: str, tmp_path: Path) -> None:
    X = dense_answer()
    rows = as_rows(KINDS[kind][0](X, tmp_path), dims=(4, 3), device="cuda:0")
    expected = X[INDICES.numpy()].reshape(-1, 4, 3)
    for got in (rows.gather(INDICES), rows.gather(INDICES.cuda())):
        assert got.device == rows.device == torch.device("cuda:0")
        np.testing.assert_array_equal(got.cpu().numpy(), expected)
    np.testing.assert_array_equal(as_dense(rows.to_matrix()), X)
    assert rows.mean_and_scale().mean.device == rows.device


def test_the_first_rows_of_short_data_come_several_times() -> None:
    X = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(first_rows(as_rows(X), 5), X[[0, 1, 2, 0, 1]])
    np.testing.assert_array_equal(first_rows(as_rows(X), 2), X[:2])
