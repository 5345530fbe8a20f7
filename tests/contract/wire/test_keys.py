"""Where a key belongs, and that whatever lies elsewhere is refused with a reason of its own."""

import zlib

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import DecodeError
from contract.kafka.records import Received, received
from contract.wire.decoding import check_place
from contract.wire.keys import MAX_KEY_BYTES, murmur2, partition_of
from contract.wire.topics import Layout
from tests.contract.kafka.test_records import Message
from tests.support.builders import deletion, watch

KEYS = [b"u%d" % number for number in range(50)]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        (b"abc", 479_470_107),
    ],
)
def test_the_hash_is_kafkas(key, expected):
    """Values that the Java client is tested with (Kafka's UtilsTest)."""
    assert murmur2(key) == expected % 2**32


@given(st.binary(max_size=80), st.integers(1, 64))
def test_a_key_belongs_where_other_clients_put_it(key, num_partitions):
    """As aiokafka does, which places keys like the Java client."""
    partitions = list(range(num_partitions))

    assert partition_of(key, num_partitions) == DefaultPartitioner()(key, partitions, partitions)


def record(key, partition, num_partitions=8):
    """Return a record of *key* on *partition* of so many."""
    return Received("watch-events", partition, 0, key, b"{}", num_partitions=num_partitions)


def test_a_key_where_it_belongs_is_accepted_and_everywhere_else_refused():
    for key in KEYS:
        check_place(record(key, partition_of(key, 8)), watch())
        for partition in set(range(8)) - {partition_of(key, 8)}:
            with pytest.raises(DecodeError) as refused:
                check_place(record(key, partition), watch())
            assert refused.value.reason == "misplaced"


def test_most_keys_of_librdkafkas_default_partitioner_are_refused():
    """It is CRC32 modulo the number of partitions: right by chance alone."""
    placed = [record(key, zlib.crc32(key) % 8) for key in KEYS]

    assert sum(one.partition == one.home for one in placed) < len(KEYS) / 4


def test_a_record_of_the_broker_knows_how_many_partitions_its_topic_has():
    """By the layout, that every process compares with the cluster when it starts."""
    layout = Layout(prefix="prod-", user_partitions=6)

    assert received(Message([]), layout).home == partition_of(b"u1", 6)


@pytest.mark.parametrize("key", [None, b"", b"k" * (MAX_KEY_BYTES + 1)])
def test_a_record_without_a_valid_key_is_never_misplaced(key):
    """Another reason says what is wrong with it, and no megabyte is hashed."""
    check_place(record(key, 3))


def test_an_erasure_for_all_partitions_may_lie_on_any():
    """What a misplaced event has left of a user has to go, too."""
    everywhere = deletion(everywhere=True)
    for partition in range(8):
        check_place(record(b"u1", partition), everywhere)

    with pytest.raises(DecodeError, match="misplaced"):
        check_place(record(b"u1", (partition_of(b"u1", 8) + 1) % 8), deletion())
