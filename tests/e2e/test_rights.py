"""On a cluster with access control the rights that `nextwatch acls` prints are enough."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from contract.cluster.needs import needs_of
from contract.cluster.preflight import Preflight
from contract.errors import BrokerUnavailable, ContractError
from contract.process.clock import system_clock
from contract.process.exit_codes import ExitCode
from contract.process.settings import KafkaSettings, load
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.stack import EmbeddedStack
from tests.support.brokers import SecuredBroker
from tests.support.web import running_gateway

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.long]

PROCESSES = ("streams", "trainer", "index_sync")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with SecuredBroker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


@pytest.fixture(scope="module")
def port():
    return free_ports(1)[0]


class Outside:
    """Looks like a stack to a `Player`, who may do everything."""

    def __init__(self, kafka):
        self.kafka = kafka
        self.bootstrap_servers = kafka.bootstrap_servers


@pytest.fixture(scope="module")
def stack(broker, port):
    """All processes, each with a user of its own."""
    users = {
        app: {"NEXTWATCH_KAFKA_SASL_USERNAME": app, "NEXTWATCH_STREAMS_HTTP_PORT": str(port)}
        for app in PROCESSES
    }
    stack = EmbeddedStack(
        os.environ,
        processes=("index", *PROCESSES),
        is_supervised=False,
        publish_every_s=5.0,
        env=broker.env("streams"),
        env_of=users,
    )
    stack.start(timeout_s=150)
    yield stack
    stack.stop()


@pytest.fixture
def player(broker, stack):
    with player_of(Outside(broker.unbound)) as player:
        yield player


def run(broker, app, *arguments):
    """Run a command as its user."""
    return subprocess.run(
        [sys.executable, "-m", "nextwatch", *arguments],
        env=inherited(os.environ) | broker.env(app),
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def ready(port):
    """Return the status of streams' readiness and its reasons."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2)
    except httpx.TransportError:
        return 0, {}
    return answer.status_code, answer.json()["reasons"]


def test_the_whole_stack_runs_with_exactly_the_rights_that_are_printed(broker, player, port):
    """Uploads become findable, watches are answered, bundles come into service."""
    for number in range(10):
        player.upload(f"v{number}")
    player.flush()
    assert eventually(lambda: ready(port)[0] == 200, within_s=60), ready(port)

    def answered():
        return player.answer_to(player.watch("u1", "v1"), within_s=30)["items"]

    assert eventually(answered, within_s=60), "uploads do not become findable"


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        ("topics", ["topics"]),
        ("dlq", ["dlq", "list"]),
        ("dlq", ["dlq", "replay", "--yes"]),
        ("erase", ["erase", "u1"]),
        ("simulate", ["simulate", "--seconds", "2", "--rate", "5"]),
    ],
)
def test_every_command_runs_with_exactly_the_rights_that_are_printed(broker, stack, app, arguments):
    done = run(broker, app, *arguments)

    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.usefixtures("stack")
def test_the_doctor_sees_all_of_the_broker_with_exactly_the_rights_that_are_printed(broker):
    """Settings of the cluster and the index are not asked about here."""
    done = run(broker, "doctor", "doctor", "--json")

    found = json.loads(done.stdout)["findings"]
    asked = [one for one in found if one["check"] in ("topics", "partitions", "clock")]
    assert len(asked) >= 4, done.stderr
    assert [one for one in asked if one["health"] == "wrong"] == []


