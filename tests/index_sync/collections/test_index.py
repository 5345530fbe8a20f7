"""The vector index and its stand-in: one suite for both, then what only a real one can do."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import structlog
from httpx import Headers
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from contract.errors import ContractError, IndexUnavailable
from contract.points import generation_of, point_id
from contract.process.exit_codes import ExitCode, code_of
from contract.process.settings import QdrantSettings
from index_sync.collections.generation import Point, Version
from index_sync.collections.index import VectorIndex, connected
from index_sync.collections.outage import QUIET_S, Outage
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
    index = VectorIndex(client, stopping.wait, retry_wait_ms=20, owner="us")
    for name in index.collections():
        index.drop(name)
    return index


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

    def test_deleting_a_missing_point_is_not_an_error(self, index):
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

    def test_dropping_twice_is_not_an_error(self, index):
        """A tidying that was interrupted is done again."""
        index.create_empty("c", 2)
        index.create_empty("d", 2)
        index.drop("c")
        index.drop("c")
        assert index.collections() == {"d"}

    def test_a_created_collection_has_the_mark_of_its_owner(self, index):
        """A collection that is made anew, too."""
        for dim in (2, 3):
            index.create_empty("c", dim)
            assert (index.owner_of("c"), index.is_foreign("c")) == ("us", False)
        assert index.owner_of("never-made") is None

    def test_a_collection_of_another_owner_is_not_emptied(self, index):
        """Its points are somebody's answers."""
        index.create_empty("c", 2)
        index.upsert("c", [Point("a", NORTH, OLD)])
        index.owner = "them"
        assert index.is_foreign("c")
        with pytest.raises(ContractError, match="us"):
            index.create_empty("c", 2)
        assert index.count("c") == 1

    def test_a_claim_is_a_mark(self, index):
        """For collections from before there were marks."""
        index.owner = ""
        index.create_empty("c", 2)
        index.owner = "us"
        index.claim("c")
        assert index.owner_of("c") == "us"


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


def test_foreign_points_do_not_prevent_a_start(real, client):
    """Somebody has put one into a collection of ours: each start would end there."""
    real.create_empty("c", 2)
    real.upsert("c", [Point("a", NORTH, OLD)])
    for number, payload in enumerate([{}, {"video_id": 7}, {"video_id": "b", "is_trained": "no"}]):
        client.upsert("c", [models.PointStruct(id=number, vector=EAST, payload=payload)])
    with structlog.testing.capture_logs() as logs:
        assert real.versions("c") == {"a": OLD}
    assert [(e["event"], e["points"]) for e in logs] == [("foreign_points_left_out", 3)]


def test_a_write_waits_until_the_index_is_back(real, stack):
    """Nothing is lost and nothing is skipped, and an outage is one line at each end."""
    real.create_empty("c", 2)
    process = stack.process("index")
    process.kill()
    with structlog.testing.capture_logs() as logs, ThreadPoolExecutor(1) as pool:
        write = pool.submit(real.upsert, "c", [Point("a", NORTH, OLD)])
        while not logs:  # the first failed request is logged at once
            assert not write.done()
        process.start()
        write.result(30)
    assert [entry["event"] for entry in logs] == ["index_unavailable", "index_available"]
    assert logs[0]["request"] == "upsert_points"
    assert real.versions("c") == {"a": OLD}


def test_a_request_to_stop_ends_the_waiting(real, stack, stopping):
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


class LateClient:
    """A client whose first create times out, and is done just before the second one."""

    def __init__(self, client):
        self._client = client
        self._late = None
        self._num_creates = 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def create_collection(self, *args, **kwargs):
        self._num_creates += 1
        if self._num_creates == 1:
            self._late = args, kwargs
            raise ResponseHandlingException(TimeoutError("timed out"))
        if self._late is not None:
            args, kwargs = self._late
            self._late = None
            self._client.create_collection(*args, **kwargs)
        return self._client.create_collection(*args, **kwargs)


