"""Write rows to a file that is whole or absent: Parquet or JSON lines, by the end of its name.

A row is a struct, and a line of JSON is what the contract would put on a topic. The columns of
Parquet follow from the fields of the struct, never from the rows, so that a file without rows, or
with empty lists only, has the same columns as any other. pyarrow is loaded when it is needed.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from msgspec import inspect

from contract.errors import DatasetError
from contract.process.atomic_write import draft_of

PARQUET, JSON_LINES = ".parquet", ".jsonl"
_ROWS_IN_GROUP = 20_000
_PACKED = "zstd"


class RowWriter(Protocol):
    """Takes rows until it is closed."""

    def write(self, rows: Sequence[msgspec.Struct]) -> None:
        """Append *rows*."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def check_name(path: Path) -> None:
    """Check that a file of that name can be written here.

    Raises:
        ValueError: the name has no known end.
        DatasetError: pyarrow is needed and not installed.
    """
    if path.suffix not in (PARQUET, JSON_LINES):
        raise ValueError(f"{path} ends neither in {PARQUET} nor in {JSON_LINES}")
    if path.suffix == PARQUET:
        pyarrow()


def pyarrow() -> Any:
    """Return the module pyarrow, with its submodule parquet loaded.

    Raises:
        DatasetError: it is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise DatasetError(
            f"{PARQUET} needs pyarrow: pip install 'nextwatch[replay]', or name a file that ends "
            f"in {JSON_LINES}"
        ) from None
    return pyarrow


@contextmanager
def written(path: Path, kind: type[msgspec.Struct]) -> Iterator[RowWriter]:
    """Yield a writer of rows of *kind*; the file is at *path* once all is well, never in part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    made = _ParquetRows if path.suffix == PARQUET else _JsonRows
    try:
        with made(draft, kind) as writer:
            yield writer
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def concatenate(parts: Sequence[Path], path: Path, kind: type[msgspec.Struct]) -> None:
    """Write the rows of *parts*, files with the same end as *path*, one after the other."""
    draft = draft_of(path)
    try:
        if path.suffix == JSON_LINES:
            with draft.open("wb") as whole:
                for part in parts:
                    with part.open("rb") as file:
                        shutil.copyfileobj(file, whole)
        else:
            parquet = pyarrow().parquet
            with parquet.ParquetWriter(draft, schema_of(kind), compression=_PACKED) as whole:
                for part in parts:
                    whole.write_table(parquet.read_table(part))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


class _JsonRows:
    def __init__(self, path: Path, kind: type[msgspec.Struct]) -> None:
        del kind
        self._file = path.open("wb")
        self._encoder = msgspec.json.Encoder()

    def write(self, rows: Sequence[msgspec.Struct]) -> None:
        self._file.write(self._encoder.encode_lines(rows))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _ParquetRows:
    def __init__(self, path: Path, kind: type[msgspec.Struct]) -> None:
        self._arrow = pyarrow()
        self._schema = schema_of(kind)
        self._writer = self._arrow.parquet.ParquetWriter(path, self._schema, compression=_PACKED)
        self._rows: list[Any] = []

    def write(self, rows: Sequence[msgspec.Struct]) -> None:
        self._rows += [_whole(row) for row in rows]
        if len(self._rows) >= _ROWS_IN_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            table = self._arrow.Table.from_pylist(self._rows, schema=self._schema)
            self._writer.write_table(table)
        self._rows = []


def schema_of(kind: type[msgspec.Struct]) -> Any:
    """Return the Arrow schema of structs of *kind*."""
    arrow = pyarrow()
    fields = msgspec.structs.fields(kind)
    return arrow.schema([(one.name, _arrow_type(inspect.type_info(one.type))) for one in fields])


def _arrow_type(info: inspect.Type) -> Any:
    arrow = pyarrow()
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):  # with null, which any column may have
        [info] = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        return _arrow_type(info)
    if isinstance(info, inspect.ListType):
        return arrow.list_(_arrow_type(info.item_type))
    if isinstance(info, inspect.StructType):
        return arrow.struct([(one.encode_name, _arrow_type(one.type)) for one in info.fields])
    plain = {inspect.IntType: arrow.int64, inspect.FloatType: arrow.float64}
    made = plain.get(type(info), arrow.string)
    return made()


def _whole(value: Any) -> Any:
    """Return a struct as a dictionary of all of its fields, also of those with defaults."""
    if isinstance(value, msgspec.Struct):
        return {name: _whole(getattr(value, name)) for name in value.__struct_fields__}
    return [_whole(one) for one in value] if isinstance(value, list) else value
