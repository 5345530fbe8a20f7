"""Load everything of one generation that answering needs, and swap it as a whole.

A user vector of generation g must only ever meet item vectors of generation g. So encoder,
ranker, item store and collection name are one `Serving`; a batch reads the current one once
and uses nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import structlog

from contract.points import collection_name, point_id
from contract.wire.events import ItemVector
from models.bundle.bundle import Bundle
from models.features.examples import CompletionRule
from models.history.history import EMPTY
from models.serving.candidates import CandidateRanker
from models.serving.encoder import UserEncoder, completion_of
from models.serving.items import ItemStore
from models.serving.ranker_tables import MODEL as RANKER_MODEL
from models.serving.ranking import Ranker
from models.serving.trained_ranker import TrainedRanker
from models.tdm.index import SCORER as TREE_SCORER
from models.tdm.index import TreeIndex
from streams.serving.point_rows import PointRows

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Serving:
    """One generation in memory; only the item store changes, by vectors of this generation."""

    bundle_id: str
    generation: int
    collection: str
    encoder: UserEncoder
    ranker: CandidateRanker
    items: ItemStore
    points: PointRows = field(default_factory=PointRows)
    tree: TreeIndex | None = None
    completion: CompletionRule = field(default_factory=CompletionRule)

    def put(self, vector: ItemVector) -> None:
        """Replace the vectors of a video."""
        self.items.put(vector)
        row = self.items.row(vector.video_id)
        self.points.put(point_id(vector.video_id), row)
        if self.tree is not None and not self.tree.put(row, self.items.outputs_ND[row]):
            self._warn_of_full_tree()

    def _warn_of_full_tree(self) -> None:
        """Say once that newcomers are not found before the next generation, which has room."""
        if self.tree is not None and self.tree.num_refused == 1:
            log.warning("tree_full", generation=self.generation, videos=len(self.tree))

    def remove(self, video_id: str) -> None:
        """Forget a video that was taken down."""
        self.points.put(point_id(video_id), 0)
        if self.tree is not None:
            self.tree.remove(self.items.row(video_id))
        self.items.remove(video_id)


def load(bundle: Bundle, *, collection_prefix: str) -> Serving:
    """Return *bundle* ready to answer: sessions built, item store filled, first run done."""
    items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    items.put_many(bundle.snapshot)
    video_ids = bundle.snapshot.video_ids
    points = PointRows()
    points.put_many([point_id(v) for v in video_ids], items.rows(video_ids).tolist())
    encoder = UserEncoder(bundle)
    encoder.encode([EMPTY], items, [0])
    return Serving(
        bundle_id=bundle.manifest.bundle_id,
        generation=bundle.manifest.generation,
        collection=collection_name(collection_prefix, bundle.manifest.generation),
        encoder=encoder,
        ranker=_ranker(bundle, items),
        items=items,
        points=points,
        tree=TreeIndex(bundle, items) if TREE_SCORER in bundle.files else None,
        completion=completion_of(bundle),
    )


def _ranker(bundle: Bundle, items: ItemStore) -> CandidateRanker:
    """Return the network that came with *bundle*, else the sum whose weights its manifest has."""
    if RANKER_MODEL not in bundle.files:
        return Ranker(bundle.manifest.ranker)
    ranker = TrainedRanker(bundle)
    ranker.renew(items)
    return ranker


@dataclass(slots=True)
class ActiveGeneration:
    """Holds the serving in use; one assignment swaps it.

    The matrices of an item store must not grow between two looks at them. Batches look at three
    steps, which go on at the same time: each holds the lock of its step, and whoever changes
    the serving or its item store holds them all.
    """

    current: Serving | None = None
    encoding: Lock = field(default_factory=Lock)
    searching: Lock = field(default_factory=Lock)
    ranking: Lock = field(default_factory=Lock)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the locks of all stages, to change the serving or its item store."""
        with self.encoding, self.searching, self.ranking:
            yield
