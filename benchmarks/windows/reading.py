"""Read whole topics, the windows in a changelog and those in the stores of stopped workers."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from contract.kafka.client import client_config, consumer_config, take
from contract.kafka.topic_ids import topic_ids
from contract.process.rocksdb import RocksMemory
from contract.process.settings import KafkaSettings
from contract.wire.topics import WINDOWS
from streams.state.partition import CHANGELOG, LOG_ID
from streams.state.store import RocksStore

_READ_S = 30.0
_ID_WITHIN_S = 10.0
_CACHE_MB = 8


def read_all(kafka: KafkaSettings, names: Collection[str]) -> Iterator[Message]:
    """Yield every record of the user topics *names*, in order within a partition.

    Raises:
        RuntimeError: the end of a partition did not come in time.
    """
    config = consumer_config(kafka, group_id=f"read-{uuid4()}") | {"enable.partition.eof": True}
    consumer = Consumer(config)
    try:
        unread = {(name, number) for name in names for number in range(kafka.user_partitions)}
        consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in unread])
        while unread:
            messages = take(consumer, 1_000, within_s=_READ_S)
            if not messages:
                raise RuntimeError(f"the end of {sorted(unread)} did not come in {_READ_S:.0f} s")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    unread.discard((message.topic() or "", message.partition() or 0))
    finally:
        consumer.close()


def published_windows(kafka: KafkaSettings) -> dict[str, bytes]:
    """Return the last record of each user in the changelog, read anew to its end."""
    newest: dict[str, bytes | None] = {}
    for message in read_all(kafka, [kafka.layout.name(WINDOWS)]):
        key = message.key()
        if key is not None:
            newest[key.decode()] = message.value()
    return {user: record for user, record in newest.items() if record is not None}


def kept_windows(state_dirs: Sequence[Path], kafka: KafkaSettings) -> dict[str, bytes]:
    """Return what the stopped workers keep: of each partition the store that saw most.

    Offsets of a changelog that was created again say more than any of the one before.
    """
    name = kafka.layout.name(WINDOWS)
    identity = topic_ids(AdminClient(client_config(kafka)), {name}, within_s=_ID_WITHIN_S).get(name)
    kept: dict[str, bytes] = {}
    memory = RocksMemory.of(_CACHE_MB)
    for number in range(kafka.user_partitions):
        newest, windows = (False, -1), {}
        for directory in (path / str(number) for path in state_dirs):
            if not directory.exists():
                continue
            store = RocksStore(directory, memory)
            is_of_log = store.offset(LOG_ID + CHANGELOG) == identity
            seen = is_of_log, store.offset(CHANGELOG) or 0
            if seen > newest:
                newest, windows = seen, dict(store.scan())
            store.close()
        kept |= windows
    return kept
