"""Header names that are no UTF-8, in batches as a producer in another language writes them."""

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from streams.header_names import ReadableRecords
from tests.builders import T0


class Name(str):
    """A header name of any bytes: what a client that does not check would send."""

    __slots__ = ("in_bytes",)

    def encode(self, *_):
        return self.in_bytes


def name(in_bytes):
    """Return a header name that is written as *in_bytes*."""
    strange = Name("x")
    strange.in_bytes = in_bytes
    return strange


def batch_of(records, *, compression_type=0):
    """Return a batch of (key, headers) as bytes."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression_type,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10**6,
    )
    for offset, (key, headers) in enumerate(records):
        builder.append(offset, T0, key, b"value", headers)
    return bytes(builder.build())


def read(data):
    """Return (key, headers) of every record in *data*."""
    records, found = ReadableRecords(data), []
    while records.has_next():
        batch = records.next_batch()
        assert batch.validate_crc()
        found += [(record.key, record.headers) for record in batch]
    return found


STRANGE = [
    (b"before", [("trace", b"1")]),
    (b"strange", [(name(b"\xff\xfe"), b"2"), ("good", None)]),
    (b"after", []),
]


def test_what_aiokafka_reads_is_read_as_it_reads_it():
    """Names, values, nulls and order."""
    records = [(b"a", [("x", b"1"), ("x", None), ("é", b"")]), (None, [])]

    assert read(batch_of(records)) == records


@pytest.mark.parametrize("compression_type", [0, 1, 3])
def test_a_strange_name_is_read_with_surrogates_and_nothing_else_changes(compression_type):
    """Before it, after it, and in the batches around it; compressed or not."""
    strange = batch_of(STRANGE, compression_type=compression_type)
    plain = batch_of([(b"plain", [])])

    assert read(plain + strange + plain) == [
        (b"plain", []),
        (b"before", [("trace", b"1")]),
        (b"strange", [("\udcff\udcfe", b"2"), ("good", None)]),
        (b"after", []),
        (b"plain", []),
    ]


def test_aiokafka_alone_dies_of_it():
    """When this fails, aiokafka has learned it, and `streams.header_names` can go."""
    batch = MemoryRecords(batch_of(STRANGE)).next_batch()

    with pytest.raises(UnicodeDecodeError):
        list(batch)
