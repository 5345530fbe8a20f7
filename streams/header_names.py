"""Header names that are no UTF-8: Kafka takes them, and aiokafka dies of them.

aiokafka 0.14 decodes the names inside its fetch, so a record with such a name ends the worker,
and ends it again after each restart. Here the batch is then read once more by aiokafka's own
reader in Python, over a buffer that decodes leniently: the strange bytes become surrogates, by
which `contract.decoding` knows such a name and makes a dead letter of the record.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


def install() -> None:
    """Let aiokafka's consumers of this process read batches with such names."""
    fetcher.MemoryRecords = ReadableRecords


class ReadableRecords:
    """What a fetch brought from one partition: aiokafka's record set, of readable batches."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._num_taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Any:
        """Return the next batch, None after the last."""
        batch = self._records.next_batch()
        self._num_taken += 1
        return None if batch is None else ReadableBatch(batch, self._data, self._num_taken - 1)


class ReadableBatch:
    """aiokafka's batch number *number* of *data*, read leniently from where it fails."""

    def __init__(self, batch: Any, data: bytes, number: int) -> None:
        self._batch = batch
        self._data = data
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        num_read = 0
        try:
            for record in self._batch:
                yield record
                num_read += 1
        except UnicodeDecodeError:
            yield from islice(self._read_leniently(), num_read, None)

    def _read_leniently(self) -> Iterator[Any]:
        records = _MemoryRecordsPy(self._data)
        for _ in range(self._number):
            records.next_batch()
        batch = _DefaultRecordBatchPy(records._next_slice)  # noqa: SLF001
        iterator: Iterator[Any] = iter(batch)  # uncompresses
        batch._buffer = _Lenient(batch._buffer)  # noqa: SLF001
        return iterator


class _Lenient(bytearray):
    """Bytes whose slices decode whatever they are."""

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _Lenient(found) if isinstance(where, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002
        return super().decode(encoding, "surrogateescape")
