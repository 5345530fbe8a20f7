"""Check the broker, the topics and the disk before a process or a command does its work.

A worker that starts with the wrong partition count would look for users in partitions where
nobody puts them, one without its topics would wait for ever, and one that cannot write its
state would find out in the middle of it. Each ends at once, with one line that says what to do.
"""

import errno
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import IO

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from contract.cluster.cluster import Cluster, FoundGroup
from contract.cluster.needs import Needs, needs_of
from contract.cluster.trouble import Found, Trouble, lacks, troubles
from contract.errors import BrokerUnavailable, ContractError, StorageFull
from contract.kafka.client import client_config
from contract.kafka.client_log import ClientLog
from contract.process import lock
from contract.process.exit_codes import is_storage_full
from contract.process.settings import KafkaSettings

PATIENCE_S = 10.0
"""How long a broker is waited for: one that starts is there within this time."""

_SLICE_S = 1.0
LOCK = ".lock"
_RECONNECT_MS = 500
_PROBE = bytes(4_096)
_SERVERS = "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS"
_SECURITY = (
    "check NEXTWATCH_KAFKA_SASL_MECHANISM, NEXTWATCH_KAFKA_SASL_USERNAME and "
    "NEXTWATCH_KAFKA_SASL_PASSWORD"
)
_WRONG_CREDENTIALS = ("authentication", "unsupported sasl mechanism")
_NO_CLIENT_CERTIFICATE = "alert certificate required"
"""TLS 1.3: librdkafka sends no certificate of an authority that the broker does not trust."""
_WRONG_AUTHORITY = ("certificate verify failed", "certificate could not be verified")


class Preflight:
    """Checks that a cluster has what one process needs, at its start and while it runs."""

    def __init__(self, kafka: KafkaSettings, needs: Needs) -> None:
        self._kafka = kafka
        self._needs = needs
        self._said = ClientLog(is_silent=True)
        self._admin = _admin(kafka, self._said)
        self._cluster = Cluster(self._admin)
        self._broker_settings: dict[str, str] = {}
        self._doubts_group = True

    def check(self, *, patience_s: float | None = None, needs_leaders: bool = True) -> None:
        """Wait until the broker answers, and check that nothing is missing.

        Without *needs_leaders* a partition may lack one: the process does what it can meanwhile.

        Raises:
            BrokerUnavailable: the broker did not answer within *patience_s*, or `PATIENCE_S`; or
                nothing is wrong but what may pass by itself.
            ContractError: the connection settings are refused, or something is missing.
        """
        _connect(self._admin, self._said, self._kafka, patience_s=patience_s)
        if self._needs.is_member:
            self._broker_settings = self._cluster.broker_settings()
        self.doubt_group()
        found = self.look()
        if needs_leaders or not all(trouble.passes for trouble in found):
            self._refuse(found)

    def check_use(self) -> None:
        """Check that this user has the rights that a command needs, and that its topics exist.

        How many partitions they have and how they are set is no matter of a command.

        Raises:
            BrokerUnavailable: the broker did not answer within `PATIENCE_S`.
            ContractError: the connection settings are refused, or something is missing.
        """
        _connect(self._admin, self._said, self._kafka, patience_s=None)
        self._refuse(lacks(self._needs, self._found(), self._kafka))

    def look(self) -> list[Trouble]:
        """Return what is missing now.

        A request that a connection has lost is waited for until librdkafka gives the connection up,
        a minute later, and those after it, too. So the next look has a client of its own.

        The group is asked for at the start, and then only while it is in doubt: librdkafka 2.16
        aborts the process when the connection is lost just as it asks the coordinator (its issue
        4605). With a look every three seconds that was seen under every few restarts of a broker.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        asks_group, self._doubts_group = self._doubts_group, False
        try:
            found = self._found(asks_group=asks_group)
        except BrokerUnavailable:
            self._doubts_group |= asks_group
            self._admin = _admin(self._kafka, self._said)
            self._cluster = Cluster(self._admin)
            raise
        told = troubles(self._needs, found, self._kafka)
        without_group = replace(found, group=FoundGroup())
        if told != troubles(self._needs, without_group, self._kafka):
            self._doubts_group = True
        return told

    def doubt_group(self) -> None:
        """Check the consumer group with every look until nothing is wrong with it."""
        self._doubts_group = True

    def _found(self, *, asks_group: bool = True) -> Found:
        needs, cluster = self._needs, self._cluster
        return Found(
            cluster.topics(needs.topics),
            cluster.group(needs.group) if needs.group and asks_group else FoundGroup(),
            self._broker_settings,
        )

    def _refuse(self, found: Sequence[Trouble]) -> None:
        if found:
            told = "; ".join(trouble.text for trouble in found)
            kind = BrokerUnavailable if all(each.passes for each in found) else ContractError
            raise kind(f"{self._kafka.bootstrap_servers}: {told}")


def check_cluster(
    kafka: KafkaSettings,
    app: str,
    *,
    patience_s: float | None = None,
    needs_leaders: bool = True,
) -> Preflight:
    """Check that the broker has what the process *app* needs; return the preflight for later looks.

    Raises:
        BrokerUnavailable: the broker did not answer within *patience_s*, or a partition has no
            leader, unless *needs_leaders* is false.
        ContractError: the connection settings are refused, or something is missing.
    """
    preflight = Preflight(kafka, needs_of(app, kafka.layout))
    preflight.check(patience_s=patience_s, needs_leaders=needs_leaders)
    return preflight


def partition_counts(
    kafka: KafkaSettings,
    *,
    patience_s: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    """Return the partition count of each topic that this user may describe, by full name.

    Raises:
        BrokerUnavailable: the broker did not answer within *patience_s*, or `PATIENCE_S`.
        ContractError: the connection settings are refused, here or by the broker.
    """
    said = ClientLog(is_silent=True)
    return _connect(_admin(kafka, said), said, kafka, patience_s=patience_s, monotonic=monotonic)


def _connect(
    admin: AdminClient,
    said: ClientLog,
    kafka: KafkaSettings,
    *,
    patience_s: float | None,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    patience_s = PATIENCE_S if patience_s is None else patience_s
    deadline_s = monotonic() + patience_s
    while (left_s := deadline_s - monotonic()) > 0:
        try:
            listed = admin.list_topics(timeout=min(left_s, _SLICE_S)).topics
        except KafkaException:
            admin.poll(0)  # hands over the lines of the log, which have the reason
            if remedy := _remedy_of_refusal(said.last_error, kafka):
                raise ContractError(
                    f"the connection to {kafka.bootstrap_servers} is refused "
                    f"({_short(said.last_error)}): {remedy}"
                ) from None
        else:
            return {name: len(topic.partitions) for name, topic in listed.items()}
    reason = f" ({_short(said.last_error)})" if said.last_error else ""
    raise BrokerUnavailable(
        f"no Kafka broker answered at {kafka.bootstrap_servers} within {patience_s:g} s{reason}",
        remedy=f"start one (`nextwatch stack up` does), or name another by {_SERVERS}",
    )


def _remedy_of_refusal(text: str, kafka: KafkaSettings) -> str:
    """Return what to do about the error *text* of a connection; empty where waiting may help."""
    text = text.lower()
    if any(words in text for words in _WRONG_CREDENTIALS):
        return _SECURITY
    if _NO_CLIENT_CERTIFICATE in text:
        given = kafka.ssl_certificate_location or "none"
        return (
            "NEXTWATCH_KAFKA_SSL_CERTIFICATE_LOCATION: name a certificate of an authority that the "
            f"broker trusts instead of {given}"
        )
    if any(words in text for words in _WRONG_AUTHORITY):
        authority = kafka.ssl_ca_location or "the authorities of this system"
        return f"NEXTWATCH_KAFKA_SSL_CA_LOCATION: name the file of the authority that signed the broker's certificate instead of {authority}"
    return ""


def _short(text: str) -> str:
    """Return a line of librdkafka's without the address and the state before and after it."""
    return (text.partition("/bootstrap: ")[2] or text).partition(" (after ")[0]


