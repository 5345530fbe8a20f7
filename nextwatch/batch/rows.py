"""Write rows to a file that is whole or absent: Parquet or JSON lines, by the end of its name.

A row is a struct, and a line of JSON is what the contract would put on a topic. The columns of
Parquet follow from the fields of the struct, never from the rows, so that a file without rows, or
with empty lists only, has the same columns as any other. pyarrow is loaded when it is needed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo

from contract.errors import ContractError, DatasetError
from contract.process.atomic_write import draft_of, finish_draft

PARQUET, JSON_LINES = ".parquet", ".jsonl"
_ROWS_IN_GROUP = 20_000
_PACKED = "zstd"
_BYTES_AT_ONCE = 1 << 20


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
        ValueError: the name has no known end, or is below a file.
        DatasetError: pyarrow is needed and not installed.
    """
    if path.suffix not in (PARQUET, JSON_LINES):
        raise ValueError(f"{path} ends neither in {PARQUET} nor in {JSON_LINES}")
    if not next(one for one in path.absolute().parents if one.exists()).is_dir():
        raise ValueError(f"{path} is below a file, where nothing can be written")
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
        finish_draft(path)
    finally:
        draft.unlink(missing_ok=True)


def concatenate(
    parts: Sequence[Path], path: Path, kind: type[msgspec.Struct], *, num_rows: int
) -> None:
    """Write the *num_rows* rows of *parts*, files with the same end as *path*, one after the other.

    Raises:
        ContractError: a part is missing or damaged.
    """
    draft = draft_of(path)
    joined = _joined_parquet if path.suffix == PARQUET else _joined_lines
    try:
        found = joined(parts, draft, kind)
        if found != num_rows:
            raise ContractError(f"{parts[0].parent} has {found} rows, expected {num_rows}")
        finish_draft(path)
    finally:
        draft.unlink(missing_ok=True)


def _joined_lines(parts: Sequence[Path], draft: Path, kind: type[msgspec.Struct]) -> int:
    """Write the lines of *parts* into *draft*; return how many there are."""
    del kind
    num_lines = 0
    with draft.open("wb") as whole:
        for part in parts:
            _check_is_there(part)
            with part.open("rb") as file:
                while some := file.read(_BYTES_AT_ONCE):
                    num_lines += some.count(b"\n")
                    whole.write(some)
    return num_lines


def _joined_parquet(parts: Sequence[Path], draft: Path, kind: type[msgspec.Struct]) -> int:
    """Write the rows of *parts* into *draft*; return how many there are."""
    arrow = pyarrow()
    num_rows = 0
    with arrow.parquet.ParquetWriter(draft, schema_of(kind), compression=_PACKED) as whole:
        for part in parts:
            _check_is_there(part)
            try:
                table = arrow.parquet.read_table(part)
            except (arrow.ArrowInvalid, OSError) as error:
                raise ContractError(f"{part} cannot be read: {error}") from error
            num_rows += table.num_rows
            whole.write_table(table)
    return num_rows


def _check_is_there(part: Path) -> None:
    if not part.is_file():
        raise ContractError(f"{part} is missing")


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
        self._kind, self._schema = kind, schema_of(kind)
        self._writer = self._arrow.parquet.ParquetWriter(path, self._schema, compression=_PACKED)
        self._rows: list[msgspec.Struct] = []

    def write(self, rows: Sequence[msgspec.Struct]) -> None:
        self._rows += rows
        if len(self._rows) >= _ROWS_IN_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = _columns(msgspec.structs.fields(self._kind), self._rows)
            self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
        self._rows = []


def schema_of(kind: type[msgspec.Struct]) -> Any:
    """Return the Arrow schema of structs of *kind*."""
    arrow = pyarrow()
    fields = msgspec.structs.fields(kind)
    return arrow.schema([(one.name, _arrow_type(inspect.type_info(one.type))) for one in fields])


def _columns(
    fields: Sequence[FieldInfo] | Sequence[inspect.Field], rows: Sequence[Any]
) -> list[Any]:
    """Return an Arrow array for each of *fields*; column by column it takes half of the time."""
    return [
        _array(inspect.type_info(one.type) if isinstance(one, FieldInfo) else one.type, values)
        for one in fields
        for values in [list(map(attrgetter(one.name), rows))]
    ]


def _array(info: inspect.Type, values: Sequence[Any]) -> Any:
    """Return *values* of a type as an Arrow array; None is null where it is a plain value."""
    arrow, info = pyarrow(), _plain(info)
    if isinstance(info, inspect.ListType):
        offsets = [0, *accumulate(map(len, values))]
        items = _array(info.item_type, list(chain.from_iterable(values)))
        return arrow.ListArray.from_arrays(arrow.array(offsets, arrow.int32()), items)
    if isinstance(info, inspect.StructType):
        names = [one.encode_name for one in info.fields]
        return arrow.StructArray.from_arrays(_columns(info.fields, values), names)
    return arrow.array(values, _arrow_type(info))


def _arrow_type(info: inspect.Type) -> Any:
    arrow, info = pyarrow(), _plain(info)
    if isinstance(info, inspect.ListType):
        return arrow.list_(_arrow_type(info.item_type))
    if isinstance(info, inspect.StructType):
        return arrow.struct([(one.encode_name, _arrow_type(one.type)) for one in info.fields])
    plain = {inspect.IntType: arrow.int64, inspect.FloatType: arrow.float64}
    made = plain.get(type(info), arrow.string)
    return made()


def _plain(info: inspect.Type) -> inspect.Type:
    """Return the type itself, without its bounds, and without null, which any column may have."""
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        if isinstance(info, inspect.Metadata):
            info = info.type
        else:
            [info] = [one for one in info.types if not isinstance(one, inspect.NoneType)]
    return info
