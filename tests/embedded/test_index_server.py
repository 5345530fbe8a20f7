"""One suite for every index: the embedded server always, a real Qdrant where one is named.

Whatever this project asks of an index is asked here through the unmodified client, so that
what passes on the embedded one is known to hold on a server too.
"""

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.version_check import get_server_version, is_compatible
from qdrant_client.http.exceptions import UnexpectedResponse

from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.process.process import Child, Plan

NORTH, EAST, SOUTH, WEST = [0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]
NORTH_EAST = [0.6, 0.8]
UNIT_VECTORS = {1: NORTH, 2: EAST, 3: SOUTH, 4: NORTH_EAST}


@dataclass
class Server:
    """The embedded index as a process, with a client to it."""

    child: Child
    url: str

    def connect(self) -> QdrantClient:
        """Return a client of one's own."""
        # the client checks versions in a thread, which may outlive a server that a test kills
        return QdrantClient(url=self.url, timeout=10, check_compatibility=False)

    def restart_after_sigkill(self) -> None:
        """Kill it without a warning and start it again on the same directory."""
        self.child.kill()
        self.child.start()
        self.child.wait_ready()


def start_server(directory: Path) -> Server:
    """Start an index server that keeps its collections in *directory*."""
    (port,) = free_ports(1)
    argv = (sys.executable, "-m", "nextwatch.embedded.index_server")
    arguments = ("--port", str(port), "--data", str(directory / "data"))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    child = Child(Plan("index", argv + arguments, env, directory / "log", (port,)))
    child.start()
    child.wait_ready()
    return Server(child, f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """The server that the tests of this module share."""
    server = start_server(tmp_path_factory.mktemp("index"))
    yield server
    server.child.stop()


@pytest.fixture
def own_server(tmp_path) -> Iterator[Server]:
    """A server that one test may kill."""
    server = start_server(tmp_path)
    yield server
    server.child.stop()


def create(client: QdrantClient, name: str, *, size: int = 2, distance: str = "Cosine") -> None:
    """Create a collection."""
    params = models.VectorParams(size=size, distance=models.Distance(distance))
    client.create_collection(name, vectors_config=params)


def fill(client: QdrantClient, name: str, vectors: dict, **payload: object) -> None:
    """Upsert *vectors* by id, each with the same *payload*."""
    points = [models.PointStruct(id=i, vector=v, payload=payload) for i, v in vectors.items()]
    client.upsert(name, points, wait=True)


def nearest(client: QdrantClient, name: str, query: object, **wanted: object) -> list:
    """Return the ids nearest to *query*, best first."""
    return [point.id for point in client.query_points(name, query=query, **wanted).points]


def not_ids(*ids: object) -> models.Filter:
    """Return the filter that leaves *ids* out."""
    return models.Filter(must_not=[models.HasIdCondition(has_id=list(ids))])


def refusal(call: Callable[[], object]) -> int:
    """Return the HTTP status that *call* is refused with."""
    with pytest.raises(UnexpectedResponse) as caught:
        call()
    assert b'"error"' in caught.value.content
    return caught.value.status_code


class IndexConformance:
    """Subclass it, and give a `client` fixture."""

    @pytest.fixture
    def name(self, client) -> Iterator[str]:
        """An empty collection of two-dimensional vectors, deleted afterwards."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        create(client, name)
        yield name
        client.delete_collection(name)

    def test_an_upserted_point_is_found_at_once(self, client, name):
        """An acknowledged upsert is in the very next search, best first."""
        fill(client, name, UNIT_VECTORS)
        assert nearest(client, name, NORTH) == [1, 4, 2, 3]

    def test_scores_are_cosines(self, client, name):
        """With the cosine distance the length of a vector does not matter."""
        fill(client, name, {1: [0.0, 5.0], 2: [3.0, 4.0]})
        scores = [point.score for point in client.query_points(name, query=NORTH).points]
        assert scores == pytest.approx([1.0, 0.8])

    def test_dot_products_keep_lengths(self, client, name):
        """With the dot product a longer vector scores higher."""
        other = f"{name}-dot"
        create(client, other, distance="Dot")
        fill(client, other, {1: NORTH, 2: [0.0, 5.0]})
        assert nearest(client, other, NORTH) == [2, 1]
        client.delete_collection(other)

    def test_an_upsert_replaces_vector_and_payload(self, client, name):
        """A second upsert of an id leaves nothing of the first."""
        fill(client, name, {1: NORTH}, old="yes")
        fill(client, name, {1: EAST}, new="yes")
        (point,) = client.retrieve(name, [1], with_vectors=True)
        assert (point.payload, point.vector) == ({"new": "yes"}, pytest.approx(EAST))

    def test_uuids_are_ids(self, client, name):
        """A UUID is as good an id as a number, and comes back as text."""
        point_id = str(uuid.uuid4())
        fill(client, name, {point_id: NORTH})
        assert nearest(client, name, NORTH) == [point_id]

    def test_a_column_batch_is_an_upsert_too(self, client, name):
        """Points may come as columns instead of rows."""
        client.upsert(name, models.Batch(ids=[7, 8], vectors=[NORTH, EAST], payloads=None))
        assert nearest(client, name, EAST) == [8, 7]

    def test_many_points_are_all_there(self, client, name):
        """A request larger than what the engine is given at once arrives whole."""
        fill(client, name, {i: [1.0, float(i)] for i in range(1_000)})
        assert client.count(name, exact=True).count == 1_000

    def test_a_batch_answers_each_query_in_order(self, client, name):
        """One round trip, several answers, in the order of the queries."""
        fill(client, name, UNIT_VECTORS)
        requests = [models.QueryRequest(query=v, limit=1) for v in (EAST, SOUTH, NORTH)]
        answers = client.query_batch_points(name, requests)
        assert [answer.points[0].id for answer in answers] == [2, 3, 1]

    def test_a_filter_leaves_ids_out(self, client, name):
        """What a user has seen is left out by its ids."""
        fill(client, name, UNIT_VECTORS)
        assert nearest(client, name, NORTH, query_filter=not_ids(1, 2)) == [4, 3]

    def test_a_filter_on_a_payload_field(self, client, name):
        """Only points whose field matches are found."""
        fill(client, name, {1: NORTH}, kind="a")
        fill(client, name, {2: NORTH}, kind="b")
        client.create_payload_index(name, "kind", models.PayloadSchemaType.KEYWORD)
        match = models.FieldCondition(key="kind", match=models.MatchValue(value="b"))
        assert nearest(client, name, NORTH, query_filter=models.Filter(must=[match])) == [2]

    def test_a_point_is_not_its_own_neighbour(self, client, name):
        """A query by a point's id finds the others."""
        fill(client, name, UNIT_VECTORS)
        assert nearest(client, name, 1) == [4, 2, 3]

    def test_limit_offset_and_threshold(self, client, name):
        """The answer is a page, and may end at a score."""
        fill(client, name, UNIT_VECTORS)
        assert nearest(client, name, NORTH, limit=2, offset=1) == [4, 2]
        assert nearest(client, name, NORTH, score_threshold=0.5) == [1, 4]

    def test_search_parameters_are_taken(self, client, name):
        """Exact search and the breadth of an approximate one are accepted."""
        fill(client, name, UNIT_VECTORS)
        params = models.SearchParams(exact=True, hnsw_ef=64)
        assert nearest(client, name, NORTH, search_params=params) == [1, 4, 2, 3]

    def test_payload_and_vector_come_on_demand(self, client, name):
        """A search answers with what was asked for, and no more."""
        fill(client, name, {1: NORTH}, video_id="v1")
        bare = client.query_points(name, query=NORTH, with_payload=False).points[0]
        full = client.query_points(name, query=NORTH, with_payload=True, with_vectors=True)
        assert (bare.payload, bare.vector) == (None, None)
        assert (full.points[0].payload, full.points[0].vector) == ({"video_id": "v1"}, NORTH)

    def test_deleted_points_are_gone_at_once(self, client, name):
        """By ids, known or not, and by filter."""
        fill(client, name, UNIT_VECTORS)
        client.delete(name, models.PointIdsList(points=[1, 99]))
        assert nearest(client, name, NORTH) == [4, 2, 3]
        client.delete(name, models.FilterSelector(filter=not_ids(3)))
        assert nearest(client, name, NORTH) == [3]

    def test_scrolling_meets_every_point_once(self, client, name):
        """Pages follow each other in the order of the ids until there are no more."""
        fill(client, name, UNIT_VECTORS)
        first, offset = client.scroll(name, limit=3)
        rest, end = client.scroll(name, limit=3, offset=offset)
        assert ([point.id for point in first + rest], end) == ([1, 2, 3, 4], None)

    def test_retrieve_skips_missing_points(self, client, name):
        """Unknown ids are no error."""
        fill(client, name, {1: NORTH})
        assert [point.id for point in client.retrieve(name, [1, 2])] == [1]

    def test_collections_are_listed_and_described(self, client, name):
        """A collection tells its size, its distance and that it is ready."""
        fill(client, name, UNIT_VECTORS)
        info = client.get_collection(name)
        assert name in [found.name for found in client.get_collections().collections]
        assert (info.status, info.points_count) == (models.CollectionStatus.GREEN, 4)
        assert info.config.params.vectors.size == 2

    def test_a_collection_exists_from_creation_to_deletion(self, client, name):
        """Deleting it twice is no error, the second time says that there was none."""
        other = f"{name}-short-lived"
        create(client, other)
        assert client.collection_exists(other)
        assert client.delete_collection(other)
        assert not client.collection_exists(other)
        assert not client.delete_collection(other)

    def test_an_alias_moves_at_once(self, client, name):
        """Whoever asks by the alias meets the old collection or the new one, never none."""
        alias, other = f"{name}-alias", f"{name}-next"
        create(client, other)
        fill(client, name, {1: NORTH})
        fill(client, other, {2: NORTH})
        for target, wanted in ((name, [1]), (other, [2]), (other, [2])):
            create_alias = models.CreateAlias(collection_name=target, alias_name=alias)
            client.update_collection_aliases(
                [models.CreateAliasOperation(create_alias=create_alias)]
            )
            assert nearest(client, alias, NORTH) == wanted
        pairs = {a.alias_name: a.collection_name for a in client.get_aliases().aliases}
        assert pairs[alias] == other
        client.delete_collection(other)
        assert not client.collection_exists(alias)

    def test_metadata_is_kept_merged_and_told(self, client, name):
        """A collection says whose it is; what is set to nothing is gone."""
        other = f"{name}-owned"
        params = models.VectorParams(size=2, distance=models.Distance.COSINE)
        client.create_collection(other, vectors_config=params, metadata={"owner": "us", "n": 1})
        client.update_collection(other, metadata={"n": 2, "more": "yes"})
        assert client.get_collection(other).config.metadata == {
            "owner": "us",
            "n": 2,
            "more": "yes",
        }
        assert not client.get_collection(name).config.metadata
        client.delete_collection(other)

    def test_an_unknown_collection_is_404(self, client, name):
        """Reading and writing alike."""
        unknown = f"{name}-unknown"
        assert refusal(lambda: client.query_points(unknown, query=NORTH)) == 404
        assert refusal(lambda: fill(client, unknown, {1: NORTH})) == 404
        assert refusal(lambda: client.get_collection(unknown)) == 404

    def test_a_second_creation_is_409(self, client, name):
        """A collection is never emptied by creating it again."""
        assert refusal(lambda: create(client, name)) == 409

    def test_a_vector_of_another_size_is_refused_whole(self, client, name):
        """One wrong point in a request, and none of it is written."""
        assert refusal(lambda: fill(client, name, {1: NORTH, 2: [1.0, 2.0, 3.0]})) == 400
        assert client.count(name).count == 0
        assert refusal(lambda: client.query_points(name, query=[1.0])) == 400

    def test_a_free_string_is_not_an_id(self, client, name):
        """Ids are numbers and UUIDs; that is why videos are named by `contract.points`."""
        with pytest.raises(UnexpectedResponse):
            fill(client, name, {"v1": NORTH})
        assert client.count(name).count == 0


@pytest.fixture(scope="module")
def qdrant_url() -> str:
    """The Qdrant server that was named for the tests."""
    url = os.environ.get("NEXTWATCH_TEST_QDRANT_URL")
    if not url:
        pytest.skip("no Qdrant server: NEXTWATCH_TEST_QDRANT_URL is not set")
    return url


class TestEmbedded(IndexConformance):
    """The server of the embedded stack."""

    @pytest.fixture
    def client(self, server):
        """A client of the shared server."""
        with closing(server.connect()) as client:
            yield client


class TestQdrant(IndexConformance):
    """A Qdrant server, where ``NEXTWATCH_TEST_QDRANT_URL`` names one."""

    @pytest.fixture
    def client(self, qdrant_url):
        """A client of the named server."""
        with closing(QdrantClient(url=qdrant_url, timeout=30, check_compatibility=False)) as client:
            yield client


def test_everything_acknowledged_survives_sigkill(own_server):
    """Points, deletions, collections and aliases are as they were, right after a kill -9."""
    client = own_server.connect()
    create(client, "kept")
    client.update_collection("kept", metadata={"owner": "us"})
    create(client, "dropped")
    client.delete_collection("dropped")
    fill(client, "kept", {i: [1.0, float(i)] for i in range(1, 2_001)}, video_id="v")
    client.delete("kept", models.PointIdsList(points=list(range(1, 501))))
    alias = models.CreateAlias(collection_name="kept", alias_name="current")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])

    own_server.restart_after_sigkill()

    assert client.count("current", exact=True).count == 1_500
    assert client.get_collection("kept").config.metadata == {"owner": "us"}
    assert [c.name for c in client.get_collections().collections] == ["kept"]
    client.close()


