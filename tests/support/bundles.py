"""A small learner and the bundle it writes, for the tests that need one."""

from urllib.parse import urlsplit

import httpx
import numpy as np
import torch

from contract.points import collection_name, point_id
from contract.process.settings import ProcessSettings, load
from contract.wire.events import BundleAnnouncement, BundleState, encode
from models.bundle import bundle
from models.serving.items import RANKING_FEATURE_NAMES
from models.training.config import TowerConfig
from tests.support.builders import T0, upload
from trainer.learn.learner import Learner

torch.set_num_threads(1)  # as the trainer does: threads spin against each other on shared cores

SMALL = TowerConfig(
    dim=64,
    hidden_dim=16,
    context_dim=4,
    content_buckets=4_096,
    context_buckets=64,
    num_negatives=32,
    dense_lr=3e-3,
    id_lr=0.1,
    content_lr=0.02,
    examples_per_step=8,
    num_replayed=16,
    replay_size=64,
)
TASTES = {"cooking": "soup", "football": "goal", "trains": "steam", "chess": "rook"}


def catalogue(num_of_each=5):
    """Return uploads of four tastes: ``cooking0``, ``cooking1``, ..., ``chess4``."""
    return [
        upload(f"{category}{n}", category=category, tags=(tag,), channel_id=f"{category}-{n}")
        for category, tag in TASTES.items()
        for n in range(num_of_each)
    ]


def learner_of(uploads, config=SMALL, seed=0):
    """Return an untrained learner that knows *uploads*."""
    learner = Learner(config, seed=seed)
    for one in uploads:
        learner.upload(one)
    return learner


def no_features(learner):
    """Return ranking features of videos that nobody has watched."""
    return np.zeros((len(learner.video_ids), len(RANKING_FEATURE_NAMES)))


def write(learner, root, *, bundle_id="b1", generation=1):
    """Write a bundle of *learner* below *root* and return (its URL, its manifest)."""
    card = learner.card(
        bundle_id=bundle_id,
        generation=generation,
        offsets={"watch-events": {"0": 7}},
        metrics={"loss": 1.5},
    )
    manifest = bundle.write(
        f"file://{root}", card, learner.bundle_files(), learner.snapshot(no_features(learner))
    )
    return f"file://{root}/{bundle_id}", manifest


def offer_bundle(place, player, *, manifest_sha256=None):
    """Write a bundle, fill its collection and announce it, as trainer and index_sync would."""
    root = urlsplit(load(ProcessSettings, place.env).bundle_url).path
    url, manifest = write(learner_of(catalogue()), root)
    collection = collection_name(place.qdrant.prefix(place.kafka), manifest.generation)
    snapshot = bundle.load(url, manifest_sha256=manifest.sha256).snapshot
    points = [
        {"id": point_id(video_id), "vector": vector.tolist()}
        for video_id, vector in zip(snapshot.video_ids, snapshot.output_ND, strict=True)
    ]
    at = f"{place.qdrant.url}/collections/{collection}"
    size = {"size": manifest.output_dim, "distance": "Dot"}
    httpx.put(at, json={"vectors": size}, timeout=30).raise_for_status()
    httpx.put(f"{at}/points?wait=true", json={"points": points}, timeout=30).raise_for_status()
    offer = BundleAnnouncement(
        bundle_id=manifest.bundle_id,
        generation=manifest.generation,
        state=BundleState.INDEXED,
        url=url,
        manifest_sha256=manifest_sha256 or manifest.sha256,
        announced_at_ms=T0,
    )
    player.produce("model-bundles", offer.bundle_id, encode(offer))
    player.flush()
