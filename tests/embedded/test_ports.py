"""Ports: free means that a server can take it now."""

import socket

import pytest

from contract.errors import StackError
from nextwatch.embedded.process import ports
from nextwatch.embedded.process.ports import LOOPBACK, broker_port, free_ports, is_listening


def test_ports_are_different_and_can_be_bound():
    """Each of the ports may be taken, all at the same time."""
    ports = free_ports(20)

    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as server:
            server.bind((LOOPBACK, port))


def test_a_listening_port_is_recognised():
    """A port counts as listening only once somebody accepts connections on it."""
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        port = server.getsockname()[1]
        assert not is_listening(port)
        server.listen()
        assert is_listening(port)


def test_the_broker_takes_the_port_that_is_asked_for_or_says_that_it_is_taken():
    told = []
    [free] = free_ports(1)

    assert broker_port(free, tell=told.append) == free
    with socket.socket() as server:
        server.bind((LOOPBACK, free))
        server.listen()
        with pytest.raises(StackError, match=f"port {free} is taken.*--port"):
            broker_port(free, tell=told.append)
    assert told == []


def test_kafkas_own_port_is_taken_when_it_is_free_and_another_one_is_told(monkeypatch):
    """So that an example that names no port finds the stack, and a second stack starts, too."""
    told = []
    [own] = free_ports(1)
    monkeypatch.setattr(ports, "KAFKA_PORT", own)

    assert broker_port(None, tell=told.append) == own
    with socket.socket() as server:
        server.bind((LOOPBACK, own))
        server.listen()
        other = broker_port(None, tell=told.append)

    assert other != own
    assert told == [f"port {own} is taken: clients of this stack use 127.0.0.1:{other}"]
