"""Share a running stack: topics under a prefix, and processes that use them."""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.stack.waiting import eventually
from contract.process.settings import KafkaSettings, QdrantSettings, load
from nextwatch.embedded.process.process import Child
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics.topics import delete_all, reconcile


@dataclass(frozen=True)
class StackProcess:
    """A process that a test started."""

    child: Child
    state_dir: Path
    ready_file: Path
    url: str

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines called *event* so far."""
        return [fact for fact in self.facts() if fact["event"] == event]

    def facts(self) -> list[dict[str, Any]]:
        """Return every line of the log that is JSON; threads may write into each other's lines."""
        found = []
        for line in self.child.log_path.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return [fact for fact in found if isinstance(fact, dict)]

    @property
    def status_url(self) -> str:
        """Where it serves its status, as its log says."""
        [served] = self.logged("status_served")
        return f"http://127.0.0.1:{served['port']}"

    def wait_ready(self, within_s: float = 40) -> None:
        """Wait until it has partitions, and the windows in them."""
        assert eventually(self.ready_file.exists, within_s=within_s), self.child.log_tail()

    def health(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the answer of its health server; 0 while it does not answer."""
        try:
            answer = httpx.get(self.url + path, timeout=2)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()


@dataclass(frozen=True)
class PrefixedStack:
    """A running stack whose topics, collections and bundles have a *prefix* of their own.

    What *settings* say comes before what the stack says; an empty one takes a setting away.
    """

    stack: EmbeddedStack
    prefix: str = field(default_factory=lambda: f"place-{uuid4().hex[:8]}-")
    settings: Mapping[str, str] = field(default_factory=dict)
    workers: list[Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        reconcile(self.kafka)

    @property
    def env(self) -> dict[str, str]:
        """The settings of its processes."""
        env = {
            **self.stack.env,
            "NEXTWATCH_KAFKA_TOPIC_PREFIX": self.prefix,
            "NEXTWATCH_QDRANT_COLLECTION_PREFIX": self.prefix.rstrip("-"),
            "NEXTWATCH_PROCESS_BUNDLE_URL": (self.directory / "bundles").as_uri(),
            **self.settings,
        }
        return {name: value for name, value in env.items() if value}

    @property
    def directory(self) -> Path:
        """Where its workers keep their files."""
        return self.stack.directory / self.prefix

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach the broker."""
        return load(KafkaSettings, self.env)

    @property
    def qdrant(self) -> QdrantSettings:
        """How to reach the index."""
        return load(QdrantSettings, self.env)

    @property
    def bootstrap_servers(self) -> str:
        """Where the broker is."""
        return self.kafka.bootstrap_servers

    def worker(
        self,
        *argv: str,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        **settings: object,
    ) -> StackProcess:
        """Start a streams worker, or *argv*; *settings* are those of streams, *env* any others."""
        name = name or f"worker-{uuid4().hex[:8]}"
        directory = self.directory / name
        settings = {"STATE_DIR": directory / "state"} | settings
        ready_file = directory / "ready"
        own = {f"NEXTWATCH_STREAMS_{key}": str(value) for key, value in settings.items()}
        child = self.stack.add_process(
            f"{self.prefix}{name}",
            (sys.executable, *(argv or ("-m", "streams"))),
            {**self.env, **own, **(env or {}), "NEXTWATCH_PROCESS_READY_FILE": str(ready_file)},
        )
        self.workers.append(child)
        url = f"http://127.0.0.1:{settings.get('HTTP_PORT', 0)}"
        return StackProcess(child, Path(str(settings["STATE_DIR"])), ready_file, url)

    def close(self) -> None:
        """Kill its workers, and delete its topics if it has a prefix."""
        for worker in self.workers:
            worker.kill()
        if self.prefix:
            delete_all(self.kafka)
