"""Rows as a whole: selected, compared, joined and counted, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr
from scipy import sparse
from torch.utils.data import Dataset

from neumap.data import as_rows, distinct, like, row_count, same, stack, take

N_ROWS = 23


def answer() -> np.ndarray:
    """Whole numbers that every dtype holds, many of them zero, with equal rows among them."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 3, size=(N_ROWS, 2)).astype(np.float32)


class Rows(Dataset[Any]):
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.values[index]), index


def in_memmap(values: np.ndarray, folder: Path) -> Any:
    np.save(folder / "rows.npy", values)
    return np.load(folder / "rows.npy", mmap_mode="r")


def in_hdf5(values: np.ndarray, folder: Path) -> Any:
    return h5py.File(folder / "rows.h5", "w").create_dataset("rows", data=values, chunks=(4, 1))


def in_zarr(values: np.ndarray, folder: Path) -> Any:
    array = zarr.create_array(
        str(folder / "rows.zarr"), shape=values.shape, chunks=(4, 1), dtype=values.dtype
    )
    array[:] = values
    return array


Make = Callable[[np.ndarray, Path], Any]

IN_MEMORY: dict[str, Make] = {
    "float32": lambda X, _: X,
    "uint8": lambda X, _: X.astype(np.uint8),
    "tensor": lambda X, _: torch.from_numpy(X),
    "tensor with gradient": lambda X, _: torch.from_numpy(X).requires_grad_(),
    "bfloat16 tensor": lambda X, _: torch.from_numpy(X).bfloat16(),
    "csr matrix": lambda X, _: sparse.csr_matrix(X),
    "csr array": lambda X, _: sparse.csr_array(X),
}
ELSEWHERE: dict[str, Make] = {
    "memmap": in_memmap,
    "hdf5": in_hdf5,
    "zarr": in_zarr,
    "dataset": lambda X, _: Rows(X),
}
KINDS = IN_MEMORY | ELSEWHERE


def as_dense(X: Any) -> np.ndarray:
    """Read by the row store, a path of its own."""
    return as_rows(X).gather(torch.arange(row_count(X))).numpy()


@pytest.mark.parametrize("kind", KINDS)
class TestTake:
    @pytest.mark.parametrize(
        "rows",
        [np.array([20, 3, 3, -1, 0]), np.array([5]), slice(4, 11), slice(None, None, 3)],
        ids=["numbers", "one", "slice", "steps"],
    )
    def test_equals_indexing_an_array(self, kind: str, rows: Any, tmp_path: Path) -> None:
        np.testing.assert_array_equal(
            as_dense(take(KINDS[kind](answer(), tmp_path), rows)), answer()[rows]
        )

    def test_counts_the_rows(self, kind: str, tmp_path: Path) -> None:
        assert row_count(KINDS[kind](answer(), tmp_path)) == N_ROWS


def test_a_part_of_a_dataset_is_not_read_at_once() -> None:
    class Unreadable(Rows):
        def __getitem__(self, index: int) -> Any:
            raise AssertionError

    assert row_count(take(Unreadable(answer()), np.array([1, 2]))) == 2