def test_the_doctor_tells_of_a_wrong_password_and_does_not_show_it(broker):
    environ = inherited(os.environ) | broker.env("doctor")
    done = subprocess.run(
        [sys.executable, "-m", "nextwatch", "doctor", "--json"],
        env=environ | {"NEXTWATCH_KAFKA_SASL_PASSWORD": "not-the-password"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )

    found = json.loads(done.stdout)["findings"]
    [kafka] = [one for one in found if (one["check"], one["what"]) == ("connections", "Kafka")]
    assert kafka["health"] == "wrong"
    assert "NEXTWATCH_KAFKA_SASL_PASSWORD" in kafka["remedy"]
    assert "not-the-password" not in done.stdout + done.stderr


def test_why_explains_with_exactly_the_rights_that_are_printed(broker, player):
    answer = player.answer_to(player.watch("u1", "v1"), within_s=30)

    done = run(broker, "why", "why", answer["recommendation_id"], "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["causes"][0]["video_id"] == "v1"


def test_the_gateway_serves_with_exactly_the_rights_that_are_printed(broker, stack):
    """Each topic that it writes and reads is used once."""
    with running_gateway(stack, env=broker.env("gateway")) as gateway:
        upload = {"video_id": "v1", "uploaded_at_ms": system_clock()}
        event = {"event_id": "e1", "user_id": "u1", "event_time_ms": system_clock()}
        shown = {"videos": [{"video_id": "v1", "position": 0}]}
        posted = [
            gateway.post_watch("u1"),
            gateway.client.post("/v1/events/search", json=event | {"query": "cats"}),
            gateway.client.post("/v1/events/impressions", json=event | shown),
            gateway.client.post("/v1/videos", json=upload),
        ]
        caused = gateway.client.get(posted[0].json()["recommendations"] + "&wait_ms=10000")
        asked = gateway.recommendations("new", wait_ms=10_000)

    assert [answer.status_code for answer in posted] == [202] * 4
    assert caused.headers["nextwatch-answers-event"] == "true"
    assert asked.status_code == 200


@pytest.mark.parametrize(
    ("app", "resource", "name", "right"),
    [
        ("streams", "topic", "s-watch-events", "Read"),
        ("streams", "topic", "s-recommendations", "Write"),
        ("streams", "topic", "s-nextwatch-streams-windows", "DescribeConfigs"),
        ("streams", "group", "s-nextwatch-streams", "Read"),
        ("trainer", "topic", "s-impressions", "Read"),
        ("trainer", "topic", "s-item-vectors", "Write"),
        ("trainer", "group", "s-nextwatch-trainer", "Read"),
        ("index_sync", "topic", "s-video-uploads", "Read"),
        ("index_sync", "topic", "s-video-uploads.dlq", "Write"),
        ("index_sync", "group", "s-nextwatch-index-sync", "Read"),
    ],
)
def test_each_right_that_is_missing_is_named(broker, app, resource, name, right):
    """With user, operation and resource; it is not taken for a missing topic or a silent broker."""
    kafka = load(KafkaSettings, broker.env(app))
    preflight = Preflight(kafka, needs_of(app, kafka.layout))
    assert eventually(lambda: preflight.look() == [])
    grant = broker.revoke(app, resource, name, right)
    preflight.doubt_group()  # as it is at a start, and after a refusal
    try:
        assert eventually(preflight.look)
        with pytest.raises(ContractError) as refused:
            preflight.check()
    finally:
        broker.grant([grant])

    told = str(refused.value)
    assert f"user {app} lacks the rights" in told
    assert right in told
    assert f"{resource} {name}" in told
    assert "missing topics" not in told


def test_a_group_is_asked_for_only_while_it_is_in_doubt(broker):
    """A request to a coordinator may end the process when the connection is lost just then."""
    kafka = load(KafkaSettings, broker.env("trainer"))
    preflight = Preflight(kafka, needs_of("trainer", kafka.layout))
    preflight.check()
    grant = broker.revoke("trainer", "group", "s-nextwatch-trainer", "Read")
    try:
        assert preflight.look() == []
        preflight.doubt_group()
        assert eventually(preflight.look)
        assert preflight.look(), "what was found wrong is looked at again"
    finally:
        broker.grant([grant])
    assert eventually(lambda: preflight.look() == [])


@pytest.mark.parametrize(
    ("app", "arguments", "name", "right"),
    [
        ("dlq", ["dlq", "list"], "s-watch-events.dlq", "Read"),
        ("erase", ["erase", "u1", "--check"], "s-watch-events", "Read"),
        ("topics", ["topics", "--check"], "s-watch-events", "Describe"),
        ("simulate", ["simulate", "--seconds", "1"], "s-watch-events", "Write"),
    ],
)
def test_a_command_without_a_right_says_so_in_one_line(broker, app, arguments, name, right):
    grant = broker.revoke(app, "topic", name, right)
    for other in set(grant.rights) - {right}:  # some of them include the one that is taken
        broker.revoke(app, "topic", name, other)
    try:
        done = run(broker, app, *arguments)
    finally:
        broker.grant([grant])

    [line] = done.stderr.strip().splitlines()
    assert done.returncode == ExitCode.MISCONFIGURED
    assert right in line
    assert name in line
    assert "nextwatch acls" in line


def test_a_wrong_password_is_no_silent_broker(broker):
    wrong = {"NEXTWATCH_KAFKA_SASL_PASSWORD": "wrong"}
    kafka = load(KafkaSettings, broker.env("streams") | wrong)

    with pytest.raises(ContractError, match="NEXTWATCH_KAFKA_SASL_PASSWORD"):
        Preflight(kafka, needs_of("streams", kafka.layout)).check(patience_s=5)
    away = Preflight(
        kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}),
        needs_of("streams", kafka.layout),
    )
    with pytest.raises(BrokerUnavailable):
        away.check(patience_s=0.3)


