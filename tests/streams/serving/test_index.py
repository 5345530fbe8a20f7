"""What the index may answer, and what a worker makes of it."""

import json
from contextlib import contextmanager
from time import monotonic

import numpy as np
import pytest
import structlog

from contract.errors import ContractError, IndexUnavailable
from contract.points import END_OF_POINTS
from contract.process.settings import KafkaSettings, QdrantSettings
from streams.liveness import _index_trouble
from streams.serving.candidates import CandidateSource
from streams.serving.index import IndexClient, connected
from tests.streams.servings import serving
from tests.support.stub_index import answering

VECTORS_BD = np.eye(2, dtype=np.float32)


@contextmanager
def index_of(*, patience_ms=5_000, api_key=None, **answers):
    """Yield an index whose server answers so."""
    with answering(**answers) as url:
        index = IndexClient(QdrantSettings(url=url, api_key=api_key), patience_ms=patience_ms)
        yield index
        index.close()


def found(*answers):
    """Return the body of an answer that finds these ids, for each question."""
    points = [{"points": [{"id": i, "version": 1, "score": 0.5} for i in ids]} for ids in answers]
    return json.dumps({"result": points, "status": "ok", "time": 0.1}).encode()


def test_each_question_gets_its_answer():
    with index_of(body=found([1, 2], [3])) as index:
        assert index.nearest("c", VECTORS_BD, 2) == [[1, 2], [3]]


@pytest.mark.parametrize("answers", [[], [[1]], [[1], [2], [3]]])
def test_a_wrong_number_of_answers_is_rejected(answers):
    """Whose they are nobody knows; it ended the worker."""
    with (
        index_of(body=found(*answers)) as index,
        pytest.raises(IndexUnavailable, match="answers to 2 searches"),
    ):
        index.nearest("c", VECTORS_BD, 2)


@pytest.mark.parametrize(
    "foreign", [END_OF_POINTS, 2**64 - 1, "8b2e5c1a-0000-4000-8000-000000000000"]
)
def test_foreign_points_are_left_out(foreign):
    """Somebody has put them there: the others are as good as ever, and a worker lives on."""
    with (
        index_of(body=found([1, foreign, 2], [3])) as index,
        structlog.testing.capture_logs() as logs,
    ):
        for _ in range(3):
            assert index.nearest("c", VECTORS_BD, 3) == [[1, 2], [3]]
    assert [entry["event"] for entry in logs] == ["foreign_points_left_out"]


def test_a_search_that_finds_only_foreign_points_has_no_answer():
    """The viewer got popular videos only, and `degraded` did not say so."""
    with (
        index_of(body=found([1, 2], [END_OF_POINTS])) as index,
        pytest.raises(IndexUnavailable, match="none of ours"),
    ):
        index.nearest("c", VECTORS_BD, 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b'{"result": 7}', b'{"result": [{"points": [{"id": 1.5}]}]}', b"\xff"],
)
def test_an_unreadable_answer_is_rejected(body):
    with index_of(body=body) as index, pytest.raises(IndexUnavailable):
        index.nearest("c", VECTORS_BD, 2)


def test_an_answer_that_is_too_long_is_rejected():
    """A megabyte for four points would be read, and decoded, while the viewer waits."""
    body = found([1], [2])[:-1] + b" " * (1 << 20) + b"}"
    with index_of(body=body) as index, pytest.raises(IndexUnavailable, match="more than"):
        index.nearest("c", VECTORS_BD, 2)


def test_a_slow_answer_is_not_waited_for():
    with index_of(body=found([1], [2]), pause_s=2.0, patience_ms=100) as index:
        started_s = monotonic()
        with pytest.raises(IndexUnavailable, match="time"):
            index.nearest("c", VECTORS_BD, 2)
        assert monotonic() - started_s < 1.5


@pytest.mark.parametrize(("key", "says"), [(None, "wants an API key"), ("wrong", "rejects")])
def test_a_rejected_key_is_reported_with_its_setting_and_the_url(key, says):
    """At the start it ends the process with 78; later it is why the worker is not ready."""
    with index_of(key="right", api_key=key) as index:
        with pytest.raises(ContractError, match=says) as caught:
            index.check_key()
        assert "NEXTWATCH_QDRANT_API_KEY" in str(caught.value)
        assert "http://127.0.0.1" in str(caught.value)
        for call in (index.ping, lambda: index.nearest("c", VECTORS_BD, 2)):
            with pytest.raises(IndexUnavailable, match="NEXTWATCH_QDRANT_API_KEY"):
                call()


def test_a_key_that_is_rejected_while_running_is_why_a_worker_is_not_ready():
    """Keys are replaced; whoever asks the worker is told what to mend."""
    with index_of(key="new", api_key="old") as index:
        retrieval = CandidateSource(index, num_ranked=2, num_trending=0, monotonic=monotonic)
        before = _index_trouble(retrieval, index)
        assert retrieval.near(serving({}), ["u1"], VECTORS_BD[:1]) is None
        after = _index_trouble(retrieval, index)
    assert "NEXTWATCH_QDRANT_API_KEY" in before
    assert "a search failed" in after
    assert "NEXTWATCH_QDRANT_API_KEY" in after


def test_a_key_that_is_right_is_accepted():
    with index_of(key="right", api_key="right", body=found([1], [2])) as index:
        index.check_key()
        index.ping()
        assert index.nearest("c", VECTORS_BD, 2) == [[1], [2]]


def test_an_index_that_is_not_there_does_not_end_the_start():
    """Answers come from memory until it is."""
    settings = QdrantSettings(url="http://127.0.0.1:1")
    index = connected(settings, patience_ms=100, is_asked=True)
    with pytest.raises(IndexUnavailable):
        index.ping()


def test_a_key_over_plain_http_is_one_log_line():
    """And none where the index is never asked, or the key is encrypted on its way."""
    settings = QdrantSettings(url="http://127.0.0.1:1", api_key="k")
    with structlog.testing.capture_logs() as logs:
        connected(settings, patience_ms=50, is_asked=True)
        connected(settings, patience_ms=50, is_asked=False)
    assert [(e["event"], e["url"]) for e in logs] == [("api_key_sent_in_clear", settings.url)]
    assert not QdrantSettings(url="https://qdrant", api_key="k").sends_key_in_clear


def test_the_collection_prefix_follows_the_topic_prefix():
    """A second deployment with topics of its own must not meet the collections of the first."""
    staging = KafkaSettings(topic_prefix="staging-")
    assert QdrantSettings().prefix(KafkaSettings()) == "nextwatch"
    assert QdrantSettings().prefix(staging) == "staging-nextwatch"
    assert QdrantSettings(collection_prefix="own").prefix(staging) == "own"