def check_directory(directory: Path, variable: str) -> None:
    """Create *directory* and check that it can be written; errors name its setting, *variable*.

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
    """Lock *directory* for this process until it ends or closes the returned file.

    Raises:
        ContractError: another process has it.
    """
    held = lock.hold(directory / LOCK)
    if held is None:
        raise ContractError(
            f"{variable}: another process uses {directory}: give each process a directory of its own"
        )
    return held


def hold_own_directory(shared: Path) -> tuple[Path, IO[bytes]]:
    """Return the first unlocked subdirectory of *shared*, and the file that locks it."""
    for number in count(1):
        directory = shared / f"worker-{number}"
        directory.mkdir(exist_ok=True)
        if held := lock.hold(directory / LOCK):
            return directory, held
    raise AssertionError("counting does not end")


def check_ready_file(ready_file: Path | None) -> None:
    """Check that *ready_file*, if there is one, can be written, as `check_directory` does."""
    if ready_file is not None:
        check_directory(ready_file.parent, "NEXTWATCH_PROCESS_READY_FILE")


def port_error(error: OSError, host: str, port: int, variable: str) -> ContractError:
    """Return the error for a *port* that cannot be listened on, with its setting, *variable*."""
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
        text = error.args[0].str()
        raise ContractError(
            f"the settings of Kafka are refused: {text}: {_blamed(text, kafka)}"
        ) from error


def _blamed(text: str, kafka: KafkaSettings) -> str:
    """Return the variables that the error *text* of librdkafka is about, with their values."""
    names = ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location", "sasl_mechanism")
    told = [
        f"NEXTWATCH_KAFKA_{name.upper()}={getattr(kafka, name)}"
        for name in names
        if name.replace("_", ".") in text and getattr(kafka, name)
    ]
    return f"mend {' or '.join(told)}" if told else "see NEXTWATCH_KAFKA_*"