def test_a_create_that_was_done_after_its_timeout_is_a_success(client, stopping):
    """The second try is answered 409 because of the first one."""
    index = VectorIndex(LateClient(client), stopping.wait, retry_wait_ms=20)
    index.drop("late")
    index.create_empty("late", 2)
    index.upsert("late", [Point("a", NORTH, OLD)])
    assert index.count("late") == 1


class FailingClient:
    """A client that answers each call with the next of some failures, then with success."""

    def __init__(self, *failures):
        self._failures = list(failures)

    def delete_collection(self, _name):
        if self._failures:
            raise self._failures.pop(0)


def answer(status, text="why"):
    """Return what the client raises for an answer of *status*."""
    return UnexpectedResponse(status, "", text.encode(), Headers())


@pytest.mark.parametrize(
    "failure",
    [answer(status) for status in (408, 429, 500, 502, 503, 504, 507)]
    + [ResponseHandlingException(TimeoutError()), ResourceExhaustedResponse("busy", 1)],
)
def test_a_passing_failure_is_retried(failure):
    """No answer, an index that is too busy, and every 5xx, however often."""
    index = VectorIndex(FailingClient(*[failure] * 10), lambda _s: False, retry_wait_ms=20)
    index.drop("c")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_lasting_failure_ends_the_process_with_its_reason(status):
    """The same request would be refused again."""
    index = VectorIndex(FailingClient(answer(status)), lambda _s: False, retry_wait_ms=20)
    with pytest.raises(ContractError, match="delete_collection"):
        index.drop("c")


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_names_its_setting_and_the_url(status):
    """It was "the index refused a request with status 401", and exit code 1."""
    settings = QdrantSettings(url="http://qdrant:6333", api_key="wrong")
    index = VectorIndex(
        FailingClient(answer(status)), lambda _s: False, retry_wait_ms=20, refusal=settings.refusal
    )
    with pytest.raises(ContractError, match="NEXTWATCH_QDRANT_API_KEY") as caught:
        index.drop("c")
    assert "http://qdrant:6333" in str(caught.value)
    assert "wrong" not in str(caught.value)
    assert code_of(caught.value) is ExitCode.MISCONFIGURED


def test_a_key_over_plain_http_is_one_log_line(recwarn):
    """The client's own warning names a line of Python, on standard error."""
    with structlog.testing.capture_logs() as logs:
        connected(QdrantSettings(url="http://127.0.0.1:1", api_key="k")).close()
        connected(QdrantSettings(url="https://127.0.0.1:1", api_key="k")).close()
    assert [entry["event"] for entry in logs] == ["api_key_sent_in_clear"]
    assert not recwarn.list


def test_an_outage_names_the_first_failed_request_once():
    """With its status and reason; the end of it is one line, too."""
    failures = [answer(507, "No space left on device"), *[answer(500)] * 50]
    index = VectorIndex(FailingClient(*failures), lambda _s: False, retry_wait_ms=20)
    with structlog.testing.capture_logs() as logs:
        index.drop("c")
    assert [entry["event"] for entry in logs] == ["index_unavailable", "index_available"]
    assert logs[0]["request"] == "delete_collection"
    assert (logs[0]["status"], logs[0]["reason"]) == (507, "No space left on device")
    assert logs[1]["failed_requests"] == 51


def test_an_index_that_fails_every_other_request_does_not_fill_the_log():
    """The next line counts what was not logged."""
    now_s = [0.0]
    outage = Outage(lambda: now_s[0])
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            outage.failed("upsert_points", 500, "why")
            outage.answered()
        now_s[0] += QUIET_S
        outage.failed("upsert_points", 500, "why")
        outage.answered()
    assert len(logs) == 4
    assert logs[-1]["failed_requests"] == 100


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        ("p-g7", 7),
        ("p-g", None),
        ("p-goal", None),
        ("p-g7-g8", None),
        ("p", None),
        ("q-p-g7", None),
        ("p-g\u0667", None),
    ],
)
def test_only_names_of_generations_are_ours(name, generation):
    """A prefix may be the beginning of another one."""
    assert generation_of("p", name) == generation
