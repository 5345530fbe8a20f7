"""The only broker goes, in order or not, and comes back: nothing is lost, no help needed."""

import pytest

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.outages import ABOUT_BROKER, error_lines
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from tests.slow.cluster_stacks import WORKERS, stack_on
from tests.slow.steady_flow import Flow, assert_nothing_was_lost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def cluster(tmp_path):
    with EmbeddedCluster(tmp_path / "kafka") as cluster:
        yield cluster


@pytest.mark.parametrize("is_killed", [False, True], ids=["restarted", "killed"])
def test_a_broker_that_goes_three_times_costs_nothing(cluster, is_killed):
    """Streams, trainer and index_sync live through it; windows are as if it had not been."""
    pytest.importorskip("torch")
    with stack_on(cluster, *WORKERS) as stack, player_of(stack) as player:
        player.upload("v0")
        player.flush()
        with Flow(stack) as flow:
            for _ in range(3):
                num_before = len(player.recommendations())
                wanted = num_before + 50
                assert eventually(lambda: len(player.recommendations()) > wanted, within_s=60), (  # noqa: B023
                    stack.process("streams").log_tail()
                )
                cluster.restart(1, is_killed=is_killed)
        assert_nothing_was_lost(flow, player)
        player.upload("late")
        player.flush()

        def is_indexed():
            return any(m.key() == b"late" for m in player.poll("item-vectors", key="video"))

        assert eventually(is_indexed, within_s=60), stack.process("index_sync").exit_report()
        for name in WORKERS:
            assert stack.process(name).is_running, stack.process(name).exit_report()
        errors = list(error_lines(stack.directory / "logs"))
    assert [line for line in errors if not ABOUT_BROKER.search(line)] == []
