"""Read a few columns of a data set's files, batch by batch: .parquet, .csv, .dat, gzipped or not.

Nobody ships these data sets with the project, so what goes wrong here is told with the
remedy. Types are given, never guessed: a guess from the first block fails on a later one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from contract.errors import DatasetError
from nextwatch.datasets.files import DataFile, find_or_raise

BATCH_ROWS = 65_536
MISSING: Mapping[str, Any] = {"int64": -1, "float64": -1.0, "string": ""}
"""What stands for an absent value; no id, time or duration is negative."""

ColumnType = Literal["int64", "float64", "string"]
Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The files of one table of a data set, found by the first pattern that matches.

    ``header`` names all columns of a file of numbers that has no header and parts them by ``::``.
    """

    patterns: Sequence[str]
    columns: Mapping[str, ColumnType]
    remedy: str
    header: Sequence[str] = ()

    def find(self, place: Path) -> list[DataFile]:
        """Return the files that `read` reads, without reading them.

        Raises:
            DatasetError: the folder or the file is missing, or the library that reads it.
        """
        _pyarrow()
        return find_or_raise(place, self.patterns, self.remedy)

    def read(self, place: Path) -> dict[str, Column]:
        """Return the columns by name; several files of one pattern are read one after another.

        Raises:
            DatasetError: the folder, the file or a column is missing, or a file is damaged.
        """
        found = self.find(place)
        pieces = [batch for file in found for batch in self._batches(file)]
        return {
            name: np.concatenate([piece[name] for piece in pieces])
            if pieces
            else np.empty(0, "object" if kind == "string" else kind)
            for name, kind in self.columns.items()
        }

    def _batches(self, file: DataFile) -> Iterator[dict[str, Column]]:
        with read_errors(file, self.remedy):
            if file.name.endswith(".parquet"):
                batches = parquet_batches(file.path, list(self.columns))
            else:
                batches = _text_batches(file, self.columns, self.header)
            for batch in batches:
                yield {
                    name: _to_numpy(batch.column(name), kind) for name, kind in self.columns.items()
                }


def _pyarrow() -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and only replaying needs it
    except ImportError as error:
        raise DatasetError("replaying needs pyarrow: pip install 'nextwatch[replay]'") from error
    return pa


@contextmanager
def read_errors(file: DataFile | Path, remedy: str) -> Iterator[None]:
    """Turn an error in reading *file* into a `DatasetError` with the *remedy*."""
    pa = _pyarrow()
    try:
        yield
    except KeyError as error:
        raise DatasetError(f"{file} lacks a column: {error}. {remedy}") from error
    except (pa.ArrowException, OSError, EOFError, BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise DatasetError(f"{file} cannot be read: {reason}. {remedy}") from error


def parquet_batches(path: Path, names: Sequence[str]) -> Iterator[Any]:
    """Yield the batches of a parquet file, with the columns *names* only.

    Raises:
        KeyError: a column is missing.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        if absent := sorted(set(names) - set(file.schema_arrow.names)):
            raise KeyError(", ".join(absent))
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=list(names))


def _text_batches(
    file: DataFile, columns: Mapping[str, ColumnType], header: Sequence[str]
) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    types = {name: pa.type_for_alias(kind) for name, kind in columns.items()}
    convert = csv.ConvertOptions(column_types=types, include_columns=list(columns))
    read, parse = csv.ReadOptions(), csv.ParseOptions()
    if header:
        # pyarrow parts by one character: of "1::1193::5" every second column is empty
        read.column_names = [name for one in header for name in (one, f"after {one}")][:-1]
        parse.delimiter = ":"
    with (
        file.open() as opened,
        csv.open_csv(
            opened, read_options=read, parse_options=parse, convert_options=convert
        ) as batches,
    ):
        yield from batches


def _to_numpy(column: Any, kind: ColumnType) -> Column:
    filled = column.cast(_pyarrow().type_for_alias(kind)).fill_null(MISSING[kind])
    values: Column = filled.to_numpy(zero_copy_only=False)
    return values
