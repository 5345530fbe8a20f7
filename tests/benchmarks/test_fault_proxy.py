"""The network that can be broken: what passes, what is held back, what is still delivered."""

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from benchmarks.faults.proxy import LOOPBACK, Proxy, ProxyCommand


@asynccontextmanager
async def echo_behind_proxy():
    """A proxy before a server that keeps what it hears and says it back; yields both."""
    heard = bytearray()

    async def echo(reader, writer):
        while data := await reader.read(1024):
            heard.extend(data)
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, LOOPBACK, 0) as server:
        proxy = Proxy(server.sockets[0].getsockname()[1])
        async with await asyncio.start_server(proxy.accept, LOOPBACK, 0) as front:
            proxy.port = front.sockets[0].getsockname()[1]
            yield proxy, heard
            proxy.obey(ProxyCommand("release"))
            proxy.obey(ProxyCommand("cut"))
            await until(lambda: not proxy._links)


async def until(is_so):
    """Wait until *is_so*, for two seconds at most."""
    async with asyncio.timeout(2):
        while not is_so():  # noqa: ASYNC110 - bytes arrive without an event of ours
            await asyncio.sleep(0.001)


async def has_ended(stream):
    """Return whether the other side closes within two seconds, in order or not."""
    try:
        return await asyncio.wait_for(stream[0].read(1), 2) == b""
    except ConnectionError:
        return True


async def say(stream, what):
    reader, writer = stream
    writer.write(what)
    return await asyncio.wait_for(reader.readexactly(len(what)), 2)


def test_bytes_pass_both_ways():
    """Unless it is told otherwise the proxy is not there."""

    async def story():
        async with echo_behind_proxy() as (proxy, _):
            client = await asyncio.open_connection(LOOPBACK, proxy.port)
            assert await say(client, b"hello") == b"hello"
            client[1].close()

    asyncio.run(story())


def test_cut_closes_what_is_open_and_new_connections_pass():
    """A client finds its connection gone, and may come again."""

    async def story():
        async with echo_behind_proxy() as (proxy, _):
            client = await asyncio.open_connection(LOOPBACK, proxy.port)
            await say(client, b"hello")
            hit = proxy.obey(ProxyCommand("cut"))
            assert await has_ended(client)
            again = await asyncio.open_connection(LOOPBACK, proxy.port)
            assert await say(again, b"again") == b"again"
            assert hit.links == 1
            client[1].close()
            again[1].close()

    asyncio.run(story())


def test_what_was_held_is_delivered_on_release_even_if_its_sender_is_gone():
    """Last words of the dead: this is what a zombie writes."""

    async def story():
        async with echo_behind_proxy() as (proxy, heard):
            client = await asyncio.open_connection(LOOPBACK, proxy.port)
            await say(client, b"hello")
            proxy.obey(ProxyCommand("hold", is_uplink_only=True))
            client[1].write(b"late")
            await until(lambda: proxy._held_bytes)
            client[1].close()
            assert heard == b"hello"
            assert proxy.obey(ProxyCommand("release")).held_bytes == len(b"late")
            await until(lambda: heard == b"hellolate")

    asyncio.run(story())


def test_a_hold_meets_new_connections_too():
    """A black hole has no second door."""

    async def story():
        async with echo_behind_proxy() as (proxy, heard):
            proxy.obey(ProxyCommand("hold"))
            client = await asyncio.open_connection(LOOPBACK, proxy.port)
            client[1].write(b"hello")
            await until(lambda: proxy._held_bytes)
            assert not heard
            client[1].close()

    asyncio.run(story())


def test_one_process_can_be_meant():
    """Connections belong to processes; the others pass."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    async def story():
        async with echo_behind_proxy() as (proxy, _):
            client = await asyncio.open_connection(LOOPBACK, proxy.port)
            await say(client, b"hello")
            assert proxy.obey(ProxyCommand("hold", pid=other.pid)).links == 0
            assert await say(client, b"passes") == b"passes"
            assert proxy.obey(ProxyCommand("hold", pid=os.getpid())).links == 1
            client[1].close()

    try:
        asyncio.run(story())
    finally:
        other.communicate(b"\n")


def test_unknown_command_names_the_known_ones():
    """A fault that does nothing must not look like one that was survived."""
    with pytest.raises(ValueError, match="cut, hold, release, delay"):
        Proxy(1).obey(ProxyCommand("unplug"))
