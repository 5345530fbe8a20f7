"""The vector index and its stand-in: one suite for both, then what only a real one can do."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import stamina.instrumentation
import structlog
from qdrant_client import QdrantClient

from contract.errors import ContractError, IndexUnavailable
from contract.points import point_id
from index_sync.generation import Point, Version
from index_sync.index import VectorIndex
from nextwatch.embedded.stack import EmbeddedStack
from tests.index_sync.doubles import MemoryIndex

OLD, NEW = Version(is_trained=False, updated_at_ms=1), Version(is_trained=True, updated_at_ms=2)
NORTH, EAST = [0.0, 1.0], [1.0, 0.0]


@pytest.fixture(scope="module")
def stack():
    """An index server, and nothing else."""
    with EmbeddedStack(os.environ, processes=("index",), is_supervised=False) as stack:
        yield stack


@pytest.fixture
def stopping():
    """What tells the index to give up waiting."""
    return Event()


@pytest.fixture
def client(stack):
    """A client of the server."""
    client = QdrantClient(url=stack.qdrant_url, timeout=2, check_compatibility=False)
    yield client
    client.close()


@pytest.fixture
def real(client, stopping):
    """The index over the server, empty."""
    stamina.instrumentation.set_on_retry_hooks([])  # as in the process
    index = VectorIndex(client, stopping.wait, retry_wait_ms=20)
    for name in index.collections():
        index.drop(name)
    yield index
    stamina.instrumentation.set_on_retry_hooks(None)


class IndexConformance:
    """Subclass it, and give an `index` fixture."""

    def test_what_is_upserted_is_counted_and_has_its_version(self, index):
        """Versions come back as they were written, for any number of points."""
        index.create_empty("c", 2)
        index.upsert("c", [Point(f"v{i}", NORTH, OLD) for i in range(2_500)])
        index.upsert("c", [Point("v7", EAST, NEW)])
        versions = index.versions("c")
        assert (index.count("c"), len(versions)) == (2_500, 2_500)
        assert (versions["v7"], versions["v8"]) == (NEW, OLD)

    def test_deleting_what_is_not_there_is_no_error(self, index):
        """A tombstone may come twice."""
        index.create_empty("c", 2)
        index.upsert("c", [Point("a", NORTH, OLD), Point("b", NORTH, OLD)])
        index.delete("c", ["a", "z"])
        index.delete("c", ["a"])
        assert index.versions("c") == {"b": OLD}

    def test_creating_empties(self, index):
        """A build always begins with nothing."""
        index.create_empty("c", 2)
        index.upsert("c", [Point("a", NORTH, OLD)])
        index.create_empty("c", 3)
        assert index.count("c") == 0

    def test_dropping_twice_is_no_error(self, index):
        """A tidying that was interrupted is done again."""
        index.create_empty("c", 2)
        index.create_empty("d", 2)
        index.drop("c")
        index.drop("c")
        assert index.collections() == {"d"}


class TestInMemory(IndexConformance):
    """The stand-in."""

    @pytest.fixture
    def index(self):
        """An empty one."""
        return MemoryIndex()


class TestEmbedded(IndexConformance):
    """Over a real server."""

    @pytest.fixture
    def index(self, real):
        """An empty one."""
        return real


def test_points_are_found_under_their_uuid_by_the_alias(real, client):
    """People look through the alias; the payload tells them the video."""
    real.create_empty("c-g1", 2)
    real.upsert("c-g1", [Point("a", NORTH, OLD), Point("b", EAST, OLD)])
    real.point_alias("c", "c-g1")
    best = client.query_points("c", query=EAST, limit=1).points[0]
    assert (best.id, best.payload["video_id"]) == (point_id("b"), "b")


def test_a_write_waits_until_the_index_is_back(real, stack):
    """Nothing is lost and nothing is skipped, and an outage is one line at each end."""
    real.create_empty("c", 2)
    process = stack.process("index")
    process.kill()
    with structlog.testing.capture_logs() as logs, ThreadPoolExecutor(1) as pool:
        write = pool.submit(real.upsert, "c", [Point("a", NORTH, OLD)])
        while not logs:
            assert not write.done()
        process.start()
        write.result(30)
    assert [entry["event"] for entry in logs] == ["index_went_away", "index_came_back"]
    assert real.versions("c") == {"a": OLD}


def test_being_told_to_stop_ends_the_waiting(real, stack, stopping):
    """The caller learns that its write was not acknowledged."""
    real.create_empty("c", 2)
    process = stack.process("index")
    process.kill()
    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(real.upsert, "c", [Point("a", NORTH, OLD)])
        stopping.set()
        with pytest.raises(IndexUnavailable):
            write.result(30)
    process.start()
    process.wait_ready()


def test_a_vanished_collection_stops_the_process(real):
    """Waiting would not bring it back; a start rebuilds it."""
    with pytest.raises(ContractError, match="next start rebuilds"):
        real.upsert("never-made", [Point("a", NORTH, OLD)])


def test_a_refused_write_is_not_tried_for_ever(real):
    """A vector of another width is a mistake of ours."""
    real.create_empty("c", 2)
    with pytest.raises(ContractError, match="400"):
        real.upsert("c", [Point("a", [1.0, 0.0, 0.0], OLD)])