class TestDistinct:
    @pytest.mark.parametrize("kind", [*IN_MEMORY, "memmap"])
    def test_equals_numpy_in_the_order_of_appearance(self, kind: str, tmp_path: Path) -> None:
        found = distinct(KINDS[kind](answer(), tmp_path))
        expected, first, inverse = np.unique(
            answer(), axis=0, return_index=True, return_inverse=True
        )
        assert len(expected) < N_ROWS  # there are equal rows to find
        np.testing.assert_array_equal(found.first, np.sort(first))
        np.testing.assert_array_equal(first[inverse.ravel()], found.first[found.inverse])
        np.testing.assert_array_equal(answer()[found.first][found.inverse], answer())

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
    def test_both_zeros_are_equal(self, dtype: type, make: Callable[[np.ndarray], Any]) -> None:
        X = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]], dtype=dtype)
        assert distinct(make(X)).inverse.tolist() == [0, 0, 1]

    def test_stored_zeros_are_zeros(self) -> None:
        parts = np.array([0.0, -0.0, 5.0]), np.array([0, 1, 0]), np.array([0, 1, 2, 2, 3])
        X = sparse.csr_matrix(parts, shape=(4, 2))
        np.testing.assert_array_equal(distinct(X).inverse, [0, 0, 0, 1])
        assert X.nnz == 3  # the caller's matrix stays as it was

    def test_entries_in_another_order_and_in_parts_are_equal(self) -> None:
        values, columns = np.array([2.0, 1.0, 1.0, 1.5, 0.5]), np.array([1, 0, 0, 1, 1])
        X = sparse.csr_matrix((values, columns, np.array([0, 2, 5])), shape=(2, 2))
        np.testing.assert_array_equal(X.toarray(), [[1, 2], [1, 2]])
        assert distinct(X).inverse.tolist() == [0, 0]
        assert X.indices.tolist() == [1, 0, 0, 1, 1]

    def test_missing_values_are_equal(self) -> None:
        other_nan = np.array([0x7FC00001], dtype=np.uint32).view(np.float32)[0]
        X = np.array([[np.nan, 1], [other_nan, 1], [np.nan, 2]], dtype=np.float32)
        assert distinct(X).inverse.tolist() == [0, 0, 1]
        assert distinct(sparse.csr_matrix(X)).inverse.tolist() == [0, 0, 1]

    def test_images(self) -> None:
        images = np.zeros((3, 2, 2), dtype=np.uint8)
        images[1, 1, 0] = 7
        assert distinct(images).inverse.tolist() == [0, 1, 0]

    def test_data_elsewhere_are_refused(self, tmp_path: Path) -> None:
        for X in (Rows(answer()), in_hdf5(answer(), tmp_path)):
            with pytest.raises(ValueError, match=r"must be an array, .* got (Rows|Dataset)\. Load"):
                distinct(X)


class TestSame:
    @pytest.mark.parametrize("kind", IN_MEMORY)
    def test_equal_rows_are_the_same(self, kind: str, tmp_path: Path) -> None:
        X, equal = KINDS[kind](answer(), tmp_path), KINDS[kind](answer().copy(), tmp_path)
        changed = answer()
        changed[7, 1] += 1
        assert same(X, X)
        assert same(X, equal)
        assert not same(X, KINDS[kind](changed, tmp_path))
        assert not same(X, KINDS[kind](answer()[:-1], tmp_path))
        assert not same(X, KINDS[kind](answer()[::-1].copy(), tmp_path))

    def test_kinds_differ(self) -> None:
        assert not same(answer(), sparse.csr_matrix(answer()))
        assert not same(answer(), torch.from_numpy(answer()))

    def test_a_tensor_of_another_dtype_may_be_the_same(self) -> None:
        assert same(torch.from_numpy(answer()), torch.from_numpy(answer()).to(torch.uint8))

    @pytest.mark.parametrize("kind", ["hdf5", "zarr", "dataset"])
    def test_data_elsewhere_are_the_same_object_only(self, kind: str, tmp_path: Path) -> None:
        (tmp_path / "copy").mkdir()
        X, copy = KINDS[kind](answer(), tmp_path), KINDS[kind](answer(), tmp_path / "copy")
        assert same(X, X)
        assert not same(X, copy)


