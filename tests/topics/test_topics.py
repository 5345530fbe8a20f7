"""Topics: created once, compared for ever."""

import os
from concurrent.futures import Future
from functools import partial

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from benchmarks.stack.waiting import eventually
from contract.cluster.cluster import Cluster
from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import client_config, error_of
from contract.process.settings import KafkaSettings
from contract.wire.topics import NOT_AFTER, TOPICS, WATCH_EVENTS, Layout
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.creation import create as create_topics
from nextwatch.topics.findings import Outcome, WantedTopic
from nextwatch.topics.topics import reconcile, wanted_topics


@pytest.fixture
def settings(tmp_path):
    """Settings of an empty broker."""
    broker = EmbeddedBroker(env=dict(os.environ), log_path=tmp_path / "broker.log")
    broker.start()
    yield KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers, user_partitions=3, video_partitions=2
    )
    broker.child.stop()


def create(settings, name, num_partitions, **config):
    """Create one topic behind the back of the contract."""
    admin = AdminClient(client_config(settings))
    new = NewTopic(name, num_partitions, 1, config=config)
    admin.create_topics([new])[name].result(10)


def alter(settings, topic, **config):
    """Set what an operator would set, and wait until the broker shows it."""
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient(client_config(settings))
    admin.incremental_alter_configs([resource])[resource].result(10)
    assert eventually(lambda: config.items() <= settings_of(settings, topic).items())


def settings_of(settings, topic):
    """Return the settings of a topic as the broker has them."""
    cluster = Cluster(AdminClient(client_config(settings)))
    return cluster.settings(ResourceType.TOPIC, [topic])[topic]


def outcomes(findings, topic, what):
    """Return what came of one property of one topic."""
    return [f.outcome for f in findings if (f.topic, f.what) == (topic, what)]


def test_every_dead_lettering_topic_has_its_twin():
    """The dead-letter topics are those that somebody writes to, as wide as their source."""
    names = {topic.name: topic.num_partitions for topic in wanted_topics(Layout(prefix="x-"))}
    expected = {f"x-{topic.dlq}" for topic in TOPICS if topic.dead_lettered_by}

    assert {name for name in names if name.endswith(".dlq")} == expected
    assert names["x-watch-events"] == names["x-watch-events.dlq"] == 8


def test_batches_of_default_producers_fit_every_topic():
    """The broker's bound is on a batch: a small one would refuse many small events together."""
    for topic in wanted_topics(Layout()):
        assert int(topic.config["max.message.bytes"]) >= 1_000_000


def test_empty_broker_gets_all_topics(settings):
    """What is missing is created, as wide as the settings say."""
    findings = reconcile(settings)
    topics = AdminClient(client_config(settings)).list_topics(timeout=5).topics

    assert {finding.outcome for finding in findings} == {Outcome.CREATED}
    assert len(topics["watch-events"].partitions) == 3
    assert len(topics["video-uploads"].partitions) == 2
    assert len(topics) == len(wanted_topics(settings.layout))


def test_second_run_changes_nothing(settings):
    """Running it twice is running it once."""
    reconcile(settings)

    assert {finding.outcome for finding in reconcile(settings)} == {Outcome.SAME}


def test_check_changes_nothing(settings):
    """With check, what is missing is only told."""
    findings = reconcile(settings, is_check=True)

    assert {finding.outcome for finding in findings} == {Outcome.MISSING}
    assert AdminClient(client_config(settings)).list_topics(timeout=5).topics == {}


def test_wrong_setting_is_mended(settings):
    """A setting can be set right without harm to the records."""
    create(settings, WATCH_EVENTS.name, 3, **{"cleanup.policy": "compact"})
    checked = reconcile(settings, is_check=True)
    mended = reconcile(settings)

    assert outcomes(checked, "watch-events", "cleanup.policy") == [Outcome.DIFFERS]
    assert outcomes(mended, "watch-events", "cleanup.policy") == [Outcome.MENDED]
    assert outcomes(reconcile(settings), "watch-events", "cleanup.policy") == [Outcome.SAME]


