"""Load the parts of a bundle that index_sync needs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from contract.errors import BundleError, StoreUnavailable
from contract.kafka.retries import until_answered
from contract.wire.events import BundleAnnouncement
from index_sync.collections.generation import Tower
from models.bundle import bundle as bundles
from models.serving.encoder import ItemEncoder
from models.serving.items import ItemSnapshot

STORE_WITHIN_S, MISSING_WITHIN_S = 60.0, 5.0
"""How long a start waits for the store of the bundles, and for a bundle that is not in it."""


@dataclass(frozen=True, slots=True)
class LoadedBundle:
    """The part of a bundle that this process needs."""

    input_dim: int
    output_dim: int
    snapshot: ItemSnapshot
    tower: Tower


OpenBundle = Callable[[BundleAnnouncement], LoadedBundle]
"""Returns the bundle that was announced, or raises `BundleError` or `StoreUnavailable`."""


def open_bundle(root_url: str, announcement: BundleAnnouncement) -> LoadedBundle:
    """Return the announced bundle from under *root_url*, checked.

    Raises:
        BundleError: it is damaged, not the one that was announced, or does not run here.
        StoreUnavailable: it is not to be had now.
    """
    with bundles.refused_on_error():
        loaded = bundles.load_announced(root_url, announcement)
        manifest = loaded.manifest
        return LoadedBundle(
            manifest.input_dim, manifest.output_dim, loaded.snapshot, ItemEncoder(loaded)
        )


def open_again(open_bundle: OpenBundle, announcement: BundleAnnouncement) -> LoadedBundle:
    """Return a bundle that was indexed before; retry while its store does not answer.

    Raises:
        BundleError: it is damaged, or not in the store any more.
        StoreUnavailable: the store did not answer within `STORE_WITHIN_S`.
    """
    try:
        return until_answered(
            partial(open_bundle, announcement),
            within_s=STORE_WITHIN_S,
            missing_within_s=MISSING_WITHIN_S,
        )
    except StoreUnavailable as error:
        if error.is_missing:
            raise BundleError(str(error), word="missing") from error
        raise
