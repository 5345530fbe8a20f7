"""Reads the parts of a data set that are no plain columns: lists in parquet, and text."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from contract.errors import DatasetError
from nextwatch.datasets.files import DataFile, find_or_raise


def read_rows(path: Path, names: Sequence[str], remedy: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a parquet file, with the columns *names* only.

    Raises:
        DatasetError: the file or a column is missing, or the file is damaged.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and only reading logs needs it
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError("reading logs needs pyarrow: pip install 'nextwatch[replay]'") from error
    if not path.is_file():
        raise DatasetError(f"{path.parent} holds no {path.name}. {remedy}")
    try:
        with pq.ParquetFile(path) as file:
            if absent := sorted(set(names) - set(file.schema_arrow.names)):
                raise DatasetError(f"{path} lacks a column: {', '.join(absent)}. {remedy}")
            for batch in file.iter_batches(columns=list(names)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} cannot be read: {reason}. {remedy}") from error


def read_lines(place: Path, patterns: Sequence[str], remedy: str) -> tuple[DataFile, list[str]]:
    """Return the first file that matches, and its lines; these sets are in Latin-1.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    found = find_or_raise(place, patterns, remedy)[0]
    try:
        with found.open() as file:
            return found, file.read().decode("latin-1").splitlines()
    except (OSError, EOFError, BadZipFile) as error:
        raise DatasetError(f"{found} cannot be read: {error}. {remedy}") from error
