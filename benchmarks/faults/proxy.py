"""A TCP proxy before the broker that can hold, delay and cut connections.

``python -m benchmarks.faults.proxy LISTEN TARGET CONTROL``, three ports of the loopback interface.
On CONTROL it takes one JSON command a line and answers each with what it hit: ``cut`` closes
connections, ``hold`` keeps what is sent until ``release``, as a network does that drops packets
for a while and whose senders repeat them, and ``delay`` makes each chunk late. A command is for
all connections, or for those of one process; a hold is for new connections, too. What a process
had sent before it died is still delivered: its last words are what a zombie writes.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import psutil

LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 1 << 16
_CONTROL_TIMEOUT_S = 10.0


class ProxyCommand(msgspec.Struct, frozen=True):
    """A command to the proxy; *pid* 0 means all clients."""

    do: str
    pid: int = 0
    is_uplink_only: bool = False
    delay_ms: int = 0


class Hit(msgspec.Struct, frozen=True):
    """The effect of a command: open connections, and bytes that were held until now."""

    links: int = 0
    held_bytes: int = 0


@dataclass(eq=False, slots=True)
class Link:
    """A client's connection, and the proxy's connection to the broker for it."""

    port: int
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    up: asyncio.Event = field(default_factory=asyncio.Event)
    down: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        """Close both ends without a word."""
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards bytes between clients and one target, unless it is told to hold or delay them."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._links: set[Link] = set()
        self._hold: ProxyCommand | None = None
        self._delay_s = 0.0
        self._held_bytes = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        try:
            away, to_broker = await asyncio.open_connection(LOOPBACK, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer.get_extra_info("peername")[1], (writer, to_broker))
        self._links.add(link)
        self._set_gates(link)
        try:
            await asyncio.gather(
                self._pass_on(reader, to_broker, link.up), self._pass_on(away, writer, link.down)
            )
        finally:
            self._links.discard(link)
            for end in link.writers:
                end.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if not gate.is_set():
                    self._held_bytes += len(data)
                    await gate.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                with suppress(OSError):  # the other side is gone: hear this one out all the same
                    writer.write(data)
                    await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()

    def obey(self, command: ProxyCommand) -> Hit:
        """Carry out *command* and return its effect.

        Raises:
            ValueError: there is no such command.
        """
        links = [link for link in self._links if _is_meant(command.pid)(link.port)]
        if command.do == "cut":
            for link in links:
                link.cut()
        elif command.do == "hold":
            self._hold, self._held_bytes = command, 0
        elif command.do == "release":
            self._hold = None
        elif command.do == "delay":
            self._delay_s = command.delay_ms / 1_000
        else:
            raise ValueError(f"unknown command {command.do!r}; known: cut, hold, release, delay")
        for link in self._links:
            self._set_gates(link)
        return Hit(len(links), self._held_bytes)

    def _set_gates(self, link: Link) -> None:
        hold = self._hold
        is_held = hold is not None and _is_meant(hold.pid)(link.port)
        _set(link.up, is_open=not is_held)
        _set(link.down, is_open=not is_held or (hold is not None and hold.is_uplink_only))

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take commands from one connection, one JSON object a line."""
        while line := await reader.readline():
            hit = self.obey(msgspec.json.decode(line, type=ProxyCommand))
            writer.write(msgspec.json.encode(hit) + b"\n")
            await writer.drain()
        writer.close()


def _set(gate: asyncio.Event, *, is_open: bool) -> None:
    if is_open:
        gate.set()
    else:
        gate.clear()


def _is_meant(pid: int) -> Callable[[int], bool]:
    """Return whether a client's port belongs to the process *pid*; 0 means every process."""
    if pid == 0:
        return lambda _port: True
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return lambda _port: False
    return {link.laddr.port for link in found}.__contains__


class Network:
    """The client of the control port: breaks and repairs the network; its calls block."""

    def __init__(self, control_port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, control_port), _CONTROL_TIMEOUT_S)
        self._answers = self._socket.makefile("rb")

    def cut(self, pid: int = 0) -> Hit:
        """Close all connections, or those of *pid*."""
        return self._say(ProxyCommand("cut", pid))

    def hold(self, pid: int = 0, *, is_uplink_only: bool = False) -> Hit:
        """Deliver nothing (or nothing to the broker) until `release`."""
        return self._say(ProxyCommand("hold", pid, is_uplink_only))

    def release(self) -> Hit:
        """Deliver what was held, and go on."""
        return self._say(ProxyCommand("release"))

    def delay(self, delay_ms: int) -> Hit:
        """Make each chunk *delay_ms* late, both ways; 0 ends it."""
        return self._say(ProxyCommand("delay", delay_ms=delay_ms))

    def close(self) -> None:
        """Close the control connection; the network stays as it is."""
        self._answers.close()
        self._socket.close()

    def _say(self, command: ProxyCommand) -> Hit:
        self._socket.sendall(msgspec.json.encode(command) + b"\n")
        return msgspec.json.decode(self._answers.readline(), type=Hit)


async def serve(listen_port: int, target_port: int, control_port: int) -> None:
    """Serve both ports for ever."""
    proxy = Proxy(target_port)
    passing = await asyncio.start_server(proxy.accept, LOOPBACK, listen_port)
    commands = await asyncio.start_server(proxy.control, LOOPBACK, control_port)
    async with passing, commands:
        await asyncio.gather(passing.serve_forever(), commands.serve_forever())


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
