"""Build librdkafka configurations that agree with Faust and with each other.

librdkafka's default partitioner is CRC32, everyone else's is murmur2: with the default, one
user's events would land on two partitions depending on the client. Every producer of this
project, and of its users, sets ``partitioner=murmur2_random``.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contract.errors import BrokerUnavailable, ContractError, NextwatchError
from contract.kafka.client_log import CLIENT_LOG
from contract.process.settings import KafkaSettings

UNHURRIED_FETCH_BYTES = 65_536
QUEUED_KB = 16_384
"""Of records that a consumer has fetched and nobody has taken. librdkafka would keep 64 MB: in a
backlog that is most of what a process holds, and malloc does not give all of it back."""
QUEUE_BACKOFF_MS = 50
"""How long a partition is not fetched from once so much waits; librdkafka's second would show."""
END_WITHIN_MS = 20
RETRY_WAIT_S = 0.05
LONGEST_RETRY_WAIT_S = 1.0

RETRIABLE = frozenset(
    {
        "BROKER_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "COORDINATOR_NOT_AVAILABLE",
        "ELIGIBLE_LEADERS_NOT_AVAILABLE",
        "FENCED_LEADER_EPOCH",
        "KAFKA_STORAGE_ERROR",
        "LEADER_NOT_AVAILABLE",
        "LISTENER_NOT_FOUND",
        "NETWORK_EXCEPTION",
        "NOT_COORDINATOR",
        "NOT_ENOUGH_REPLICAS",
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "NOT_LEADER_FOR_PARTITION",
        "OFFSET_NOT_AVAILABLE",
        "PREFERRED_LEADER_NOT_AVAILABLE",
        "REPLICA_NOT_AVAILABLE",
        "REQUEST_TIMED_OUT",
        "THROTTLING_QUOTA_EXCEEDED",
        "UNKNOWN_LEADER_EPOCH",
        "UNSTABLE_OFFSET_COMMIT",
        "_ALL_BROKERS_DOWN",
        "_RESOLVE",
        "_RETRY",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "_TRANSPORT",
        "_WAIT_CACHE",
        "_WAIT_COORD",
    }
)
"""Kafka's retriable errors, and librdkafka's own. Its `KafkaError.retriable` is set for
transactions alone."""

_CLOCK = (
    "set the clocks of this machine and of the broker right, or raise the topic's "
    "message.timestamp.after.max.ms: it bounds how far ahead of the broker's clock a record may be"
)

LASTING = {
    "CLUSTER_AUTHORIZATION_FAILED": "`nextwatch acls` prints the rights of each process",
    "GROUP_AUTHORIZATION_FAILED": "`nextwatch acls` prints the rights of each process",
    "TOPIC_AUTHORIZATION_FAILED": "`nextwatch acls` prints the rights of each process",
    "MSG_SIZE_TOO_LARGE": "`nextwatch topics` raises its max.message.bytes",
    "RECORD_LIST_TOO_LARGE": "raise its segment.bytes",
    "POLICY_VIOLATION": "the cluster's policy refuses it",
    "INVALID_TIMESTAMP": _CLOCK,
    "INVALID_RECORD": f"{_CLOCK}. The broker also rejects a record without a key on a compacted topic",
}
"""Errors that stay until a person mends something, each with the remedy."""

ClientConfig = dict[str, str | int | float | bool]
T = TypeVar("T")


def client_config(settings: KafkaSettings) -> ClientConfig:
    """Return what every confluent-kafka client needs to reach the broker.

    Raises:
        ContractError: a file of keys or certificates cannot be read.
    """
    _check_files(settings)
    config: ClientConfig = {
        "bootstrap.servers": settings.bootstrap_servers,
        "allow.auto.create.topics": False,
        "logger": CLIENT_LOG,  # type: ignore[dict-item]  # confluent-kafka types no logger
    }
    return config | security_config(settings)


def security_config(settings: KafkaSettings) -> ClientConfig:
    """Return the settings of authentication and TLS of a confluent-kafka client."""
    config: ClientConfig = {"security.protocol": settings.security_protocol}
    password = settings.sasl_password
    optional = {
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": password.get_secret_value() if password else None,
        "ssl.ca.location": settings.ssl_ca_location,
        "ssl.certificate.location": settings.ssl_certificate_location,
        "ssl.key.location": settings.ssl_key_location,
    }
    return config | {name: value for name, value in optional.items() if value is not None}


def _check_files(settings: KafkaSettings) -> None:
    for name in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location"):
        place = getattr(settings, name)
        if place is None or place == "probe" or Path(place).is_dir():
            continue
        try:
            Path(place).open("rb").close()
        except OSError as error:
            raise ContractError(
                f"NEXTWATCH_KAFKA_{name.upper()}: {place}: {error.strerror}: name a file that "
                "this user may read"
            ) from error


