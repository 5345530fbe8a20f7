"""What a cluster may set as it likes: whose clock stamps records, how fast, and how large."""

import json
import time

import pytest

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.process.exit_codes import ExitCode
from contract.wire.topics import DAY_MS
from tests.slow.cluster_stacks import WORKERS, SeparateStack, keys, stack_on
from tests.slow.steady_flow import Flow, assert_nothing_was_lost
from tests.support.oracle import all_answered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RATE_BYTES = 30_000


@pytest.fixture
def cluster(tmp_path):
    with EmbeddedCluster(tmp_path / "kafka") as cluster:
        yield cluster


def test_records_stamped_by_the_broker_are_served_and_learned_as_any(tmp_path):
    """With LogAppendTime windows still go by the time of the event."""
    pytest.importorskip("torch")
    settings = {"log.message.timestamp.type": "LogAppendTime"}
    with (
        EmbeddedCluster(tmp_path / "kafka", settings=settings) as cluster,
        stack_on(cluster, *WORKERS) as stack,
        player_of(stack) as player,
    ):
        for number in range(20):
            player.upload(f"v{number}")
        player.flush()
        with Flow(stack) as flow:
            assert eventually(lambda: len(player.recommendations()) > 300, within_s=60)
        assert_nothing_was_lost(flow, player)
        yesterday = player.watch("u1", "v1", event_time_ms=system_clock() - DAY_MS)
        player.flush()
        assert player.answer_to(yesterday)

        def has_learned():
            offers = [json.loads(m.value()) for m in player.poll("model-bundles", key="bundle")]
            return any(offer["metrics"].get("progressive_examples") for offer in offers)

        assert eventually(has_learned, within_s=60)
        dead = player.poll("watch-events.dlq") + player.poll("video-uploads.dlq", key="video")
        assert not dead


def test_under_quotas_answers_come_late_and_all_of_them(cluster):
    """The broker holds clients back; no watchdog takes that for standing still."""
    quotas = f"producer_byte_rate={RATE_BYTES},consumer_byte_rate={RATE_BYTES}"
    cluster.tool(
        "kafka.admin.ConfigCommand",
        *("--alter", "--add-config", quotas, "--entity-type", "clients", "--entity-default"),
    )
    with stack_on(cluster) as stack:
        place = SeparateStack(stack)
        worker = place.worker(WATCHDOG_MS=5_000)
        worker.wait_ready()
        with player_of(place) as player:
            started_s = time.monotonic()
            sent = {player.watch(f"u{n % 40}", f"v{n}") for n in range(600)}
            player.flush()
            assert eventually(lambda: all_answered(player, sent), within_s=120), (
                worker.child.log_tail()
            )
            took_s = time.monotonic() - started_s

        assert took_s > 3, "the quotas did not bite"
        assert worker.child.is_running
        assert len(worker.logged("partitions_assigned")) == 1


def test_an_event_larger_than_the_contract_allows_is_a_dead_letter(cluster):
    """The broker takes it, since it bounds batches alone; whoever comes after it is answered."""
    with stack_on(cluster) as stack:
        place = SeparateStack(stack)
        worker = place.worker()
        worker.wait_ready()
        with player_of(place) as player:
            player.watch("large", "v", context={"note": "x" * 200_000})
            sent = {player.watch("large", "next"), player.watch("other", "next")}
            player.flush()

            assert eventually(lambda: all_answered(player, sent), within_s=30)
            assert eventually(lambda: keys(player.poll("watch-events.dlq")) == {"large"})


@pytest.mark.parametrize("name", ["trainer", "index_sync"])
def test_a_topic_that_takes_no_message_of_ours_is_named_at_the_start(cluster, name):
    """78, with the topic and the setting: starting again will not help."""
    pytest.importorskip("torch")
    with stack_on(cluster) as stack:
        place = SeparateStack(stack)
        topic = f"{place.prefix}item-vectors"
        cluster.operator.configure_topic(topic, max_message_bytes="1000")
        process = place.process(name)

        assert process.child.wait_ended(30)
        assert process.child.exit_code == ExitCode.MISCONFIGURED
        said = process.child.log_path.read_text()
        assert topic in said
        assert "max.message.bytes" in said


def test_a_topic_that_takes_no_answer_any_more_ends_the_worker_with_its_name(cluster):
    """At run time as at the start: 78, and nothing that was not answered is committed."""
    with stack_on(cluster) as stack:
        place = SeparateStack(stack)
        topic = f"{place.prefix}recommendations"
        worker = place.worker()
        worker.wait_ready()
        with player_of(place) as player:
            first = player.watch("u1", "v1")
            player.flush()
            assert player.answer_to(first)
            cluster.operator.configure_topic(topic, max_message_bytes="200")
            second = player.watch("u1", "v2")
            player.flush()
            assert worker.child.wait_ended(60)
            code, said = worker.child.exit_code, worker.child.log_path.read_text()
            cluster.operator.configure_topic(topic, max_message_bytes="1048588")
            worker.child.start()

            assert player.answer_to(second, within_s=40)
        assert code == ExitCode.MISCONFIGURED
        assert topic in said
