"""Labels and values of rows, read once from whatever container the user passed.

In: a list, array, column of a table or tensor. Out: a :class:`Column` of numpy values that knows
which entries are missing, and from it the :class:`Classes`. Graph, classifier, landmarks, metrics
and plots all read labels here, so that an unlabelled row is the same row to each of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import date, timedelta
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNLABELLED", "Classes", "Column", "read_column"]

# umap-learn's and scikit-learn's mark for semi-supervised targets.
UNLABELLED = -1
# What numpy makes of -1 and NaN when it turns a list of names into an array of text.
UNLABELLED_TEXT = ("-1", "nan")
MISSING_TYPES = {"NAType", "NaTType"}  # pandas.NA and pandas.NaT, without importing pandas

KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("text", (str,)),
    ("bytes", (bytes,)),
    ("dates", (date, np.datetime64)),
    ("durations", (timedelta, np.timedelta64)),  # for numpy they are integers as well
    ("numbers", (Number, np.number, np.bool_)),
)
KIND_OF_DTYPE = {"M": "dates", "m": "durations", "U": "text", "S": "bytes"}


@dataclass(frozen=True)
class Classes:
    """Distinct labels in order, and the code of each row's label; -1 for unlabelled rows."""

    labels: NDArray[Any]
    codes: NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """One entry per row, or several, and which of them are missing.

    Attributes
    ----------
    values : array of shape (n_rows,) or (n_rows, n_columns)
        Whatever stands where `missing` is True has no meaning.
    missing : array of the same shape, bool
        Entries that are None, NaN, NA, NaT, null or masked.
    name : str
        The argument, for messages.
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_]
    name: str = "y"

    def __getitem__(self, rows: Any) -> Column:
        """Return the entries of other rows."""
        return Column(self.values[rows], self.missing[rows], self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self.values.shape

    def kinds(self) -> set[str]:
        """Return what the entries are, such as ``{"text"}``; of several kinds only in objects."""
        if self.values.dtype.kind == "O":
            return {_kind_of(kind) for kind in set(map(type, self.known().tolist()))}
        return {KIND_OF_DTYPE.get(self.values.dtype.kind, "numbers")}

    def known(self) -> NDArray[Any]:
        """Return the entries that are not missing."""
        return np.asarray(self.values[~self.missing])

    def unlabelled(self) -> NDArray[np.bool_]:
        """Return which entries mark a row without a label: the missing ones, and -1."""
        values = self.values
        if values.dtype.kind == "O":
            marks = (UNLABELLED, *UNLABELLED_TEXT)
            found = [entry in marks for entry in values.ravel().tolist()]
            return np.asarray(self.missing | np.reshape(found, values.shape).astype(bool))
        if values.dtype.kind in "US":
            texts = np.array(UNLABELLED_TEXT).astype(values.dtype.kind)
            return self.missing | np.isin(values, texts)
        if values.dtype.kind in "iufc":
            return np.asarray(self.missing | (values == UNLABELLED))
        return self.missing

    def classes(self) -> Classes:
        """Number the labels of one column.

        Raises
        ------
        ValueError
            If labels are of several kinds, such as numbers and text, have no order, or are
            infinite.
        """
        unlabelled = self.unlabelled()
        infinite = np.isinf(self.values) if self.values.dtype.kind in "fc" else None
        if infinite is not None and (infinite & ~unlabelled).any():
            raise ValueError(
                f"{self.name} must hold finite labels, got infinity in "
                f"{self.first(infinite & ~unlabelled)}. Mark rows without a label with -1."
            )
        known = self.values[~unlabelled]
        codes = np.full(self.shape, UNLABELLED, dtype=np.int64)
        if known.dtype.kind != "O":
            labels, codes[~unlabelled] = np.unique(known, return_inverse=True)
            return Classes(labels, codes)
        labels = self._ordered(known)
        code_of = {label: code for code, label in enumerate(labels.tolist())}
        codes[~unlabelled] = [code_of[label] for label in known.tolist()]
        return Classes(labels, codes)

    def codes(self) -> NDArray[np.int64]:
        """Number the labels of each column on its own; -1 where there is none."""
        if len(self.shape) == 1:
            return self.classes().codes
        columns = [self[:, at].classes().codes for at in range(self.shape[1])]
        return np.stack(columns, axis=1)

    def numbers(self) -> NDArray[Any] | None:
        """Return the values as numbers, NaN where one is missing; None if they are no numbers."""
        if self.kinds() - {"numbers"} or self.values.dtype.kind == "c":
            return None
        if self.values.dtype.kind != "O" and not self.missing.any():
            return self.values
        result = np.full(self.shape, np.nan)
        try:
            result[~self.missing] = self.known()
        except (TypeError, ValueError):  # complex numbers among objects
            return None
        return result

    def extended(self, n_rows: int) -> Column:
        """Return the same with this many rows without an entry after the last one."""
        added = (n_rows, *self.shape[1:])
        values = np.concatenate([self.values, np.zeros(added, dtype=self.values.dtype)])
        return Column(values, np.concatenate([self.missing, np.ones(added, bool)]), self.name)

    def first(self, where: NDArray[np.bool_]) -> str:
        """Return the first entry that is True in `where`, as a place for a message."""
        row, *column = (int(at) for at in np.argwhere(where)[0])
        return f"row {row}" + "".join(f", column {at}" for at in column)

    def _ordered(self, known: NDArray[Any]) -> NDArray[Any]:
        """Return the distinct ones of labels that are objects, in order."""
        entries = known.tolist()
        examples = {_kind_of(kind): kind for kind in set(map(type, entries))}
        if len(examples) > 1:
            shown = [next(e for e in entries if type(e) is kind) for kind in examples.values()]
            raise ValueError(
                f"{self.name} must hold labels of one kind, got {' and '.join(sorted(examples))}, "
                f"such as {' and '.join(map(repr, shown))}. Write all labels as text, and mark "
                "rows without a label with None."
            )
        distinct = list(dict.fromkeys(entries))
        labels = np.empty(len(distinct), dtype=object)
        try:
            labels[:] = sorted(distinct)
        except TypeError as error:
            raise ValueError(
                f"{self.name} must hold labels that can be put in order, got {distinct[0]!r:.60} "
                f"({error}). Write them as text or as numbers."
            ) from error
        return labels


def read_column(entries: Any, name: str = "y") -> Column:
    """Read labels or values from a list, array, column, table or tensor.

    Parameters
    ----------
    entries : array-like of shape (n_rows,) or (n_rows, n_columns)
        A table or array with one column counts as that column.
    name : str, default="y"
        The argument, for messages.

    Raises
    ------
    TypeError
        If it is no sequence of entries: a generator, a dict, a set or a sparse matrix.
    ValueError
        If its rows are of unequal length, or an entry is itself a list or an array.

    Examples
    --------
    >>> read_column([1.0, None, -1, 3]).missing.tolist()
    [False, True, False, False]
    >>> read_column(["cat", -1, "dog"]).classes().codes.tolist()
    [0, -1, 1]
    """
    if isinstance(entries, Column):
        return entries
    _refuse_container(entries, name)
    columns = _columns_of(entries)
    if columns is not None:
        return _side_by_side([read_column(column, name) for column in columns], name)
    values, missing = _opened(entries, name)
    if values.ndim > 1:
        values = values.reshape(len(values), -1)
        missing = missing.reshape(values.shape)
        if values.shape[1] == 1:
            values, missing = values[:, 0], missing[:, 0]
    if values.dtype.kind == "O" and values.ndim == 2:
        parts = [_of_objects(values[:, at], missing[:, at], name) for at in range(values.shape[1])]
        return _side_by_side(parts, name)
    if values.dtype.kind == "O" and values.ndim == 1:
        return _of_objects(values, missing, name)
    return Column(values, missing | _is_missing(values), name)


def _refuse_container(entries: Any, name: str) -> None:
    """Raise TypeError for what numpy would take for a single object."""
    advice = None
    if isinstance(entries, Iterator):
        advice = f"Make a list of it: list({name})"
    elif hasattr(entries, "tocsr"):  # before dicts: a dok_array is one
        advice = f"Pass {name}.toarray()"
    elif isinstance(entries, Mapping):
        advice = f'Pass one of its values, such as {name}["label"]'
    elif isinstance(entries, Set):
        advice = "Pass a list, which has an order"
    elif getattr(getattr(entries, "dtype", None), "names", None):
        advice = f'Pass one field, such as {name}["{entries.dtype.names[0]}"]'
    if advice:
        fields = getattr(getattr(entries, "dtype", None), "names", None)
        kind = f"an array with the fields {fields}" if fields else f"a {type(entries).__name__}"
        raise TypeError(
            f"{name} must be a list, an array or a column of a table, got {kind}. {advice}."
        )


def _is_a(entries: Any, module: str, *names: str) -> bool:
    loaded = sys.modules.get(module)  # an instance exists only if its module was imported
    kinds = tuple(getattr(loaded, name) for name in names if hasattr(loaded, name))
    return isinstance(entries, kinds)


def _columns_of(entries: Any) -> list[Any] | None:
    """Return the columns of a table, None for anything else."""
    if _is_a(entries, "pandas", "DataFrame"):
        return [entries.iloc[:, at] for at in range(entries.shape[1])]
    if _is_a(entries, "polars", "DataFrame"):
        return list(entries.get_columns())
    if _is_a(entries, "pyarrow", "Table"):
        return list(entries.columns)
    return None


def _side_by_side(columns: list[Column], name: str) -> Column:
    if len(columns) == 1:
        return columns[0]
    values = [column.values for column in columns]
    if len({"n" if part.dtype.kind in "iufb" else part.dtype.kind for part in values}) > 1:
        values = [part.astype(object) for part in values]
    return Column(np.stack(values, 1), np.stack([part.missing for part in columns], 1), name)


def _opened(entries: Any, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the entries as an array, and which ones the container itself calls missing."""
    if _is_a(entries, "pandas", "Series", "Index") or _is_a(
        entries, "pandas.api.extensions", "ExtensionArray"
    ):
        missing = np.asarray(sys.modules["pandas"].isna(entries))
        return _spread(np.asarray(entries[~missing]), missing)
    if _is_a(entries, "polars", "Series"):
        return _spread(entries.drop_nulls().to_numpy(), entries.is_null().to_numpy())
    if _is_a(entries, "pyarrow", "Array", "ChunkedArray"):
        return _spread(np.asarray(entries.drop_null()), np.asarray(entries.is_null()))
    if isinstance(entries, np.ma.MaskedArray):
        return np.asarray(entries.data), np.ma.getmaskarray(entries)
    values = _as_array(entries, name)
    return values, np.zeros(values.shape, dtype=bool)


