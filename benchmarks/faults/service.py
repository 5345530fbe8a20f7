"""A bundle in service, so that answers need the index: small, untrained, written in a second."""

import httpx
import numpy as np
import torch
from confluent_kafka import Producer

from contract.clock import system_clock
from contract.events import BundleAnnouncement, BundleState, VideoUpload, encode
from contract.kafka import producer_config
from contract.outbox import Outbox, Outgoing
from contract.points import collection_name, point_id
from contract.settings import ProcessSettings, QdrantSettings, load
from contract.topics import MODEL_BUNDLES
from models import bundle as bundles
from models.items import RANKING_FEATURE_NAMES
from models.retriever import RetrieverConfig
from nextwatch.embedded.stack import EmbeddedStack
from trainer.learner import Learner

NUM_VIDEOS = 100
_BUNDLE_ID = "faults"
_GENERATION = 1
_SMALL = RetrieverConfig(dim=16, hidden_dim=16, content_buckets=1_024, context_buckets=64)


def put_in_service(stack: EmbeddedStack) -> None:
    """Write a bundle, fill its collection, and announce it as indexed; workers then load it."""
    torch.set_num_threads(1)
    root_url = load(ProcessSettings, stack.env).bundle_url
    learner = Learner(_SMALL, seed=0)
    for number in range(NUM_VIDEOS):
        learner.upload(_upload(f"v{number}"))
    features_NF = np.zeros((NUM_VIDEOS, len(RANKING_FEATURE_NAMES)))
    snapshot = learner.snapshot(features_NF)
    card = learner.card(bundle_id=_BUNDLE_ID, generation=_GENERATION, offsets={}, metrics={})
    manifest = bundles.write(root_url, card, learner.bundle_files(), snapshot)
    qdrant = load(QdrantSettings, stack.env)
    url = f"{qdrant.url}/collections/{collection_name(qdrant.prefix(stack.kafka), _GENERATION)}"
    points = [
        {"id": point_id(video_id), "vector": vector, "payload": {"video_id": video_id}}
        for video_id, vector in zip(snapshot.video_ids, snapshot.output_ND.tolist(), strict=True)
    ]
    params = {"vectors": {"size": snapshot.output_ND.shape[1], "distance": "Cosine"}}
    httpx.put(url, json=params).raise_for_status()
    httpx.put(f"{url}/points?wait=true", json={"points": points}).raise_for_status()
    offer = BundleAnnouncement(
        bundle_id=_BUNDLE_ID,
        generation=_GENERATION,
        state=BundleState.INDEXED,
        url=f"{root_url}/{_BUNDLE_ID}",
        manifest_sha256=manifest.sha256,
        announced_at_ms=system_clock(),
    )
    kafka = stack.kafka
    name = kafka.layout.name(MODEL_BUNDLES)
    outbox = Outbox(Producer(producer_config(kafka)))
    outbox.deliver([Outgoing(name, offer.bundle_id.encode(), encode(offer))])


def _upload(video_id: str) -> VideoUpload:
    return VideoUpload(
        video_id=video_id, title=video_id, duration_ms=30_000, uploaded_at_ms=system_clock()
    )
