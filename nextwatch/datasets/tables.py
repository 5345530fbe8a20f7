"""Read the parts of a data set that are not plain columns: lists in parquet, and text."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextwatch.datasets.columns import parquet_batches, read_errors
from nextwatch.datasets.files import DataFile, find_or_raise


def read_rows(path: Path, names: Sequence[str], remedy: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a parquet file, with the columns *names* only.

    Raises:
        DatasetError: the file or a column is missing, or the file is damaged.
    """
    with read_errors(path, remedy):
        for batch in parquet_batches(path, names):
            yield from batch.to_pylist()


def read_lines(place: Path, patterns: Sequence[str], remedy: str) -> tuple[DataFile, list[str]]:
    """Return the first file that matches, and its lines; these sets are in Latin-1.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    found = find_or_raise(place, patterns, remedy)[0]
    with read_errors(found, remedy), found.open() as file:
        return found, file.read().decode("latin-1").splitlines()
