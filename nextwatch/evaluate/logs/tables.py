"""Reads the parts of a data set that are no plain columns: lists in parquet, and text."""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.errors import DatasetError


def read_rows(path: Path, names: Sequence[str], remedy: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a parquet file, with the columns *names* only.

    Raises:
        DatasetError: the file or a column is missing, or the file is damaged.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and only evaluating needs it
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError(
            "reading logs needs pyarrow: pip install 'nextwatch[evaluate]'"
        ) from error
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


def read_lines(path: Path, remedy: str) -> list[str]:
    """Return the lines of a text file, gzipped or not; both of Latin-1, as these sets are.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    if not path.is_file():
        raise DatasetError(f"{path.parent} holds no {path.name}. {remedy}")
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read: {error}. {remedy}") from error
    return text.decode("latin-1").splitlines()
