"""Count what streams and trainer have not read before the partition count changes."""

from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, TopicPartition

from contract.cluster.needs import group_of
from contract.kafka.client import check_partitions, consumer_config, retried
from contract.process.settings import KafkaSettings
from contract.wire.topics import TOPICS, WINDOWS

_TIMEOUT_S = 30.0


def unread(kafka: KafkaSettings, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a warning about events that were not read yet, for streams and for the trainer."""
    if num_unread := num_unread_by(kafka, "streams", counts):
        yield (
            f"streams has not read the last {num_unread} events: those whose users move become dead "
            "letters (misplaced), and `nextwatch dlq replay --reason misplaced` puts them where they belong"
        )
    if num_unread := num_unread_by(kafka, "trainer", counts):
        yield (
            f"the trainer has not read the last {num_unread} events: it learns nothing from those whose "
            "users move. To have them learned, let it read them first with the old count: `--check` "
            "tells when it has"
        )


def num_unread_by(kafka: KafkaSettings, app: str, counts: Mapping[str, int]) -> int:
    """Return how many records *app* has not read yet; transaction markers count as records.

    A trainer that has committed nothing is none, or as old as 0.2.0: of that nothing is known.
    """
    layout = kafka.layout
    names = [
        layout.name(topic)
        for topic in TOPICS
        if topic.key_field == "user_id" and app in topic.consumers and topic is not WINDOWS
    ]
    group = group_of(app, layout)
    consumer = Consumer(consumer_config(kafka, group_id=group) | {"log_level": 0})
    asked = [TopicPartition(name, number) for name in names for number in range(counts[name])]
    try:
        committed = committed_by(consumer, asked)
        if app == "trainer" and all(at.offset < 0 for at in committed):
            return 0
        return sum(unread_of(consumer, at) for at in committed)
    finally:
        consumer.close()


def committed_by(
    consumer: Consumer, asked: list[TopicPartition], *, within_s: float = _TIMEOUT_S
) -> list[TopicPartition]:
    """Return *asked* with the offsets that the group of *consumer* has committed, < 0 for none.

    Raises:
        BrokerUnavailable: nobody answers.
    """
    return retried(
        lambda left_s: check_partitions(consumer.committed(asked, timeout=left_s)),
        within_s=within_s,
    )


def unread_of(
    consumer: Consumer, committed: TopicPartition, *, within_s: float = _TIMEOUT_S
) -> int:
    """Return how many records of a partition come after the offset that is *committed*.

    Raises:
        BrokerUnavailable: nobody answers.
    """
    first, end = retried(
        lambda left_s: consumer.get_watermark_offsets(committed, timeout=left_s), within_s=within_s
    )
    return max(0, int(end) - max(int(first), committed.offset))