class TestLike:
    @pytest.mark.parametrize("other", IN_MEMORY)
    @pytest.mark.parametrize("kind", IN_MEMORY)
    def test_equal_rows_become_the_same(self, kind: str, other: str, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        X, model = KINDS[kind](answer(), tmp_path), KINDS[other](answer(), tmp_path / "other")
        assert same(like(X, model), model)
        np.testing.assert_array_equal(as_dense(like(X, model)), answer())
        assert like(X, X) is X

    def test_data_elsewhere_stay_there(self, tmp_path: Path) -> None:
        mapped = np.memmap(tmp_path / "x.bin", np.float32, "w+", shape=(4, 2))
        assert like(mapped, mapped) is mapped
        for X in (Rows(answer()), in_hdf5(answer(), tmp_path)):
            for other in (answer(), sparse.csr_matrix(answer()), torch.from_numpy(answer())):
                assert like(X, other) is X
        placed = like(sparse.csr_matrix(answer()), mapped)
        np.testing.assert_array_equal(placed, answer())


HALF = np.array([[0.5, 0.0], [0.25, 300.0]], dtype=np.float32)


class TestStack:
    @pytest.mark.parametrize("below", [*IN_MEMORY, "memmap", "hdf5", "zarr"])
    @pytest.mark.parametrize("above", [*IN_MEMORY, "memmap"])
    def test_equals_joining_arrays(self, above: str, below: str, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        first = KINDS[above](answer(), tmp_path)
        joined = stack(first, KINDS[below](answer()[::-1].copy(), tmp_path / "below"))
        np.testing.assert_array_equal(as_dense(joined), np.vstack([answer(), answer()[::-1]]))
        assert isinstance(joined, torch.Tensor) == isinstance(first, torch.Tensor)
        assert sparse.issparse(joined) == sparse.issparse(first)
        if sparse.issparse(joined):
            assert joined.format == "csr"

    @pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
    @pytest.mark.parametrize(
        "kind", [np.asarray, torch.from_numpy, sparse.csr_matrix], ids=["array", "tensor", "csr"]
    )
    def test_the_second_part_loses_nothing(self, kind: Any, dtype: type) -> None:
        whole = np.array([[1, 0]], dtype=dtype)
        expected = np.vstack([whole, HALF]).astype(np.float32)
        joined = stack(kind(whole), kind(HALF))
        assert str(joined.dtype).endswith("float32")
        np.testing.assert_array_equal(as_dense(joined), expected)
        np.testing.assert_array_equal(as_dense(stack(kind(HALF), kind(whole))), expected[[1, 2, 0]])

    @pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
    def test_a_small_dtype_of_both_stays(self, dtype: type) -> None:
        part = np.eye(2, dtype=dtype)
        assert stack(part, part).dtype == dtype
        assert stack(sparse.csr_matrix(part), part).dtype == dtype

    @pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
    def test_half_precision_and_large_numbers(self, half: torch.dtype) -> None:
        whole = torch.tensor([[70_001, 1]])
        joined = stack(torch.zeros(1, 2, dtype=half), whole)
        assert joined.tolist() == [[0, 0], [70_001, 1]]

    def test_two_halves_of_different_kind(self) -> None:
        joined = stack(torch.tensor([[65_504.0]]).half(), torch.tensor([[1e30]]).bfloat16())
        assert joined.dtype == torch.float32
        assert joined[0, 0] == 65_504

    def test_images(self) -> None:
        images = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        joined = stack(images, torch.from_numpy(images[:1]))
        np.testing.assert_array_equal(joined, images[[0, 1, 0]])

    @pytest.mark.parametrize("kind", IN_MEMORY)
    def test_rows_of_another_shape_are_refused(self, kind: str, tmp_path: Path) -> None:
        X = KINDS[kind](answer(), tmp_path)
        with pytest.raises(ValueError, match=r"same shape, got \(2,\) and \(3,\)\. Reshape"):
            stack(X, np.zeros((4, 3), dtype=np.float32))

    def test_rows_elsewhere_are_refused(self, tmp_path: Path) -> None:
        for above, below in (
            (Rows(answer()), answer()),
            (in_hdf5(answer(), tmp_path), answer()),
            (answer(), Rows(answer())),
        ):
            with pytest.raises(ValueError, match=r"must be in an array, .* got \w+\. Load"):
                stack(above, below)


@pytest.mark.gpu
def test_tensors_on_a_graphics_card() -> None:
    X = torch.from_numpy(answer()).cuda()
    joined = stack(X, answer())
    assert joined.device == X.device
    assert same(joined, torch.from_numpy(np.vstack([answer(), answer()])))
    assert same(take(X, np.array([3, 1])), X[[3, 1]])
    np.testing.assert_array_equal(distinct(X).first, distinct(answer()).first)