@pytest.mark.parametrize(
    ("resource", "name"), [("topic", "s-watch-events"), ("group", "s-nextwatch-streams")]
)
def test_a_right_that_is_taken_away_makes_a_worker_not_ready_until_it_is_back(
    broker, stack, player, port, resource, name
):
    """With the reason; the worker lives, keeps its store, and goes on where it was."""
    worker = stack.process("streams")
    assert eventually(lambda: ready(port)[0] == 200, within_s=60), ready(port)
    grant = broker.revoke("streams", resource, name, "Read")
    try:
        assert eventually(lambda: "cluster_fits" in ready(port)[1], within_s=20)
        _, reasons = ready(port)
    finally:
        broker.grant([grant])

    assert f"Read on {resource} {name}" in reasons["cluster_fits"]
    assert eventually(lambda: ready(port)[0] == 200, within_s=40), (ready(port), worker.log_tail())
    assert player.answer_to(player.watch("u2", "v1"), within_s=30)
    assert worker.is_running


@contextmanager
def ends_without(broker, stack, app, topic, right):
    """Take *right* away while the block runs; *app* has to end and name the topic."""
    process = stack.process(app)
    process.kill()  # it may be about to end for a right that another test took away
    process.start()
    process.wait_ready(60)
    grant = broker.revoke(app, "topic", topic, right)
    try:
        yield
        has_ended, exit_code, told = process.wait_ended(60), process.exit_code, process.log_tail()
    finally:
        broker.grant([grant])
        process.start()
        process.wait_ready(60)
    assert has_ended
    assert exit_code == ExitCode.MISCONFIGURED
    assert "TOPIC_AUTHORIZATION_FAILED" in told
    assert topic in told


def test_a_worker_that_may_no_longer_answer_ends_and_says_why(broker, stack, player):
    """What was not acknowledged is not committed, and comes again."""
    with ends_without(broker, stack, "streams", "s-recommendations", "Write"):
        player.watch("u3", "v1")
        player.flush()


@pytest.mark.parametrize(
    ("app", "name"), [("trainer", "s-impressions"), ("index_sync", "s-item-vectors")]
)
def test_a_process_that_assigns_itself_its_partitions_ends_without_the_right_to_read(
    broker, stack, app, name
):
    with ends_without(broker, stack, app, name, "Read"):
        pass
