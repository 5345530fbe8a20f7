"""On a whole stack: the doctor finds nothing, then what is broken; why tells what happened."""

import json
import uuid

import httpx
import pytest
from typer.testing import CliRunner

from benchmarks.stack.waiting import eventually
from contract.cluster.preflight import partition_counts
from contract.points import collection_name, point_id
from contract.process.settings import QdrantSettings, load
from nextwatch.commands import cli
from nextwatch.doctor.examination import CHECKS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240), pytest.mark.long]

NUM_VIDEOS = 12


def nextwatch(stack, *arguments, **settings):
    """Run the command line as somebody on the stack's machine does."""
    return CliRunner().invoke(cli.app, arguments, env={**stack.env, **settings, "TERM": "dumb"})


def examined(stack, **settings):
    """Return the exit code and the findings of the doctor."""
    done = nextwatch(stack, "doctor", "--wait", "2", "--json", **settings)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)["findings"]


def wrong(findings):
    return [(one["check"], one["what"]) for one in findings if one["health"] == "wrong"]


@pytest.fixture
def answer(stack, player):
    """Return a recommendation of a generation in service, and the watch that caused it."""
    for number in range(NUM_VIDEOS):
        player.upload(f"v{number}", category="cooking" if number % 2 else "chess")
    player.flush()
    user = f"u-{uuid.uuid4().hex[:8]}"

    def answered():
        event_id = player.watch(user, "v1", watch_ms=20_000, duration_ms=30_000)
        player.flush()
        found = player.answer_to(event_id)
        return (event_id, found) if found["bundle_id"] and found["items"] else None

    return eventually(answered, within_s=60)


@pytest.fixture
def healthy(stack, answer):
    """Wait until nothing is wrong: a catalogue that was just sent is indexed within a second."""
    assert eventually(lambda: examined(stack)[0] == 0, within_s=40), examined(stack)


@pytest.mark.usefixtures("healthy")
def test_nothing_is_wrong_with_a_stack_that_works_and_every_check_says_so(stack):
    code, findings = examined(stack)

    assert (code, wrong(findings)) == (0, []), findings
    assert list(dict.fromkeys(one["check"] for one in findings)) == list(CHECKS)
    index = [one["found"] for one in findings if one["check"] == "index"]
    assert any("as the topic has them" in found for found in index)
    text = nextwatch(stack, "doctor").stdout
    assert "nothing is wrong" in text.splitlines()[-1]


@pytest.mark.usefixtures("healthy")
def test_a_video_that_left_the_index_is_found_and_named(stack):
    """Tried again where another generation has come into service in the middle of it."""
    url = load(QdrantSettings, stack.env).url
    lost = {"points": [point_id("v3")]}
    seen = []

    def is_named():
        at = f"{url}/collections/{_collection(stack)}/points/delete?wait=true"
        httpx.post(at, json=lost).raise_for_status()
        code, findings = examined(stack)
        seen.append((code, findings))
        is_said = any("retrievable: v3" in one["found"] and one["remedy"] for one in findings)
        return code == 1 and is_said

    assert eventually(is_named, within_s=40), seen[-1]


def _collection(stack):
    done = nextwatch(stack, "models", "list", "--json")
    served = max(
        one["generation"] for one in json.loads(done.stdout) if one["state"] == "in_service"
    )
    return collection_name(load(QdrantSettings, stack.env).prefix(stack.kafka), served)


def test_another_partition_count_in_the_settings_is_wrong_with_its_remedy(stack):
    code, findings = examined(stack, NEXTWATCH_KAFKA_USER_PARTITIONS="3")

    [one] = [one for one in findings if one["what"] == "topics by user_id"]
    assert (code, one["health"]) == (1, "wrong")
    assert "NEXTWATCH_KAFKA_USER_PARTITIONS" in one["remedy"]


def test_topics_of_another_prefix_are_missing_and_not_made_and_the_rest_goes_on(stack):
    code, findings = examined(stack, NEXTWATCH_KAFKA_TOPIC_PREFIX="other-")

    assert code == 1
    assert ("topics", "other-watch-events") in wrong(findings)
    assert not any(name.startswith("other-") for name in partition_counts(stack.kafka))
    assert {one["check"] for one in findings} == set(CHECKS)


def test_an_index_that_is_away_is_one_finding_and_the_rest_goes_on(stack):
    code, findings = examined(stack, NEXTWATCH_QDRANT_URL="http://127.0.0.1:9")

    assert (code, wrong(findings)) == (1, [("connections", "Qdrant")]), findings
    assert {one["check"] for one in findings} == set(CHECKS)


def test_a_broker_that_is_away_is_one_finding_and_the_rest_goes_on(stack):
    code, findings = examined(stack, NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")

    assert (code, wrong(findings)) == (1, [("connections", "Kafka")]), findings
    assert {one["check"] for one in findings} == set(CHECKS)
    assert all(one["found"] for one in findings)


def test_a_bundle_store_that_is_another_one_is_found(stack, tmp_path, answer):
    """A worker that starts now would have no model."""
    code, findings = examined(stack, NEXTWATCH_PROCESS_BUNDLE_URL=f"file://{tmp_path}")

    assert code == 1
    assert any(
        check == "versions" and what.startswith("bundle of generation")
        for check, what in wrong(findings)
    )


def test_why_tells_cause_window_features_and_parts_of_a_real_recommendation(stack, answer):
    event_id, recommendation = answer
    done = nextwatch(stack, "why", recommendation["recommendation_id"], "--json")

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    [cause] = told["causes"]
    assert (cause["event_id"], cause["video_id"]) == (event_id, "v1")
    assert told["window"]["is_exact"]
    assert [watch["video_id"] for watch in told["window"]["watches"]] == ["v1"]
    assert told["bundle"]["generation"] == recommendation["generation"]
    assert told["request"]["num_watches"] == 1
    assert [item["video_id"] for item in told["items"]] == [
        item["video_id"] for item in recommendation["items"]
    ]
    for item in told["items"]:
        assert item["title"]
        assert {"similarity", "channel_watches"} <= item["pair"].keys()
        assert item["parts"]["retrieval"] is not None
    text = nextwatch(stack, "why", recommendation["recommendation_id"].upper()).stdout
    assert "caused by" in text
    assert "not known" in text


def test_why_of_an_id_that_nobody_knows_says_so_and_ends_with_1(stack):
    done = nextwatch(stack, "why", str(uuid.uuid4()))

    assert done.exit_code == 1
    assert "is kept" in done.stderr
    assert "\n" not in done.stderr.strip()


def test_why_of_what_is_no_uuid_is_a_usage_error(stack):
    done = nextwatch(stack, "why", "\x1b[31mred")

    assert done.exit_code == 2
    assert "\x1b[31m" not in done.output
