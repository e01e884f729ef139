"""Place the rows of a Parquet file batch by batch, in memory that does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neumap._atomic import replacing
from neumap._optional import require
from neumap.cli import models
from neumap.cli.columns import choose_columns, readable, table_of
from neumap.cli.errors import CommandError
from neumap.cli.reading import check_finite, check_fits, say_what_was_left_out
from neumap.cli.table import Columns, Selection

if TYPE_CHECKING:
    from neumap.estimators import ParametricUMAP

__all__ = ["can_be_batched", "transform_file"]

# A multiple of the rows that an encoder takes at once, so that batches change no position.
SMALLEST = 4096
LARGEST = 16 * SMALLEST
NUMBERS = 2**23  # in a batch: 64 MB of float64
READ_BYTES = 2**20


def can_be_batched(model: ParametricUMAP, input: Path, output: Path) -> bool:
    """Return whether both files are Parquet and the model places each row by itself.

    Free positions are looked up among the training rows, which takes all rows at once.
    """
    are_parquet = all(path.suffix.lower() == ".parquet" for path in (input, output))
    return are_parquet and input.is_file() and getattr(model, "encoder_", None) is not None


def transform_file(
    model: ParametricUMAP,
    input: Path,
    output: Path,
    selection: Selection,
    *,
    names: Sequence[str] | None = None,
    verbose: bool = False,
) -> tuple[int, int]:
    """Place the rows of a Parquet file and write them with their coordinates.

    Parameters
    ----------
    model : ParametricUMAP
        With an encoder.
    input, output : Path
        The output appears when it is complete.
    selection : Selection
        Columns to read, and whether all are kept.
    names : sequence of str, optional
        Of the coordinates.
    verbose : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    n_rows, n_components : int

    Raises
    ------
    CommandError
        If the file is damaged, its columns do not fit the model, or it holds anything but finite
        numbers.
    """
    check_fits(selection, ".parquet", input)
    parquet = require("pyarrow.parquet", extra="tables")
    with readable(input, ".parquet"):
        # Buffered, a large group of rows is read in pieces; pyarrow reads it as a whole otherwise.
        source = parquet.ParquetFile(input, buffer_size=READ_BYTES, pre_buffer=False)
    empty = source.schema_arrow.empty_table()
    wanted = models.selection_for(model, input, selection)
    taken = choose_columns(empty, wanted, input)
    job = _Job(model, input, wanted, taken, models.names_of(model, names), empty.column_names)
    models.check_names_differ(job.names, job.written)
    n_rows = 0
    with source, replacing(output) as draft, _Writer(draft) as writer:
        for batch in _shown(job.batches(source), source.metadata.num_rows, verbose):
            writer.write(job.placed(batch, n_rows))
            n_rows += batch.num_rows
        if not n_rows:
            raise CommandError(f"{input}: the table must have rows, got none. Choose another one.")
    return n_rows, len(job.names)


@dataclass(frozen=True)
class _Job:
    """What is done with each batch of a file."""

    model: ParametricUMAP
    input: Path
    selection: Selection
    taken: Columns
    names: list[str]
    columns: list[str]

    @property
    def written(self) -> list[str]:
        """The columns of the input that are written."""
        if self.selection.keeps:
            return self.columns
        return [name for name in (self.taken.id, self.taken.label) if name is not None]

    @property
    def rows(self) -> list[str]:
        """The columns of the input that hold the rows."""
        return self.taken.numbers if self.taken.vectors is None else [self.taken.vectors]

    def batches(self, source: Any) -> Iterator[Any]:
        """Yield the columns that are needed, a few megabytes at a time."""
        with readable(self.input, ".parquet"):
            width = int(self.model.n_features_in_)
            n_rows = max(SMALLEST, min(LARGEST, NUMBERS // width // SMALLEST * SMALLEST))
            needed = set(self.rows) | set(self.written)
            columns = [name for name in self.columns if name in needed]
            # Group by group: the iterator over all groups keeps the memory of each.
            stream = chain.from_iterable(
                source.iter_batches(batch_size=n_rows, columns=columns, row_groups=[group])
                for group in range(source.num_row_groups)
            )
        while True:
            with readable(self.input, ".parquet"):
                batch = next(stream, None)
            if batch is None:
                return
            yield batch

    def placed(self, batch: Any, first_row: int) -> Any:
        """Return what is written of a batch that begins with this row of the file."""
        arrow = require("pyarrow", extra="tables")
        whole = arrow.Table.from_batches([batch])
        table = table_of(whole, self.selection, self.input, self.taken)
        if not first_row:
            models.check_width(self.model, table, self.input)
            say_what_was_left_out(table, self.input)
        check_finite(table, self.input, first_row)
        positions = models.place(self.model, table)
        kept = {name: whole.column(name) for name in self.written}
        axes = {name: positions[:, at] for at, name in enumerate(self.names)}
        made = arrow.table({**kept, **axes})
        notes = (whole.schema.metadata or {}).get(b"pandas")  # which columns are an index
        is_noted = notes is not None and self.selection.keeps
        return made.replace_schema_metadata({b"pandas": notes}) if is_noted else made


class _Writer:
    """A Parquet file with the columns of the first table that is written to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: Any) -> None:
        if self._writer is None:
            parquet = require("pyarrow.parquet", extra="tables")
            self._writer = parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)


def _shown(batches: Iterator[Any], n_rows: int, verbose: bool) -> Iterator[Any]:
    """Yield the batches below a progress bar."""
    from tqdm.std import tqdm

    with tqdm(total=n_rows, unit="row", unit_scale=True, disable=not verbose) as bar:
        for batch in batches:
            yield batch
            bar.update(batch.num_rows)
