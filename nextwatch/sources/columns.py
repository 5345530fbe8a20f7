"""Reads a few columns of a data set's files: .parquet, .csv and .csv.gz, batch by batch.

Nobody ships these data sets with the project, so what goes wrong here is told with the
remedy. Types are given, never guessed: a guess from the first block fails on a later one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DatasetError

BATCH_ROWS = 65_536
MISSING: Mapping[str, Any] = {"int64": -1, "float64": -1.0, "string": ""}
"""What stands for an absent value; no id, time or duration is negative."""

ColumnType = Literal["int64", "float64", "string"]
Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Where to find one table of a data set: the first pattern that matches anything wins."""

    patterns: Sequence[str]
    columns: Mapping[str, ColumnType]
    remedy: str

    def read(self, directory: Path) -> dict[str, Column]:
        """Return the columns by name; several files of one pattern are read one after another.

        Raises:
            DatasetError: the folder, the file or a column is missing, or a file is damaged.
        """
        pieces = [batch for path in self._find(directory) for batch in self._batches(path)]
        return {
            name: np.concatenate([piece[name] for piece in pieces])
            if pieces
            else np.empty(0, _numpy_type(kind))
            for name, kind in self.columns.items()
        }

    def _find(self, directory: Path) -> list[Path]:
        if not directory.is_dir():
            raise DatasetError(f"no folder {directory}. {self.remedy}")
        for pattern in self.patterns:
            if found := sorted(directory.glob(pattern)):
                return found
        raise DatasetError(f"{directory} holds no {' or '.join(self.patterns)}. {self.remedy}")

    def _batches(self, path: Path) -> Iterator[dict[str, Column]]:
        pa = _pyarrow()
        read = _parquet_batches if path.suffix == ".parquet" else _csv_batches
        try:
            for batch in read(path, self.columns):
                yield {
                    name: _to_numpy(batch.column(name), kind) for name, kind in self.columns.items()
                }
        except KeyError as error:
            raise DatasetError(f"{path} lacks a column: {error}. {self.remedy}") from error
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(f"{path} cannot be read: {reason}. {self.remedy}") from error


def _pyarrow() -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and only replaying needs it
    except ImportError as error:
        raise DatasetError("replaying needs pyarrow: pip install 'nextwatch[replay]'") from error
    return pa


def _parquet_batches(path: Path, columns: Mapping[str, ColumnType]) -> Iterator[Any]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        if absent := sorted(columns.keys() - set(file.schema_arrow.names)):
            raise KeyError(", ".join(absent))
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns))


def _csv_batches(path: Path, columns: Mapping[str, ColumnType]) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    types = {name: pa.type_for_alias(kind) for name, kind in columns.items()}
    convert = csv.ConvertOptions(column_types=types, include_columns=list(columns))
    with csv.open_csv(path, convert_options=convert) as batches:
        yield from batches


def _to_numpy(column: Any, kind: ColumnType) -> Column:
    filled = column.cast(_pyarrow().type_for_alias(kind)).fill_null(MISSING[kind])
    values: Column = filled.to_numpy(zero_copy_only=False)
    return values


def _numpy_type(kind: ColumnType) -> str:
    return "object" if kind == "string" else kind
