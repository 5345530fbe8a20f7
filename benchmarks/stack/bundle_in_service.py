"""Put a small untrained bundle in service, so that answers need the index."""

from typing import Protocol

import httpx
import msgspec
import numpy as np
import torch
from confluent_kafka import Producer

from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.points import collection_name, point_id
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings, ProcessSettings, QdrantSettings, load
from contract.wire.events import BundleAnnouncement, BundleState, VideoUpload, encode
from contract.wire.topics import MODEL_BUNDLES
from models.bundle import bundle as bundles
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot
from models.training.config import TowerConfig
from trainer.learn.learner import Learner

NUM_VIDEOS = 100
_BUNDLE_ID = "faults"
_GENERATION = 1
_SMALL = TowerConfig(dim=16, hidden_dim=16, content_buckets=1_024, context_buckets=64)


class Stack(Protocol):
    """The stack on which the bundle is put in service."""

    @property
    def env(self) -> dict[str, str]:
        """The settings of its processes."""
        ...

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach the broker."""
        ...


def put_in_service(stack: Stack, *, num_videos: int = NUM_VIDEOS) -> BundleAnnouncement:
    """Write a bundle, fill its collection, and announce it as indexed; workers then load it."""
    offer, snapshot = write_bundle(stack, num_videos=num_videos)
    _fill_collection(stack, snapshot)
    indexed = msgspec.structs.replace(offer, state=BundleState.INDEXED)
    announce(stack, indexed)
    return indexed


def write_bundle(
    stack: Stack,
    *,
    num_videos: int = NUM_VIDEOS,
    bundle_id: str = _BUNDLE_ID,
    generation: int = _GENERATION,
) -> tuple[BundleAnnouncement, ItemSnapshot]:
    """Write a bundle of the videos v0, v1 and so on; return its offer, and its item vectors."""
    torch.set_num_threads(1)
    root_url = load(ProcessSettings, stack.env).bundle_url
    learner = Learner(_SMALL, seed=0)
    for number in range(num_videos):
        learner.upload(_upload(f"v{number}"))
    features_NF = np.zeros((num_videos, len(RANKING_FEATURE_NAMES)))
    snapshot = learner.snapshot(features_NF)
    card = learner.card(bundle_id=bundle_id, generation=generation, offsets={}, metrics={})
    manifest = bundles.write(root_url, card, learner.bundle_files(), snapshot)
    offer = BundleAnnouncement(
        bundle_id=bundle_id,
        generation=generation,
        state=BundleState.OFFERED,
        url=f"{root_url}/{bundle_id}",
        manifest_sha256=manifest.sha256,
        announced_at_ms=system_clock(),
    )
    return offer, snapshot


def announce(stack: Stack, *announcements: BundleAnnouncement) -> None:
    """Produce *announcements*."""
    kafka = stack.kafka
    name = kafka.layout.name(MODEL_BUNDLES)
    outbox = Outbox(Producer(producer_config(kafka)))
    outbox.deliver(
        [Outgoing(name, each.bundle_id.encode(), encode(each)) for each in announcements]
    )


def _fill_collection(stack: Stack, snapshot: ItemSnapshot) -> None:
    qdrant = load(QdrantSettings, stack.env)
    url = f"{qdrant.url}/collections/{collection_name(qdrant.prefix(stack.kafka), _GENERATION)}"
    given = {"is_trained": True, "updated_at_ms": 0}
    points = [
        {"id": point_id(video_id), "vector": vector, "payload": {"video_id": video_id, **given}}
        for video_id, vector in zip(snapshot.video_ids, snapshot.output_ND.tolist(), strict=True)
    ]
    params = {"vectors": {"size": snapshot.output_ND.shape[1], "distance": "Cosine"}}
    httpx.put(url, json=params).raise_for_status()
    httpx.put(f"{url}/points?wait=true", json={"points": points}).raise_for_status()


def _upload(video_id: str) -> VideoUpload:
    return VideoUpload(
        video_id=video_id, title=video_id, duration_ms=30_000, uploaded_at_ms=system_clock()
    )
