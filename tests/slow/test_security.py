"""SASL_SSL with SCRAM and ACLs: every client of every process, and its error when refused."""

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode
from nextwatch.embedded.process.ports import free_ports
from tests.slow.cluster_stacks import WORKERS, SeparateStack, player_at, stack_on
from tests.support.oracle import all_answered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

USER = "nextwatch"
STRANGER = "stranger"
PASSWORD = "NEXTWATCH_KAFKA_SASL_PASSWORD"
CA = "NEXTWATCH_KAFKA_SSL_CA_LOCATION"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kafka")
    users = (USER, STRANGER)
    with EmbeddedCluster(folder, protocol="SASL_SSL", users=users, has_acls=True) as cluster:
        for kind, name in (
            (ResourceType.TOPIC, "*"),
            (ResourceType.GROUP, "*"),
            (ResourceType.BROKER, "kafka-cluster"),
        ):
            cluster.operator.allow(USER, kind, name)
        yield cluster


@pytest.fixture(scope="module")
def services(cluster):
    with stack_on(cluster, user=USER) as stack:
        yield stack


@pytest.fixture
def place(services):
    return SeparateStack(services)


@pytest.fixture
def player(place, cluster):
    with player_at(place, cluster) as player:
        yield player


def refused(place, name, **env):
    """Start a process with other settings; return its exit code and what it said."""
    process = place.worker("-m", name, name=name, env=env)
    assert process.child.wait_ended(40), f"{name} did not end"
    return process.child.exit_code, process.child.log_path.read_text()


def test_every_client_of_a_whole_stack_gets_in_by_scram_over_tls(place, player):
    """Faust's aiokafka, librdkafka's consumers and producers, and the admin clients."""
    pytest.importorskip("torch")
    processes = [place.process(name) for name in WORKERS]
    for process in processes:
        process.wait_ready()
    for number in range(10):
        player.upload(f"v{number}")
    player.flush()
    assert eventually(lambda: len(player.poll("item-vectors", key="video")) >= 10, within_s=60)
    assert eventually(lambda: processes[0].logged("bundle_in_service"), within_s=60)
    sent = {player.watch(f"u{n}", f"v{n % 10}") for n in range(40)}
    player.flush()

    assert eventually(lambda: all_answered(player, sent), within_s=60)
    assert any(answer["items"] for answer in player.recommendations())


@pytest.mark.parametrize("name", WORKERS)
def test_a_wrong_password_ends_each_process_with_its_setting_named(place, name):
    """Starting again will not help: 78."""
    code, said = refused(place, name, **{PASSWORD: "wrong"})

    assert code == ExitCode.MISCONFIGURED
    assert PASSWORD in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", WORKERS)
def test_a_certificate_that_is_not_trusted_ends_each_process_with_its_setting_named(
    cluster, place, name
):
    """The file of another authority."""
    other = cluster.certificate("other").certificate
    code, said = refused(place, name, **{CA: str(other)})

    assert code == ExitCode.MISCONFIGURED
    assert CA in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", WORKERS)
def test_a_user_without_rights_is_told_so(cluster, place, name):
    """Topics that nobody may describe are not called missing."""
    code, said = refused(place, name, NEXTWATCH_KAFKA_SASL_USERNAME=STRANGER)

    assert code == ExitCode.MISCONFIGURED
    assert STRANGER in said
    assert "missing topics" not in said
    assert "Traceback" not in said


def test_a_right_taken_away_at_run_time_is_told_by_readyz_and_costs_nothing(cluster, services):
    """The store is kept, and once the right is back every event is answered."""
    reader = "reader"
    cluster.operator.add_user(reader)
    cluster.operator.allow(
        reader,
        ResourceType.TOPIC,
        "*",
        *(AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS, AclOperation.WRITE),
    )
    cluster.operator.allow(
        reader, ResourceType.GROUP, "*", AclOperation.DESCRIBE, AclOperation.READ
    )
    may_read = cluster.operator.allow(reader, ResourceType.TOPIC, "*", AclOperation.READ)
    place = SeparateStack(services)
    [port] = free_ports(1)
    user = {"NEXTWATCH_KAFKA_SASL_USERNAME": reader}
    worker = place.worker(env=user, HTTP_PORT=port)
    worker.wait_ready()
    with player_at(place, cluster) as player:
        before = {player.watch(f"u{n}", "v") for n in range(20)}
        player.flush()
        assert eventually(lambda: all_answered(player, before), within_s=30)
        cluster.operator.forbid(may_read)
        behind = {player.watch(f"u{n}", "w") for n in range(20)}
        player.flush()

        def reasons():
            return str(worker.health("/readyz")[1].get("reasons", {}))

        is_told = eventually(lambda: "watch-events" in reasons(), within_s=20)
        cluster.operator.allow(reader, ResourceType.TOPIC, "*", AclOperation.READ)
        assert eventually(lambda: all_answered(player, behind), within_s=60), (
            worker.child.log_tail()
        )
    assert is_told
    assert not worker.logged("store_discarded")
