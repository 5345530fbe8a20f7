"""Ports: free means that a server can take it now."""

import socket

from nextwatch.embedded.ports import LOOPBACK, free_ports, is_listening


def test_ports_are_different_and_can_be_bound():
    """Each of the ports may be taken, all at the same time."""
    ports = free_ports(20)

    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as server:
            server.bind((LOOPBACK, port))


def test_listening_is_told_from_silence():
    """A port counts as listening only once somebody accepts connections on it."""
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        port = server.getsockname()[1]
        assert not is_listening(port)
        server.listen()
        assert is_listening(port)
