"""A corner of a running stack, which the benchmarks use, too, and a bundle to put there."""

from urllib.parse import urlsplit

import httpx

from benchmarks.places import Place, Worker
from contract.points import collection_name, point_id
from contract.process.settings import ProcessSettings, load
from contract.wire.events import BundleAnnouncement, BundleState, encode
from models.bundle import bundle as bundles
from tests.builders import T0
from tests.models.bundles import catalogue, learner_of, write

__all__ = ["Place", "Worker", "offer_bundle"]


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
