"""What this process takes from a bundle, and how it gets it."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.errors import BundleError
from contract.events import BundleAnnouncement
from index_sync.generation import Tower
from models import bundle as bundles
from models.encoder import ItemEncoder
from models.items import ItemSnapshot


@dataclass(frozen=True, slots=True)
class Opened:
    """The part of a bundle that this process needs."""

    input_dim: int
    output_dim: int
    snapshot: ItemSnapshot
    tower: Tower


OpenBundle = Callable[[BundleAnnouncement], Opened]
"""Returns the bundle that was announced, or raises `BundleError`."""


def open_bundle(root_url: str, announcement: BundleAnnouncement) -> Opened:
    """Return the announced bundle from under *root_url*, checked.

    The announced URL is not followed: whoever can write to a topic must not choose what this
    process fetches.

    Raises:
        BundleError: it is missing, damaged, or not the one that was announced.
    """
    url = f"{root_url.rstrip('/')}/{announcement.bundle_id}"
    loaded = bundles.load(url, manifest_sha256=announcement.manifest_sha256)
    manifest = loaded.manifest
    announced = (announcement.bundle_id, announcement.generation)
    if (manifest.bundle_id, manifest.generation) != announced:
        raise BundleError(f"the bundle at {url} is not the announced one: {announced}")
    return Opened(manifest.input_dim, manifest.output_dim, loaded.snapshot, ItemEncoder(loaded))