def test_records_of_a_far_future_are_refused_on_topics_that_others_write(settings):
    """Who is stricter may be; a cluster that allows more is set right."""
    create(settings, "watch-events", 3, **{NOT_AFTER: "60000"})
    create(settings, "search-events", 3, **{NOT_AFTER: "9223372036854775807"})
    findings = reconcile(settings)
    again = reconcile(settings, is_check=True)

    assert outcomes(findings, "watch-events", NOT_AFTER) == [Outcome.SAME]
    assert outcomes(findings, "search-events", NOT_AFTER) == [Outcome.MENDED]
    for topic in TOPICS:
        expected = [Outcome.SAME] if topic.is_from_outside else []
        assert outcomes(again, topic.name, NOT_AFTER) == expected


def test_a_broker_that_does_not_know_a_setting_gets_its_topics_without_it(settings, monkeypatch):
    """Kafka before 3.6: the first creation is refused, and nothing is set that it does not tell."""
    unknown = "message.timestamp.of.tomorrow"
    monkeypatch.setattr("nextwatch.topics.topics.NOT_AFTER", unknown)
    monkeypatch.setattr("nextwatch.topics.creation.NOT_AFTER", unknown)
    one = WantedTopic("watch-events", 1, {"cleanup.policy": "delete", unknown: "1"})
    monkeypatch.setattr("nextwatch.topics.topics.wanted_topics", lambda _layout: [one])

    created, again = reconcile(settings), reconcile(settings)

    assert [finding.outcome for finding in created] == [Outcome.CREATED]
    assert outcomes(again, "watch-events", "cleanup.policy") == [Outcome.SAME]
    assert outcomes(again, "watch-events", unknown) == [Outcome.NOT_CHECKED]


def test_setting_that_the_broker_does_not_tell_is_not_guessed(settings, monkeypatch):
    """Unknown is neither right nor wrong, and is said as such."""
    create(settings, WATCH_EVENTS.name, 3)
    monkeypatch.setattr(Cluster, "settings", lambda self, kind, names: {})

    found = outcomes(reconcile(settings, is_check=True), "watch-events", "cleanup.policy")
    assert found == [Outcome.NOT_CHECKED]


def test_partition_count_is_only_reported(settings):
    """Adding partitions moves keys, so a person must decide; the remedy is one that works."""
    create(settings, WATCH_EVENTS.name, 1)
    [alone] = [f for f in reconcile(settings, is_check=True) if f.outcome is Outcome.DIFFERS]
    findings = [f for f in reconcile(settings) if f.is_bad]

    assert [(f.topic, f.what, f.wanted, f.found) for f in findings] == [
        ("watch-events", "partitions", "3", "1")
    ]
    assert "NEXTWATCH_KAFKA_USER_PARTITIONS=1" in alone.remedy
    assert "nextwatch repartition 3" in findings[0].remedy


@pytest.mark.parametrize(
    ("topic", "name", "raised"),
    [
        ("watch-events", "max.message.bytes", "5000000"),
        ("nextwatch-streams-windows", "delete.retention.ms", "2592000000"),
        ("nextwatch-streams-windows", "cleanup.policy", "compact,delete"),
        ("watch-events.dlq", "retention.ms", "-1"),
    ],
)
def test_a_setting_that_an_operator_raised_stays(settings, topic, name, raised):
    """The contract wants at least so much; it was lowered as "mended" before."""
    reconcile(settings)
    alter(settings, topic, **{name: raised})

    assert outcomes(reconcile(settings), topic, name) == [Outcome.SAME]
    assert settings_of(settings, topic)[name] == raised


def test_a_setting_below_the_wanted_one_is_raised(settings):
    reconcile(settings)
    alter(settings, "item-vectors", **{"max.message.bytes": "1000"})

    assert outcomes(reconcile(settings), "item-vectors", "max.message.bytes") == [Outcome.MENDED]
    assert settings_of(settings, "item-vectors")["max.message.bytes"] == "1048588"


def test_the_number_of_replicas_is_the_clusters_own_unless_it_is_set(settings):
    """One node cannot have more: what is set and not met is told with the way to mend it."""
    reconcile(settings)
    three = settings.model_copy(update={"replication_factor": 3})
    [finding] = [f for f in reconcile(three) if (f.topic, f.what) == ("impressions", "replicas")]

    assert settings.replication_factor == -1
    assert outcomes(reconcile(settings), "impressions", "replicas") == [Outcome.SAME]
    assert (finding.wanted, finding.found, finding.outcome) == ("3", "1", Outcome.DIFFERS)
    assert "kafka-reassign-partitions" in finding.remedy


