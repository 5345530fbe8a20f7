"""librdkafka configurations that agree with Faust and with each other.

librdkafka's default partitioner is CRC32, everyone else's is murmur2: with the default, one
user's events would land on two partitions depending on the client. Every producer of this
project, and of its users, sets ``partitioner=murmur2_random``.
"""

from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Message

from contract.client_log import CLIENT_LOG
from contract.errors import BrokerUnavailable, ContractError
from contract.settings import KafkaSettings

UNHURRIED_FETCH_BYTES = 65_536
END_WITHIN_MS = 20

ClientConfig = dict[str, str | int | float | bool]


def client_config(settings: KafkaSettings) -> ClientConfig:
    """Return what every confluent-kafka client needs to reach the broker.

    Raises:
        ContractError: a file of keys or certificates cannot be read.
    """
    _check_files(settings)
    config: ClientConfig = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
        "allow.auto.create.topics": False,
        "logger": CLIENT_LOG,  # type: ignore[dict-item]  # confluent-kafka types no logger
    }
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
    """Return the configuration of a producer: acknowledged by all, murmur2, bounded waiting."""
    config = client_config(settings)
    del config["allow.auto.create.topics"]
    return config | {
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": linger_ms,
        "compression.type": settings.compression_type,
        "delivery.timeout.ms": 30_000,
        "socket.nagle.disable": True,
    }


def consumer_config(settings: KafkaSettings, *, group_id: str) -> ClientConfig:
    """Return the configuration of a consumer that commits only when told to."""
    return client_config(settings) | {
        "group.id": group_id,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": settings.fetch_max_wait_ms,
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": settings.session_timeout_ms // 3,
        "enable.partition.eof": False,
        "socket.nagle.disable": True,
    }


def unhurried(config: ClientConfig, *, within_ms: int) -> ClientConfig:
    """Return *config* for a consumer that may get its records *within_ms*, all at once.

    A broker answers a fetch as soon as there is one record. At 50 events/s a consumer that need
    not know at once would cost it 50 fetches a second instead of a few.
    """
    return config | {"fetch.min.bytes": UNHURRIED_FETCH_BYTES, "fetch.wait.max.ms": within_ms}


def read_to_end(config: ClientConfig, *, within_ms: int = END_WITHIN_MS) -> ClientConfig:
    """Return *config* for a consumer that waits to be told the end of a partition.

    librdkafka tells it with the first empty answer, which a broker gives when the wait is over.
    """
    return config | {"enable.partition.eof": True, "fetch.wait.max.ms": within_ms}


def partitions_of(consumer: Consumer, full_name: str, *, within_s: float) -> list[int]:
    """Return the partitions of the topic called *full_name* on this cluster.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ContractError: there is no such topic.
    """
    try:
        listed = consumer.list_topics(full_name, timeout=within_s).topics.get(full_name)
    except KafkaException as error:
        raise BrokerUnavailable(str(error)) from error
    if listed is None or listed.error is not None or not listed.partitions:
        raise ContractError(f"there is no topic {full_name}: `nextwatch topics` creates it")
    return sorted(listed.partitions)


def take(consumer: Consumer, most: int, *, within_s: float) -> list[Message]:
    """Return up to *most* messages as soon as there is one, none after *within_s* seconds.

    `Consumer.consume` alone waits the whole time for the last of *most*.
    """
    first = consumer.poll(within_s)
    if first is None:
        return []
    return [first, *consumer.consume(most - 1, timeout=0)] if most > 1 else [first]
