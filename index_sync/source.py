"""One topic, all of its partitions, read without a consumer group's membership.

There is one `index_sync` by design: a single writer per collection is what makes the order of
its writes the order of the topic. So partitions are assigned, not subscribed to, which saves
the seconds that joining a group takes; the group id only names where offsets are committed.
"""

from collections.abc import Mapping
from functools import partial
from time import monotonic

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    Message,
    TopicPartition,
)

from contract.errors import BrokerUnavailable
from contract.kafka import (
    check_partitions,
    consumer_config,
    failure,
    is_retriable,
    partitions_of,
    read_to_end,
    retried,
    take,
)
from contract.needs import group_of
from contract.records import Received, received
from contract.settings import KafkaSettings
from contract.topics import Topic

END_WITHIN_MS = 100
ANSWER_S = 30.0
"""How long the broker may take to answer at the start, or to take a commit."""


class Source:
    """A consumer of one topic. `open` it before anything else."""

    def __init__(self, settings: KafkaSettings, topic: Topic) -> None:
        config = consumer_config(settings, group_id=group_of("index_sync", settings.layout))
        config = read_to_end(config, within_ms=END_WITHIN_MS) | {
            "max.poll.interval.ms": 86_400_000,  # it may wait for the index for long
        }
        self._consumer = Consumer(config)
        self._layout = settings.layout
        self._name = settings.layout.name(topic)
        self._partitions: list[int] = []
        self._ended: set[int] = set()
        self.committed: dict[int, int] = {}

    def open(self, *, from_beginning: bool) -> None:
        """Start reading, at the beginning or at the committed offsets.

        Raises:
            ContractError: there is no such topic.
            BrokerUnavailable: the broker did not answer within `ANSWER_S`.
        """
        self._partitions = partitions_of(self._consumer, self._name, within_s=ANSWER_S)
        asked = [TopicPartition(self._name, number) for number in self._partitions]
        answered = retried(
            lambda left_s: check_partitions(self._consumer.committed(asked, timeout=left_s)),
            within_s=ANSWER_S,
        )
        self.committed = {at.partition: at.offset for at in answered if at.offset >= 0}
        self._consumer.assign(
            [
                TopicPartition(
                    self._name,
                    number,
                    OFFSET_BEGINNING
                    if from_beginning
                    else self.committed.get(number, OFFSET_BEGINNING),
                )
                for number in self._partitions
            ]
        )

    def cluster_id(self) -> str:
        """Return what the cluster calls itself.

        Raises:
            BrokerUnavailable: the broker did not answer within `ANSWER_S`.
        """
        asked = partial(self._consumer.list_topics, self._name)
        listed = retried(lambda left_s: asked(timeout=left_s), within_s=ANSWER_S)
        return str(listed.cluster_id or "")

    def read_to_end(self) -> list[Received]:
        """Return everything from where it was opened up to the present end of the topic.

        The end is the one that fetch answers tell, since a broker's ListOffsets may be behind.

        Raises:
            BrokerUnavailable: the end was not reached within `ANSWER_S` of silence.
        """
        records: list[Received] = []
        heard_s = monotonic()
        while len(self._ended) < len(self._partitions):
            found = self.take(1_000, wait_s=0.1)
            records += found
            if found:
                heard_s = monotonic()
            elif monotonic() - heard_s > ANSWER_S:
                raise BrokerUnavailable(f"{self._name} was not readable to its end")
        return records

    def take(self, count: int, *, wait_s: float = 0.0) -> list[Received]:
        """Return up to *count* records; wait only for the first one.

        Raises:
            BrokerUnavailable: the client gave up on the broker.
            ContractError: a right is missing.
        """
        messages = take(self._consumer, count, within_s=wait_s)
        return [received(m, self._layout) for m in messages if self._is_record(m)]

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Commit *next_offsets*, by partition, and wait for the broker's word.

        Raises:
            BrokerUnavailable: the broker did not take them within `ANSWER_S`.
        """
        if not next_offsets:
            return
        offsets = [TopicPartition(self._name, at, offset) for at, offset in next_offsets.items()]

        def commit(_left_s: float) -> None:
            check_partitions(self._consumer.commit(offsets=offsets, asynchronous=False) or ())

        retried(commit, within_s=ANSWER_S, what=self._name)
        self.committed |= next_offsets

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.name() == "_PARTITION_EOF":
            partition = message.partition()
            assert partition is not None
            self._ended.add(partition)
        elif error.fatal() or (error.code() > 0 and not is_retriable(error)):
            raise failure(error, message.topic() or self._name)
        return False