def test_kills_in_mid_stream_lose_nothing_acknowledged(own_server):
    """Whatever was acknowledged before a kill is there after it, kill after kill."""
    client = own_server.connect()
    create(client, "stream")
    acknowledged = set()
    with ThreadPoolExecutor(1) as pool:
        for start in (0, 100_000, 200_000):
            enough = 3 + start // 100_000
            writer = pool.submit(_write_until_refused, client, start, acknowledged)
            while len(acknowledged) < start // 1_000 + enough * 64:
                assert not writer.done(), writer.exception()
            own_server.restart_after_sigkill()
            writer.result()
            found = {p.id for p in client.scroll("stream", limit=1_000_000)[0]}
            assert acknowledged <= found
    client.close()


def _write_until_refused(client: QdrantClient, start: int, acknowledged: set[int]) -> None:
    for i in range(start, start + 100_000, 64):
        vectors = {j: [1.0, float(j)] for j in range(i, i + 64)}
        try:
            fill(client, "stream", vectors)
        except Exception:  # the connection breaks in any of several ways  # noqa: BLE001
            return
        acknowledged.update(vectors)


def test_a_half_made_collection_is_removed_by_a_restart(own_server):
    """A directory that a killed creation left is swept away."""
    client = own_server.connect()
    create(client, "whole")
    data = own_server.child.log_path.parent / "data"
    shutil.copytree(data / "whole", data / ".half.draft")

    own_server.restart_after_sigkill()

    assert [c.name for c in client.get_collections().collections] == ["whole"]
    assert not (data / ".half.draft").exists()
    client.close()