def producer_config(settings: KafkaSettings, *, linger_ms: float = 0) -> ClientConfig:
    """Return the configuration of a producer: acknowledged by all, in order, once; murmur2.

    Without idempotence a request that is repeated may overtake or double the one after it.
    """
    return client_config(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "linger.ms": linger_ms,
        "compression.type": settings.compression_type,
        "delivery.timeout.ms": 30_000,
        "socket.nagle.disable": True,
    }


def consumer_config(settings: KafkaSettings, *, group_id: str) -> ClientConfig:
    """Return the configuration of a consumer without automatic commits."""
    return client_config(settings) | {
        "group.id": group_id,
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": settings.fetch_max_wait_ms,
        "queued.max.messages.kbytes": QUEUED_KB,
        "fetch.queue.backoff.ms": QUEUE_BACKOFF_MS,
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": settings.session_timeout_ms // 3,
        "enable.partition.eof": False,
        "socket.nagle.disable": True,
    }


def unhurried(config: ClientConfig, *, within_ms: int) -> ClientConfig:
    """Return *config* for a consumer that may wait *within_ms* for a larger batch of records.

    A broker answers a fetch as soon as there is one record. At 50 events/s a consumer that need
    not know at once would cost it 50 fetches a second instead of a few.
    """
    return config | {"fetch.min.bytes": UNHURRIED_FETCH_BYTES, "fetch.wait.max.ms": within_ms}


def read_to_end(config: ClientConfig, *, within_ms: int = END_WITHIN_MS) -> ClientConfig:
    """Return *config* for a consumer that is notified of the end of each partition.

    librdkafka tells it with the first empty answer, which a broker gives when the wait is over.
    """
    return config | {"enable.partition.eof": True, "fetch.wait.max.ms": within_ms}


def is_retriable(error: KafkaError) -> bool:
    """Return whether the same request may succeed later."""
    return not error.fatal() and (error.retriable() or error.name() in RETRIABLE)


def failure(error: KafkaError, what: str) -> NextwatchError:
    """Return the error of ours for *error*, which happened to *what*, such as a topic."""
    text = f"{what}: {error.name()}: {error.str()}" if what else f"{error.name()}: {error.str()}"
    if remedy := LASTING.get(error.name()):
        return ContractError(f"{text}: {remedy}")
    return BrokerUnavailable(text)


def retried(
    request: Callable[[float], T],
    *,
    within_s: float,
    what: str = "",
    monotonic: Callable[[], float] = monotonic,
    sleep: Callable[[float], object] = sleep,
) -> T:
    """Return the result of *request*, repeated with backoff after retriable errors.

    A fresh cluster answers the first requests of a group with NOT_COORDINATOR. *request* is
    called with the seconds that are left of *within_s*; the error names *what* it is about.

    Raises:
        BrokerUnavailable: an error that is not retriable, or one that stayed for *within_s*.
        ContractError: an error that stays until a person mends something.
    """
    deadline_s = monotonic() + within_s
    wait_s = RETRY_WAIT_S
    while True:
        try:
            return request(max(0.0, deadline_s - monotonic()))
        except KafkaException as raised:
            error = raised.args[0]
            if not is_retriable(error) or monotonic() + wait_s > deadline_s:
                raise failure(error, what) from raised
        sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_RETRY_WAIT_S)


def error_of(future: "Future[Any]", *, within_s: float) -> KafkaError | None:
    """Return the error of a request, None if it succeeded.

    One that is not answered *within_s* has timed out, as librdkafka says it of most requests.
    """
    try:
        error = future.exception(timeout=within_s)
    except TimeoutError:
        return KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001 - librdkafka's name
    if error is None or isinstance(error, KafkaException):
        return error.args[0] if error else None
    raise error


def check_partitions(answered: Iterable[TopicPartition]) -> list[TopicPartition]:
    """Return *answered* as a list.

    Raises:
        KafkaException: the request failed for a partition.
    """
    partitions = list(answered)
    for partition in partitions:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return partitions


def partitions_of(consumer: Consumer, full_name: str, *, within_s: float) -> list[int]:
    """Return the partitions of the topic called *full_name* on this cluster.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ContractError: there is no such topic.
    """

    def described(left_s: float) -> Any:
        listed = consumer.list_topics(full_name, timeout=left_s).topics.get(full_name)
        if listed is not None and listed.error is not None and is_retriable(listed.error):
            raise KafkaException(listed.error)
        return listed

    listed = retried(described, within_s=within_s)
    if listed is None or listed.error is not None or not listed.partitions:
        raise ContractError(f"there is no topic {full_name}: `nextwatch topics` creates it")
    return sorted(listed.partitions)


def take(consumer: Consumer, most: int, *, within_s: float) -> list[Message]:
    """Return up to *most* messages as soon as there is one, none after *within_s* seconds.

    `Consumer.consume` alone waits the whole time for the last of *most*. What librdkafka says of
    the group is left out: its partitions are assigned, and for those it needs no group.
    """
    first = consumer.poll(within_s)
    if first is None:
        return []
    rest = consumer.consume(most - 1, timeout=0) if most > 1 else []
    return [message for message in (first, *rest) if not _is_of_group(message)]


def _is_of_group(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
