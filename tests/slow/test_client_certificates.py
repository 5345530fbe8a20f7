"""TLS on both sides: the broker asks every client for a certificate."""

import pytest

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode
from tests.slow.cluster_stacks import WORKERS, SeparateStack, player_at, stack_on
from tests.support.oracle import all_answered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

USER = "nextwatch"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kafka")
    with EmbeddedCluster(folder, protocol="SSL", users=(USER,)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def place(cluster):
    with stack_on(cluster, user=USER) as stack:
        yield SeparateStack(stack)


def test_every_client_of_a_whole_stack_shows_its_certificate(cluster, place):
    """Streams answers, and what trainer and index_sync make of uploads is there."""
    pytest.importorskip("torch")
    processes = [place.process(name) for name in WORKERS]
    for process in processes:
        process.wait_ready()
    with player_at(place, cluster) as player:
        player.upload("v1")
        sent = {player.watch(f"u{n}", "v1") for n in range(20)}
        player.flush()

        assert eventually(lambda: all_answered(player, sent), within_s=60)
        assert eventually(lambda: player.poll("item-vectors", key="video"), within_s=60)


@pytest.mark.parametrize("name", WORKERS)
def test_a_client_whose_certificate_the_broker_does_not_trust_is_told_so(
    cluster, place, name, tmp_path
):
    """In one line, with the setting; never a traceback."""
    other = cluster.certificate("other")
    env = {
        "NEXTWATCH_KAFKA_SSL_CERTIFICATE_LOCATION": str(other.certificate),
        "NEXTWATCH_KAFKA_SSL_KEY_LOCATION": str(other.key),
        "NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(tmp_path),  # that of the place is the first one's
    }
    process = place.worker("-m", name, name=f"other-{name}", env=env)

    assert process.child.wait_ended(40)
    said = process.child.log_path.read_text()
    assert process.child.exit_code == ExitCode.MISCONFIGURED
    assert "NEXTWATCH_KAFKA_SSL_CERTIFICATE_LOCATION" in said
    assert "Traceback" not in said
