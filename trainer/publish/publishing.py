"""Publish bundles and item vectors.

Order of effects of a bundle, and what a crash after each step leaves behind:

1. freeze the generation, export, check, write the directory: an unannounced directory, which
   nobody looks at and `discard_old` deletes one day; what the guard refuses, or cannot be written,
   is deleted at once, and the frozen generation with it;
2. checkpoint (by the loop): a restart knows the frozen towers of what is announced next;
3. announce it as offered, acknowledged by the broker: the commit point.

Item vectors are published for the generation in service only: a user vector of one generation
must never meet item vectors of another. What was touched meanwhile is remembered for each
generation, so that the next one in service starts with what its snapshot missed.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import fsspec
import numpy as np
import structlog
from jaxtyping import Float32

from contract.errors import BundleError, StoreUnavailable
from contract.kafka.outbox import Outgoing
from contract.process.atomic_write import DRAFT_SUFFIX
from contract.process.clock import Clock
from contract.wire.events import (
    BundleAnnouncement,
    BundleState,
    ItemVector,
    Origin,
    RankingFeatures,
    encode,
)
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, Layout
from models.bundle import bundle
from models.serving.items import RANKING_FEATURE_NAMES
from trainer.state.checkpoint import Offsets
from trainer.state.training_state import TrainingState

# Shape legend: n = videos, D = width of a vector, F = ranking features.

log = structlog.get_logger()

GUARDED = "recent_progressive_recall_at_20"
BASELINE = "recent_popularity_recall_at_20"
MIN_GUARDED_EXAMPLES = 500
MIN_SHARE_OF_PREVIOUS = 0.5
_DECIMALS = 6  # of a component on the wire: a third of the bytes, an error far below float16's
_BUNDLE_ID = re.compile(r"b(\d{14})-g(\d+)")


WhyRefused = Callable[[bundle.Bundle], str | None]
"""Returns why a bundle must not be offered, None when it may be."""


class BundleDelivery(Protocol):
    """The method of an outbox that the publisher calls."""

    def deliver(self, records: Sequence[Outgoing]) -> object:
        """Produce *records*; return once they are acknowledged."""
        ...


@dataclass(frozen=True, slots=True)
class BundlePublisher:
    """Writes bundles under one URL and announces them."""

    outbox: BundleDelivery
    layout: Layout
    bundle_url: str
    clock: Clock
    keep_bundles: int = 8

    def prepare(
        self,
        state: TrainingState,
        generation: int,
        offsets: Offsets,
        *,
        in_service: int | None = None,
        why_refused: WhyRefused = lambda _bundle: None,
    ) -> BundleAnnouncement:
        """Freeze *generation*, write its bundle and return its announcement.

        Raises:
            BundleError: ONNX and torch differ, something in it is not finite, or *why_refused* has
                returned a reason against it.
            StoreUnavailable: the store of the bundles cannot be written to.
            OSError: the disk cannot be written to.
        """
        now_ms = self.clock()
        bundle_id = f"b{now_ms:014d}-g{generation}"
        metrics = state.metrics()
        state.freeze(generation, in_service=in_service)
        rows = np.arange(1, len(state.learner.vocabulary) + 1)
        card = state.learner.card(
            bundle_id=bundle_id,
            generation=generation,
            offsets={
                topic: {str(partition): offset for partition, offset in of_topic.items()}
                for topic, of_topic in offsets.items()
            },
            metrics=metrics,
        )
        filesystem, root = fsspec.core.url_to_fs(self.bundle_url)
        place = f"{root.rstrip('/')}/{bundle_id}"
        discard = partial(filesystem.rm, place, recursive=True)
        try:
            files = state.learner.bundle_files() | state.ranker_files()
            snapshot = state.learner.snapshot(state.popularity.features(rows))
            manifest = bundle.write(self.bundle_url, card, files, snapshot)
            _check(bundle.Bundle(manifest, snapshot, files), why_refused, discard)
        except (BundleError, StoreUnavailable, OSError):
            state.drop(generation)
            raise
        # absolute, for readers that work in other directories
        url = str(filesystem.unstrip_protocol(place))
        return BundleAnnouncement(
            bundle_id=bundle_id,
            generation=generation,
            state=BundleState.OFFERED,
            url=url,
            manifest_sha256=manifest.sha256,
            announced_at_ms=now_ms,
            metrics=metrics,
        )

    def announce(self, announcement: BundleAnnouncement) -> None:
        """Announce the bundle as offered; return once that is acknowledged."""
        key = announcement.bundle_id.encode()
        self.outbox.deliver([Outgoing(self.layout.name(MODEL_BUNDLES), key, encode(announcement))])

    def announce_all(self, announcements: Sequence[BundleAnnouncement]) -> None:
        """Announce several bundles at once; return once that is acknowledged."""
        name = self.layout.name(MODEL_BUNDLES)
        self.outbox.deliver(
            [Outgoing(name, each.bundle_id.encode(), encode(each)) for each in announcements]
        )

    def publish_vectors(
        self,
        state: TrainingState,
        generation: int,
        *,
        most: int,
        on_vectors: Callable[[Sequence[ItemVector]], None] = lambda _vectors: None,
    ) -> int:
        """Publish up to *most* touched videos for *generation*; return how many it published.

        *on_vectors* is called with them once they are acknowledged.
        """
        video_ids = state.take_touched(generation, most)
        if not video_ids:
            return 0
        input_nD, output_nD = state.learner.vectors(video_ids, generation=generation)
        features_nF = state.popularity.features(state.learner.vocabulary.rows(video_ids))
        is_finite_n = np.isfinite(input_nD).all(axis=1) & np.isfinite(output_nD).all(axis=1)
        if not is_finite_n.all():
            log.error("vectors_withheld", reason="not finite", videos=int((~is_finite_n).sum()))
        now_ms = self.clock()
        inputs, outputs = (_rounded(x_nD) for x_nD in (input_nD, output_nD))
        name, vectors = self.layout.name(ITEM_VECTORS), []
        for index in np.flatnonzero(is_finite_n).tolist():
            vector = ItemVector(
                video_id=video_ids[index],
                generation=generation,
                origin=Origin.TRAINING,
                input_vector=inputs[index],
                output_vector=outputs[index],
                features=ranking_features(features_nF[index].tolist()),
                updated_at_ms=now_ms,
            )
            vectors.append(vector)
        self.outbox.deliver(
            [Outgoing(name, each.video_id.encode(), encode(each)) for each in vectors]
        )
        on_vectors(vectors)
        return len(vectors)

    def discard_old(self, needed: Collection[str] = ()) -> None:
        """Delete the oldest generations beyond those that are kept for rollback, and old drafts.

        The bundles *needed*, which serve or may come into service, stay. A store that does not
        answer is asked again after the next bundle.
        """
        try:
            self._discard_old(needed)
        except Exception as error:  # noqa: BLE001 - each kind of store raises errors of its own
            log.warning("bundles_not_discarded", reason=f"{type(error).__name__}: {error}")

    def _discard_old(self, needed: Collection[str]) -> None:
        filesystem, root = fsspec.core.url_to_fs(self.bundle_url)
        filesystem.invalidate_cache()
        names = {
            entry.rstrip("/").rpartition("/")[2] for entry in filesystem.ls(root, detail=False)
        }
        found = [match for name in names if (match := _BUNDLE_ID.fullmatch(name))]
        # by generation: names begin with the time of a clock that may have been set back
        bundles = [match[0] for match in sorted(found, key=lambda match: int(match[2]))]
        old = [name for name in bundles[: -self.keep_bundles] if name not in needed]
        drafts = {
            name
            for name in names
            if name.endswith(DRAFT_SUFFIX) and _BUNDLE_ID.fullmatch(name.removesuffix(DRAFT_SUFFIX))
        }
        for name in [*old, *sorted(drafts)]:
            filesystem.rm(f"{root.rstrip('/')}/{name}", recursive=True)
            log.info("bundle_discarded", bundle_id=name)


def _check(made: bundle.Bundle, why_refused: WhyRefused, discard: Callable[[], object]) -> None:
    """Raise `BundleError` with the reason against a bundle, after it was discarded."""
    reason = why_refused(made)
    if reason is not None:
        discard()
        raise BundleError(reason)


def _rounded(x_nD: Float32[np.ndarray, "n D"]) -> list[list[float]]:
    """Return the vectors short on the wire: rounded as float64, or the digits come back."""
    rounded: list[list[float]] = np.round(x_nD.astype(np.float64), _DECIMALS).tolist()
    return rounded


def ranking_features(row_F: Sequence[float]) -> RankingFeatures:
    """Return one row of a feature matrix as the struct of the contract."""
    by_name = dict(zip(RANKING_FEATURE_NAMES, row_F, strict=True))
    return RankingFeatures(
        popularity=round(by_name["popularity"], 3),
        mean_watch_ms=round(by_name["mean_watch_ms"], 1),
        completion_rate=min(round(by_name["completion_rate"], 4), 1.0),
        duration_ms=int(by_name["duration_ms"]),
        uploaded_at_ms=int(by_name["uploaded_at_ms"]),
        impressions=round(by_name["impressions"], 3),
        watch_rate=min(round(by_name["watch_rate"], 4), 1.0),
        watch_lift=round(by_name["watch_lift"], 4),
        **{name: int(by_name[name]) for name in ("channel", "category", "tag", "language")},
    )


def why_withheld(metrics: Mapping[str, float], previous: Mapping[str, float]) -> str | None:
    """Return why a bundle with these metrics must not be offered, None when it may be.

    The model got much worse than it was when the *previous* bundle was offered, and the
    baseline did not: then it is the model, not the audience, that has changed.
    """
    if metrics["progressive_examples"] < MIN_GUARDED_EXAMPLES or not previous.get(GUARDED):
        return None
    share = metrics[GUARDED] / previous[GUARDED]
    baseline_share = metrics[BASELINE] / previous[BASELINE] if previous.get(BASELINE) else 1.0
    if share < MIN_SHARE_OF_PREVIOUS and share < MIN_SHARE_OF_PREVIOUS * baseline_share:
        return f"{GUARDED} fell to {share:.2f} of the previous bundle's"
    return None
