"""A corner of a running stack: topics of its own, and streams workers as guests."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from contract.events import BundleAnnouncement, BundleState, encode
from contract.points import collection_name, point_id
from contract.settings import KafkaSettings, ProcessSettings, QdrantSettings, load
from models import bundle as bundles
from nextwatch.embedded.process import Child
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics import reconcile
from tests.builders import T0
from tests.e2e.clients import eventually
from tests.models.bundles import catalogue, learner_of, write


@dataclass(frozen=True)
class Worker:
    """A streams worker that a test started."""

    child: Child
    state_dir: Path
    ready_file: Path
    url: str

    def logged(self, event):
        """Return the log lines called *event* so far."""
        lines = (line for line in self.child.log_path.read_text().splitlines() if line[:1] == "{")
        return [fact for fact in map(json.loads, lines) if fact["event"] == event]

    def wait_ready(self):
        """Wait until it has partitions, and the windows in them."""
        assert eventually(self.ready_file.exists, within_s=40), self.child.log_tail()

    def health(self, path):
        """Return the status and the answer of its health server; 0 while it does not answer."""
        try:
            answer = httpx.get(self.url + path, timeout=2)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()


@dataclass(frozen=True)
class Place:
    """Looks like a stack to a `Player`, with a prefix of its own."""

    stack: EmbeddedStack
    prefix: str = field(default_factory=lambda: f"place-{uuid4().hex[:8]}-")

    def __post_init__(self):
        reconcile(self.kafka)

    @property
    def env(self):
        """The settings by which workers find this place."""
        return {
            **self.stack.env,
            "NEXTWATCH_KAFKA_TOPIC_PREFIX": self.prefix,
            "NEXTWATCH_QDRANT_COLLECTION_PREFIX": self.prefix.rstrip("-"),
        }

    @property
    def kafka(self):
        """How to reach the broker."""
        return load(KafkaSettings, self.env)

    @property
    def qdrant(self):
        """How to reach the index."""
        return load(QdrantSettings, self.env)

    @property
    def bootstrap_servers(self):
        """Where the broker is."""
        return self.stack.bootstrap_servers

    def worker(self, *argv, name=None, env=None, **settings):
        """Start a streams worker, or the program *argv*; *settings* are those of streams, *env* any."""
        name = name or f"worker-{uuid4().hex[:8]}"
        directory = self.stack.directory / self.prefix / name
        state_dir, ready_file = directory / "state", directory / "ready"
        settings = {"STATE_DIR": state_dir} | settings
        own = {f"NEXTWATCH_STREAMS_{key}": str(value) for key, value in settings.items()}
        child = self.stack.add_guest(
            f"{self.prefix}{name}",
            (sys.executable, *(argv or ("-m", "streams"))),
            {**self.env, **own, **(env or {}), "NEXTWATCH_PROCESS_READY_FILE": str(ready_file)},
        )
        url = f"http://127.0.0.1:{settings.get('HTTP_PORT', 0)}"
        return Worker(child, state_dir, ready_file, url)


def offer_bundle(place, player):
    """Put a bundle and the collection it wants in place, as trainer and index_sync would."""
    root = urlsplit(load(ProcessSettings, place.env).bundle_url).path
    url, manifest = write(learner_of(catalogue()), root)
    collection = collection_name(place.qdrant.prefix(place.kafka), manifest.generation)
    snapshot = bundles.load(url, manifest_sha256=manifest.sha256).snapshot
    points = [
        {"id": point_id(video_id), "vector": vector.tolist()}
        for video_id, vector in zip(snapshot.video_ids, snapshot.output_ND, strict=True)
    ]
    at = f"{place.qdrant.url}/collections/{collection}"
    size = {"size": manifest.output_dim, "distance": "Dot"}
    httpx.put(at, json={"vectors": size}).raise_for_status()
    httpx.put(f"{at}/points?wait=true", json={"points": points}).raise_for_status()
    offer = BundleAnnouncement(
        bundle_id=manifest.bundle_id,
        generation=manifest.generation,
        state=BundleState.INDEXED,
        url=url,
        manifest_sha256=manifest.sha256,
        announced_at_ms=T0,
    )
    player.produce("model-bundles", offer.bundle_id, encode(offer))
    player.flush()