def test_sigterm_ends_it_cleanly(own_server):
    """It closes its collections and leaves with exit code 0."""
    own_server.child.terminate()
    assert own_server.child.wait_ended(5.0)
    assert own_server.child.exit_code == 0


@pytest.mark.slow
def test_an_index_is_built_on_demand_beside_the_others(own_server):
    """While one collection is indexed in a child process, another one answers."""
    client = own_server.connect()
    create(client, "large", size=16)
    create(client, "other")
    fill(client, "other", UNIT_VECTORS)
    random = Random(1)
    fill(client, "large", {i: [random.gauss(0, 1) for _ in range(16)] for i in range(4_000)})
    before = nearest(client, "large", [1.0] * 16, limit=5)

    threshold = models.OptimizersConfigDiff(indexing_threshold=10)
    with (
        ThreadPoolExecutor(1) as pool,
        closing(QdrantClient(url=own_server.url, timeout=60, check_compatibility=False)) as builder,
    ):
        build = pool.submit(builder.update_collection, "large", optimizers_config=threshold)
        while not build.done():
            assert nearest(client, "other", NORTH, limit=1) == [1]
        assert build.result()

    info = client.get_collection("large")
    assert (info.status, info.indexed_vectors_count) == (models.CollectionStatus.GREEN, 4_000)
    assert nearest(client, "large", [1.0] * 16, limit=5) == before
    client.close()


def test_the_server_speaks_the_dialect_of_its_client(server):
    """The client finds no version difference to warn of, and probes are answered.

    Asked as the client asks, but not in its thread, which would outlive the test.
    """
    told = get_server_version(server.url, {}, None, 10)
    assert is_compatible(version("qdrant-client"), told)
    with closing(server.connect()) as client:
        assert client.info().title.startswith("qdrant")
