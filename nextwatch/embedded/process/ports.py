"""Find free TCP ports on the loopback interface, and the processes that listen on one."""

import socket
from collections.abc import Callable
from contextlib import ExitStack

from contract.errors import StackError

LOOPBACK = "127.0.0.1"
KAFKA_PORT = 9092
"""Where a Kafka client looks when nobody tells it."""


def free_ports(count: int) -> list[int]:
    """Return *count* different ports that are free now.

    Another process may take one before it is used: who starts a server on it must expect that
    and try again with another.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind((LOOPBACK, 0))
        return [opened.getsockname()[1] for opened in sockets]


def is_listening(port: int) -> bool:
    """Return whether a process accepts connections on *port*."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def ports_of(pid: int) -> set[int]:
    """Return the ports on which the process *pid* itself accepts connections."""
    import psutil  # noqa: PLC0415 - of the extra "embedded"; not all that looks for a port needs it

    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # it ends right now
        return set()
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def is_free(port: int) -> bool:
    """Return whether a server may listen on *port*; one that has just closed does not hold it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def broker_port(wanted: int | None, *, tell: Callable[[str], None]) -> int:
    """Return the port for the broker: *wanted*, or Kafka's own, or another free one.

    *tell* is given the line that says why it is not Kafka's own. Another process may still take
    the port before the broker does (`nextwatch.embedded.stack`).

    Raises:
        StackError: *wanted* is taken.
    """
    if wanted is not None:
        if not is_free(wanted):
            raise StackError(f"port {wanted} is taken: name another by --port, or leave it out")
        return wanted
    if is_free(KAFKA_PORT):
        return KAFKA_PORT
    [port] = free_ports(1)
    tell(f"port {KAFKA_PORT} is taken: clients of this stack use {LOOPBACK}:{port}")
    return port