def test_more_replicas_in_sync_than_there_are_are_reported(settings):
    """Nothing could be written, and nobody would know why."""
    reconcile(settings)
    alter(settings, "impressions", **{"min.insync.replicas": "2"})

    assert outcomes(reconcile(settings), "impressions", "min.insync.replicas") == [Outcome.DIFFERS]


def test_choices_with_consequences_are_noted_and_left(settings):
    reconcile(settings)
    chosen = {"retention.ms": "3600000", "message.timestamp.type": "LogAppendTime"}
    alter(settings, "watch-events", **chosen)
    findings = reconcile(settings)

    assert {f.what for f in findings if f.outcome is Outcome.NOTED} == chosen.keys()
    assert not any(finding.is_bad for finding in findings)
    assert chosen.items() <= settings_of(settings, "watch-events").items()


def test_what_is_created_by_the_clusters_own_number_of_replicas_is_compared_too(
    settings, monkeypatch
):
    """Without the right to read the broker's settings that number is known only afterwards."""
    monkeypatch.setattr("nextwatch.topics.topics._num_replicas", lambda *_: None)
    monkeypatch.setattr("nextwatch.topics.topics.least_in_sync", lambda num: 2 if num else 1)
    one = WantedTopic("impressions", 3, {"cleanup.policy": "delete"})
    monkeypatch.setattr("nextwatch.topics.topics.wanted_topics", lambda _layout: [one])

    findings = reconcile(settings)

    assert [(f.what, f.outcome) for f in findings] == [
        ("topic", Outcome.CREATED),
        ("min.insync.replicas", Outcome.MENDED),
    ]
    assert settings_of(settings, "impressions")["min.insync.replicas"] == "2"


class FreshBroker:
    """An admin client of a broker that answers the creation of topics in a few different ways."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def create_topics(self, new, **_):
        error = self.answers.pop(0)
        future = Future()
        if isinstance(error, KafkaError):
            future.set_exception(KafkaException(error))
        elif error is not TimeoutError:
            future.set_result(None)
        return {topic.topic: future for topic in new}


FENCED = KafkaError(
    KafkaError.INVALID_REPLICATION_FACTOR,
    "Unable to replicate the partition 1 time(s): All brokers are currently fenced.",
)
ONE = WantedTopic("impressions", 1, {})


@pytest.fixture
def hurried(monkeypatch):
    """Wait for nobody."""
    monkeypatch.setattr("nextwatch.topics.creation._AGAIN_S", 0)
    monkeypatch.setattr("nextwatch.topics.creation._TIMEOUT_S", -4.9)


@pytest.mark.parametrize("answer", [FENCED, KafkaError(KafkaError._TIMED_OUT), TimeoutError])
def test_a_broker_that_is_not_in_use_yet_is_asked_again(monkeypatch, answer):
    monkeypatch.setattr("nextwatch.topics.creation._AGAIN_S", 0)
    monkeypatch.setattr("nextwatch.topics.creation._TIMEOUT_S", 5.0)
    monkeypatch.setattr("nextwatch.topics.creation.request_error", partial(error_of, within_s=0))
    broker = FreshBroker(answer, answer, None)

    create_topics(broker, [ONE], replication_factor=1)

    assert broker.answers == []


@pytest.mark.parametrize("answer", [FENCED, TimeoutError])
@pytest.mark.usefixtures("hurried")
def test_a_broker_that_never_creates_a_topic_is_reported_in_one_line(answer):
    with pytest.raises(BrokerUnavailable, match="the broker did not create impressions"):
        create_topics(FreshBroker(answer), [ONE], replication_factor=1)


@pytest.mark.usefixtures("hurried")
def test_a_lasting_error_is_reported_at_once():
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(ContractError, match="impressions"):
        create_topics(FreshBroker(refused), [ONE], replication_factor=1)


@pytest.mark.slow
def test_silent_broker_is_named(monkeypatch):
    """The error says where nobody answered, and what to do."""
    monkeypatch.setattr("contract.cluster.preflight.PATIENCE_S", 0.3)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1.*nextwatch stack up"):
        reconcile(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
