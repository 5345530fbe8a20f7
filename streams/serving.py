"""Everything of one generation that answering needs, swapped as a whole.

A user vector of generation g must only ever meet item vectors of generation g. So encoder,
ranker, item store and collection name are one `Serving`; a batch reads the current one once
and uses nothing else.
"""

from dataclasses import dataclass, field
from threading import Lock

from contract.events import ItemVector
from contract.points import collection_name, point_id
from models.bundle import Bundle
from models.encoder import UserEncoder
from models.history import EMPTY
from models.items import ItemStore
from models.ranking import Ranker


@dataclass(frozen=True, slots=True)
class Serving:
    """One generation in memory; only the item store changes, by vectors of this generation."""

    bundle_id: str
    generation: int
    collection: str
    encoder: UserEncoder
    ranker: Ranker
    items: ItemStore
    row_of_point: dict[str, int] = field(default_factory=dict)

    def put(self, vector: ItemVector) -> None:
        """Take in a video's new vectors."""
        self.items.put(vector)
        self.row_of_point[point_id(vector.video_id)] = int(self.items.rows([vector.video_id])[0])

    def remove(self, video_id: str) -> None:
        """Forget a video that was taken down."""
        self.row_of_point.pop(point_id(video_id), None)
        self.items.remove(video_id)


def load(bundle: Bundle, *, collection_prefix: str) -> Serving:
    """Return *bundle* ready to answer: sessions built, item store filled, first run done."""
    items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    items.put_many(bundle.snapshot)
    video_ids = bundle.snapshot.video_ids
    rows = items.rows(video_ids).tolist()
    encoder = UserEncoder(bundle)
    encoder.encode([EMPTY], items, [0])
    return Serving(
        bundle_id=bundle.manifest.bundle_id,
        generation=bundle.manifest.generation,
        collection=collection_name(collection_prefix, bundle.manifest.generation),
        encoder=encoder,
        ranker=Ranker(bundle.manifest.ranker),
        items=items,
        row_of_point=dict(zip(map(point_id, video_ids), rows, strict=True)),
    )


@dataclass(slots=True)
class Switch:
    """Holds the serving in use; one assignment swaps it.

    Whoever changes the serving or its item store holds *lock*, and so does a batch while it
    computes: the matrices of an item store must not grow between two looks at them.
    """

    current: Serving | None = None
    lock: Lock = field(default_factory=Lock)
