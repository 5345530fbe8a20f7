"""CollectionStore of the embedded index, without a server around them."""

import asyncio
from pathlib import Path

import psutil
import pytest

from nextwatch.embedded.index.index_collections import CollectionStore
from nextwatch.embedded.index.index_wire import (
    CreateCollection,
    Refused,
    Retrieve,
    VectorParams,
    WirePoint,
)

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


async def collection_of_one_point(root):
    """Return a store with one collection, that was opened anew after it got its point."""
    collections = CollectionStore(root)
    await collections.create("first", WANTED)
    point = WirePoint(id=1, vector=[1.0, 0.0], payload={"language": "en"})
    await collections["first"].upsert([point])
    collections.close()
    return CollectionStore(root)


def resident_bytes(pattern):
    """Return how much memory the mapped files with paths like *pattern* take of this process."""
    maps = psutil.Process().memory_maps()
    return sum(one.rss for one in maps if Path(one.path).match(pattern))


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells the memory of a mapped file")
def test_payload_takes_no_more_memory_than_there_is_of_it(tmp_path):
    """The engine maps pages of 32 MB for it, and three generations are open at once."""
    collections = asyncio.run(collection_of_one_point(tmp_path))

    [found] = collections["first"].retrieve(Retrieve(ids=[1]))

    assert found.payload == {"language": "en"}
    assert 0 < resident_bytes("first/segments/*/payload_storage/page_*.dat") < 1 << 20
    collections.close()
