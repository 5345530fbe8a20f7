"""CollectionStore of the embedded index, without a server around them."""

import asyncio

from nextwatch.embedded.index.index_collections import CollectionStore
from nextwatch.embedded.index.index_wire import CreateCollection, Refused, VectorParams

WANTED = CreateCollection(vectors=VectorParams(size=2, distance="Cosine"))


async def created_twice_at_once(collections):
    """Create one collection, then another by two requests at the same time."""
    await collections.create("first", WANTED)
    both = (collections.create("second", WANTED) for _ in range(2))
    return await asyncio.gather(*both, return_exceptions=True)


def test_a_collection_that_is_being_made_is_asked_for_again_later(tmp_path):
    """A client whose request timed out tries again: 503 says wait, 409 would end it."""
    collections = CollectionStore(tmp_path)

    made, refused = asyncio.run(created_twice_at_once(collections))

    assert made is None
    assert isinstance(refused, Refused)
    assert refused.status == 503
    assert collections.names() == ["first", "second"]
    collections.close()
