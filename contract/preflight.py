"""What must be true before a process or a command does its work.

A worker that starts with the wrong partition count would look for users in partitions where
nobody puts them, one without its topics would wait for ever, and one that cannot write its
state would find out in the middle of it. Each ends at once, with one line that says what to do.
"""

import errno
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from contract import lock
from contract.client_log import ClientLog
from contract.errors import BrokerUnavailable, ContractError, StorageFull
from contract.kafka import client_config
from contract.process import is_storage_full
from contract.settings import KafkaSettings
from contract.topics import TOPICS, Layout

PATIENCE_S = 10.0
"""How long a broker is waited for: one that starts is there within this time."""

_SLICE_S = 1.0
_RECONNECT_MS = 500
_PROBE = bytes(4_096)
_SERVERS = "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS"
_SECURITY = (
    "check NEXTWATCH_KAFKA_SASL_MECHANISM, NEXTWATCH_KAFKA_SASL_USERNAME and "
    "NEXTWATCH_KAFKA_SASL_PASSWORD"
)
_REMEDY = "`nextwatch topics` creates them"
_REMEDY_FOR_PARTITIONS = (
    "set NEXTWATCH_KAFKA_USER_PARTITIONS and NEXTWATCH_KAFKA_VIDEO_PARTITIONS to what the "
    "cluster has"
)
_REJECTED = "authentication"


def check_cluster(kafka: KafkaSettings, app: str, *, patience_s: float | None = None) -> None:
    """Return when the broker has every topic of *app*, with the partitions of the settings.

    Raises:
        BrokerUnavailable: the broker did not answer within *patience_s*.
        ContractError: the connection settings are refused, or topics are missing or have other
            partition counts.
    """
    found = partition_counts(kafka, patience_s=patience_s)
    if differences := layout_differences(kafka.layout, found, app):
        raise ContractError(f"{kafka.bootstrap_servers}: {'; '.join(differences)}")


def partition_counts(
    kafka: KafkaSettings,
    *,
    patience_s: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    """Return the partition count of each topic of the cluster, by full name.

    Raises:
        BrokerUnavailable: the broker did not answer within *patience_s*, or `PATIENCE_S`.
        ContractError: the connection settings are refused, here or by the broker.
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    said = ClientLog(is_silent=True)
    admin = _admin(kafka, said)
    deadline_s = monotonic() + patience_s
    while (left_s := deadline_s - monotonic()) > 0:
        try:
            listed = admin.list_topics(timeout=min(left_s, _SLICE_S)).topics
        except KafkaException:
            admin.poll(0)  # hands over the lines of the log, which have the reason
            if _REJECTED in said.last_error.lower():
                raise ContractError(
                    f"the broker at {kafka.bootstrap_servers} rejects the credentials "
                    f"({_short(said.last_error)}): {_SECURITY}"
                ) from None
        else:
            return {name: len(topic.partitions) for name, topic in listed.items()}
    reason = f" ({_short(said.last_error)})" if said.last_error else ""
    raise BrokerUnavailable(
        f"no Kafka broker answered at {kafka.bootstrap_servers} within {patience_s:g} s{reason}: "
        f"start one (`nextwatch stack up` does), or name another by {_SERVERS}"
    )


def _short(text: str) -> str:
    """Return a line of librdkafka's without the address and the state before and after it."""
    return (text.partition("/bootstrap: ")[2] or text).partition(" (after ")[0]


def layout_differences(layout: Layout, found: Mapping[str, int], app: str) -> list[str]:
    """Return what is wrong for *app* with *found*, the partition counts by topic, in sentences."""
    wanted = wanted_partitions(layout, app)
    missing = sorted(wanted.keys() - found.keys())
    missing_words = f"missing topics: {', '.join(missing)} ({_REMEDY})"
    others = [
        f"{name} has {found[name]}, not {num_wanted}"
        for name, num_wanted in sorted(wanted.items())
        if found.get(name, num_wanted) != num_wanted
    ]
    others_words = f"partitions: {', '.join(others)} ({_REMEDY_FOR_PARTITIONS})"
    return [missing_words] * bool(missing) + [others_words] * bool(others)


def wanted_partitions(layout: Layout, app: str) -> dict[str, int]:
    """Return the partition count of each topic that *app* reads or writes, by full name."""
    wanted = {}
    for topic in TOPICS:
        if app in (*topic.producers, *topic.consumers):
            wanted[layout.name(topic)] = layout.num_partitions(topic)
        if topic.dead_lettered_by == app:
            wanted[layout.dlq_name(topic)] = layout.num_partitions(topic)
    return wanted


def check_directory(directory: Path, variable: str) -> None:
    """Make *directory* exist, and see that it can be written; *variable* names it for a person.

    Raises:
        StorageFull: there is no room.
        ContractError: it cannot be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(_PROBE)
            probe.flush()
    except OSError as error:
        where = f"{variable}: {directory}: {error.strerror}"
        if is_storage_full(error):
            raise StorageFull(f"{where}: make room there, or name another directory") from error
        raise ContractError(f"{where}: name a directory that this user may write") from error


def hold_directory(directory: Path, variable: str) -> IO[bytes]:
    """Make *directory* this process's own until it ends, or closes what is returned.

    Raises:
        ContractError: another process has it.
    """
    held = lock.hold(directory / ".lock")
    if held is None:
        raise ContractError(
            f"{variable}: another process uses {directory}: give each process a directory of its own"
        )
    return held


def check_ready_file(ready_file: Path | None) -> None:
    """See that *ready_file*, if there is one, can be written, as `check_directory` does."""
    if ready_file is not None:
        check_directory(ready_file.parent, "NEXTWATCH_PROCESS_READY_FILE")


def check_port(host: str, port: int, variable: str) -> None:
    """See that *port* of *host* can be listened on; *variable* names it for a person.

    Raises:
        ContractError: it is taken, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise port_error(error, host, port, variable) from error


def port_error(error: OSError, host: str, port: int, variable: str) -> ContractError:
    """Return what a person is told when *port* cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return ContractError(f"{variable}: port {port} of {host} is taken: name another port")
    reason = error.strerror or str(error)
    return ContractError(f"{variable}: {host}:{port}: {reason}: name another host or port")


def _admin(kafka: KafkaSettings, said: ClientLog) -> AdminClient:
    config = client_config(kafka)
    config |= {
        "logger": said,  # type: ignore[dict-item]  # confluent-kafka types no logger
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": _RECONNECT_MS,
    }
    try:
        return AdminClient(config)
    except KafkaException as error:
        raise ContractError(
            f"the settings of Kafka are refused: {error.args[0].str()}: see NEXTWATCH_KAFKA_*"
        ) from error
