"""Real processes are scraped during traffic, and what they show is what the traffic was."""

import re
from collections import Counter

import httpx
import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.prefixed_stack import PrefixedStack
from benchmarks.stack.waiting import eventually
from contract.metrics.definitions import METRICS
from contract.metrics.metric import LOOPS
from tests.support.bundles import offer_bundle
from tests.support.metrics_page import scraped
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

USERS = [f"user-who-is-in-no-label-{number}" for number in range(40)]
BAD = (b"{", b'{"event_id": 1}', b"")
NO_LAG = 0.0


@pytest.fixture(scope="module")
def services():
    """A broker and an index; each test starts its own workers."""
    with running_stack("embedded", processes=()) as stack:
        yield stack


@pytest.fixture(scope="module")
def whole():
    """Every process, as `nextwatch stack up` starts them."""
    with running_stack("embedded", publish_every_s=5.0) as stack:
        yield stack


def ready(url):
    return httpx.get(f"{url}/readyz", timeout=5).status_code


def lag(url):
    """Return all records that are not done, over all partitions."""
    return scraped(url).total("nextwatch_consumer_lag_records")


def labels_of(page, metric):
    """Return the sets of labels that the series of *metric* have, without those of buckets."""
    samples = [s for family in page.families for s in family.samples if s.name in metric.series]
    return {frozenset(set(sample.labels) - {"le"}) for sample in samples}


def test_a_worker_counts_what_it_did_with_the_traffic(services):
    """Recommendations, dead letters, degraded answers, latency and lag are those of the topics."""
    place = PrefixedStack(services)
    worker = place.worker()
    worker.wait_ready()
    url = worker.status_url
    with player_of(place) as player:
        before = ready(url)
        asked = {player.watch(user, "cooking0") for user in USERS}
        for body in BAD:
            for _ in range(2):
                player.produce("watch-events", USERS[0], body)
        player.flush()
        assert eventually(lambda: answered(player) >= asked, within_s=30)
        offer_bundle(place, player)
        became_ready = eventually(lambda: ready(url) == 200, within_s=30)
        again = {player.watch(user, "cooking1") for user in USERS}
        player.flush()
        assert eventually(lambda: answered(player) >= asked | again, within_s=30)
        letters = eventually(lambda: six(player.poll("watch-events.dlq")), within_s=15)
        assert eventually(lambda: lag(url) == NO_LAG, within_s=15)
        page, told = scraped(url), player.recommendations()

    assert (before, became_ready) == (503, True)
    streams = "nextwatch_streams"
    assert page.value(f"{streams}_recommendations_total") == len(told)
    assert page.value(f"{streams}_records_total", topic="watch-events") == 80 + len(letters)
    degraded = Counter(word for one in told for word in one["degraded"])
    assert page.by_label(f"{streams}_degraded_recommendations_total", "reason") == degraded
    assert degraded["no_bundle"] == len(USERS)
    reasons = Counter(
        dict(letter.headers())["dlq.reason"].decode().split(":")[0] for letter in letters
    )
    assert page.by_label("nextwatch_dead_letters_total", "reason") == reasons
    assert page.value(f"{streams}_event_to_recommendation_seconds_count") == len(asked | again)
    assert 0 < page.value(f"{streams}_event_to_recommendation_seconds_sum") < 80 * 30
    batches = page.value(f"{streams}_batch_records_count")
    assert page.value(f"{streams}_stage_seconds_count", stage="settle") == batches
    assert page.value(f"{streams}_batch_records_sum") == page.total(f"{streams}_records_total")
    assert page.value("nextwatch_generation_in_service") == told[-1]["generation"] > 0
    assert page.value(f"{streams}_bundle_loads_total") == 1
    assert page.value(f"{streams}_partitions_owned") == 4
    assert page.total("nextwatch_consumer_lag_seconds") == NO_LAG
    assert page.value("nextwatch_ready") == 1
    assert not any(user in httpx.get(f"{url}/metrics").text for user in USERS)


def complete(page, names):
    """Return *page* if it has all of *names*: the trainer measures every ten seconds."""
    return page if names <= page.names else None


def answered(player):
    return {event for one in player.recommendations() for event in one["caused_by"]}


