"""Listen for the console on loopback; light enough to be imported before a stack starts."""

import errno
import socket

from contract.cluster.preflight import port_error
from contract.errors import ContractError
from contract.process.settings import PREFIX
from nextwatch.embedded.process.ports import LOOPBACK

_BACKLOG = 64


def listen(port: int) -> socket.socket:
    """Return a socket that listens on *port* of the loopback interface; 0 is any free one.

    Raises:
        ContractError: the port is taken, or may not be used.
    """
    try:
        return socket.create_server((LOOPBACK, port), backlog=_BACKLOG)
    except OSError as error:
        raise port_error(error, LOOPBACK, port, f"{PREFIX}CONSOLE_PORT") from error


def listen_near(port: int, *, is_fixed: bool) -> socket.socket:
    """Listen on *port*; unless it *is_fixed*, on any free one where that is taken.

    Raises:
        ContractError: the port is taken, or may not be used.
    """
    try:
        return listen(port)
    except ContractError as error:
        cause = error.__cause__
        is_taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        if is_fixed or not is_taken:
            raise
        return listen(0)


def url_of(listening: socket.socket) -> str:
    """Return the address for a browser."""
    return f"http://{LOOPBACK}:{listening.getsockname()[1]}/"
