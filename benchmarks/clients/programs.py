"""Clients that run as child processes: kcat, and kafkajs behind a few lines of JavaScript."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import IO

from benchmarks.clients.scenario import ClientFailed, Fields

BRIDGE = Path(__file__).with_name("kafkajs.js")
PACKAGE = Path(__file__).parents[2] / "examples" / "javascript" / "package.json"
JOIN_WITHIN_S = 30.0


class Program:
    """A child that writes one recommendation a line, and what it has to tell on stderr."""

    def __init__(self, argv: Sequence[str], *, directory: Path | None = None) -> None:
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(  # noqa: S603 - our own command
            argv, cwd=directory, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self.lines: SimpleQueue[str] = SimpleQueue()
        self.told: list[str] = []
        Thread(target=self._read, args=(self._child.stdout,), daemon=True).start()
        Thread(target=self._hear, args=(self._child.stderr,), daemon=True).start()

    def write(self, line: str) -> None:
        """Give it a line on its stdin."""
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def next_line(self, within_s: float) -> str | None:
        """Return the next line of its stdout, or None when none came *within_s*.

        Raises:
            ClientFailed: it has ended.
        """
        try:
            return self.lines.get(timeout=within_s)
        except Empty:
            self.check()
            return None

    def check(self) -> None:
        """Raise what it told last, if it has ended."""
        if self._child.poll() is not None:
            raise ClientFailed(" ".join(self.told[-3:]) or f"ended with {self._child.returncode}")

    def close(self) -> None:
        """End it."""
        self._child.terminate()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self.lines.put(line)

    def _hear(self, pipe: IO[str]) -> None:
        for line in pipe:
            self.told.append(line.strip())


class Kcat:
    """``kcat``, once for each message and once to read from the end."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._base = ("kcat", "-b", bootstrap_servers)
        self._reader = Program((*self._base, "-C", "-t", "recommendations", "-o", "end", "-u"))
        deadline_s = monotonic() + JOIN_WITHIN_S
        while not any("Reached end" in line for line in self._reader.told):
            self._reader.check()
            if monotonic() > deadline_s:
                raise ClientFailed(" ".join(self._reader.told[-3:]) or "read nothing")
            sleep(0.05)

    def produce(self, topic: str, key: str, fields: Fields) -> None:
        """Produce one JSON message, and wait until it is acknowledged."""
        given = f"{key}\t{json.dumps(fields)}\n"
        sent = subprocess.run(  # noqa: S603 - our own command
            (*self._base, "-P", "-t", topic, "-K", "\t", "-X", "partitioner=murmur2_random"),
            input=given,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if sent.returncode:
            raise ClientFailed(sent.stderr.strip())

    def receive(self, within_s: float) -> Fields | None:
        """Return the next recommendation, or None when none came *within_s*."""
        return _decoded(self._reader.next_line(within_s))

    def close(self) -> None:
        """End the reader."""
        self._reader.close()


class Kafkajs:
    """kafkajs on Node, in *directory*, where npm has installed it."""

    def __init__(self, bootstrap_servers: str, *, directory: Path) -> None:
        shutil.copy(BRIDGE, directory)
        self._bridge = Program(("node", BRIDGE.name, bootstrap_servers), directory=directory)
        self._expect("ready", JOIN_WITHIN_S)

    def produce(self, topic: str, key: str, fields: Fields) -> None:
        """Produce one JSON message, and wait until it is acknowledged."""
        self._bridge.write(json.dumps({"topic": topic, "key": key, "value": json.dumps(fields)}))
        self._expect("sent", 10)

    def receive(self, within_s: float) -> Fields | None:
        """Return the next recommendation, or None when none came *within_s*."""
        return _decoded(self._bridge.next_line(within_s))

    def close(self) -> None:
        """End the bridge."""
        self._bridge.close()

    def _expect(self, word: str, within_s: float) -> None:
        """Wait until the bridge told *word* on stderr once more."""
        deadline_s = monotonic() + within_s
        while word not in self._bridge.told:
            self._bridge.check()
            if monotonic() > deadline_s:
                raise ClientFailed(f"not {word} within {within_s:.0f} s")
            sleep(0.002)
        self._bridge.told.remove(word)


def install_kafkajs(directory: Path) -> None:
    """Install the kafkajs of the examples below *directory*.

    Raises:
        ClientFailed: npm could not.
    """
    shutil.copy(PACKAGE, directory)
    flags = ("--no-package-lock", "--no-audit", "--no-fund", "--silent")
    done = subprocess.run(  # noqa: S603 - our own command
        ("npm", "install", *flags),  # noqa: S607 - as the shell finds it
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise ClientFailed(f"npm install: {done.stderr.strip() or done.stdout.strip()}")


def _decoded(line: str | None) -> Fields | None:
    if line is None or not line.strip():
        return None
    fields: Fields = json.loads(line)
    return fields