def six(letters):
    return letters if len(letters) == 2 * len(BAD) else []


def test_a_bundle_that_is_refused_is_counted_by_its_reason(services):
    """The alert says what is wrong with it."""
    place = PrefixedStack(services)
    worker = place.worker()
    worker.wait_ready()
    with player_of(place) as player:
        offer_bundle(place, player, manifest_sha256="0" * 64)
        refused = "nextwatch_bundles_refused_total"
        assert eventually(
            lambda: scraped(worker.status_url).by_label(refused, "reason"), within_s=20
        ) == {"not_announced": 1}


def test_a_backlog_is_counted_once_and_its_latency_from_when_it_came(services):
    """A worker that was away shows how long its viewers waited."""
    place = PrefixedStack(services)
    first = place.worker(name="first")
    first.wait_ready()
    with player_of(place) as player:
        player.answer_to(player.watch(USERS[0], "v1"))
        first.child.stop()
        for user in USERS:
            player.watch(user, "v2")
        player.flush()
        second = place.worker(name="second")
        second.wait_ready()
        assert eventually(lambda: len(answered(player)) == 1 + len(USERS), within_s=30)
        assert eventually(lambda: lag(second.status_url) == NO_LAG, within_s=15)
        page = scraped(second.status_url)

    latency = "nextwatch_streams_event_to_recommendation_seconds"
    assert page.value(f"{latency}_count") == len(USERS)
    assert page.value(f"{latency}_sum") / len(USERS) > 0.25, "it starts in less than that?"


def test_each_process_of_a_stack_has_a_port_and_shows_what_it_did(whole):
    """Uploads, watches and generations are those of the topics; nothing waits in the end."""
    videos = [f"m{number}" for number in range(30)]
    urls = whole.status_urls
    with player_of(whole) as player:
        for video in videos:
            player.upload(video)
        player.flush()
        sent = [player.watch(user, video) for user in USERS for video in videos[:5]]
        player.produce("impressions", USERS[0], b"{")
        player.flush()
        assert eventually(lambda: answered(player) >= set(sent), within_s=60)
        assert eventually(lambda: all(ready(url) == 200 for url in urls.values()), within_s=60)
        assert eventually(lambda: all(lag(url) == NO_LAG for url in urls.values()), within_s=60)
        trained = eventually(
            lambda: scraped(urls["trainer"]).total("nextwatch_trainer_examples_total") > 0,
            within_s=60,
        )
        pages = {name: scraped(url) for name, url in urls.items()}

    assert set(urls) == set(LOOPS)
    assert len(set(urls.values())) == 3
    index, trainer = pages["index_sync"], pages["trainer"]
    assert index.value("nextwatch_index_uploads_total") == len(videos)
    assert index.value("nextwatch_index_videos") == len(videos)
    assert index.value("nextwatch_index_upload_to_indexed_seconds_count") == len(videos)
    assert index.value("nextwatch_index_staleness_seconds") == NO_LAG
    assert trained
    assert trainer.value("nextwatch_trainer_records_total", topic="watch-events") == len(sent)
    assert trainer.value("nextwatch_trainer_records_total", topic="video-uploads") >= len(videos)
    assert trainer.by_label("nextwatch_dead_letters_total", "reason") == {"json": 1}
    assert trainer.value("nextwatch_trainer_bundles_offered_total") >= 1
    for page in pages.values():
        assert page.value("nextwatch_ready") == 1
        assert page.value("process_resident_memory_bytes") > 20_000_000


def test_every_metric_is_served_with_the_labels_of_its_definition(whole):
    """And nothing is served that the page of metrics does not have."""
    known = {name for metric in METRICS for name in metric.series}
    for process, url in whole.status_urls.items():
        mine = [metric for metric in METRICS if process in metric.processes]
        always = {m.name for m in mine if m.kind == "counter"}
        page = eventually(lambda url=url, names=always: complete(scraped(url), names), within_s=40)
        assert page, f"not at 0 before they rise: {always - scraped(url).names}"

        assert page.names <= known
        for metric in mine:
            assert labels_of(page, metric) <= {frozenset(metric.labels)}
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", httpx.get(f"{url}/metrics").text)