def _spread(known: NDArray[Any], missing: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Put the known entries back in their rows, so that numpy need not cast for the missing."""
    if not missing.any():
        return known, np.zeros(known.shape, dtype=bool)
    values = np.zeros((len(missing), *known.shape[1:]), dtype=known.dtype)
    values[~missing] = known
    mask = missing.reshape(-1, *[1] * (known.ndim - 1))
    return values, np.broadcast_to(mask, values.shape).copy()


def _as_array(entries: Any, name: str) -> NDArray[Any]:
    if hasattr(entries, "detach"):  # a torch tensor, on any device
        tensor = entries.detach().cpu()
        # numpy has no bfloat16.
        return np.asarray(tensor.float() if "bfloat16" in str(tensor.dtype) else tensor)
    try:
        values = np.asarray(entries)
        if values.dtype.kind in "USV" and not isinstance(entries, np.ndarray):
            objects = np.array(entries, dtype=object)  # numpy made -1 and NaN text as well
            only_text = set(map(type, objects.ravel().tolist())) <= {str, bytes, np.str_}
            return values if only_text else objects
    except ValueError as error:
        raise ValueError(
            f"{name} must have as many entries in each row, got a {type(entries).__name__} with "
            f"rows of unequal length ({error}). Pass one label per row."
        ) from error
    # numpy's text of variable length has a NA of its own.
    return values.astype(object) if values.dtype.kind == "T" else values


def _is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind in "fc":
        return np.asarray(np.isnan(values))
    if values.dtype.kind in "mM":
        return np.asarray(np.isnat(values))
    return np.zeros(values.shape, dtype=bool)


def _of_objects(values: NDArray[Any], masked: NDArray[np.bool_], name: str) -> Column:
    """Find the missing ones among objects; numbers get a numeric dtype."""
    entries = values.tolist()
    missing = masked | np.array([_is_missing_entry(entry) for entry in entries], dtype=bool)
    column = Column(values, missing, name)
    if len(column.kinds()) > 1:  # names and -1: here the number is a mark, elsewhere a value
        marks = np.array([_is_number_mark(entry) for entry in entries], dtype=bool)
        column = Column(values, missing | marks, name)
    kinds = set(map(type, column.known().tolist()))
    unhashable = {kind for kind in kinds if getattr(kind, "__hash__", None) is None}
    if unhashable:
        row = next(row for row, entry in enumerate(entries) if type(entry) in unhashable)
        raise ValueError(
            f"{name} must hold one label per row, got {type(entries[row]).__name__} in row {row}. "
            "Pass text or a number, or an array with one column per label."
        )
    if column.kinds() == {"numbers"}:
        full, _ = _spread(np.array(column.known().tolist()), column.missing)
        return Column(full, column.missing, name)
    return column


def _is_missing_entry(entry: Any) -> bool:
    if isinstance(entry, str | bytes | bool):
        return False
    if entry is None or entry is np.ma.masked or type(entry).__name__ in MISSING_TYPES:
        return True
    # NaN and NaT differ from themselves.
    return isinstance(entry, Number | np.generic) and bool(entry != entry)


def _is_number_mark(entry: Any) -> bool:
    return isinstance(entry, Number | np.number) and bool(entry == UNLABELLED)


def _kind_of(kind: type) -> str:
    for name, types in KINDS:
        if issubclass(kind, types):
            return name
    return f"{kind.__name__} objects"
