"""What a cluster lacks, in one line each: what, where, and the remedy."""

from dataclasses import replace

import pytest

from contract.cluster.cluster import Cluster, FoundGroup, FoundTopic
from contract.cluster.needs import Right, needs_of, topics_by_name
from contract.cluster.preflight import check_cluster
from contract.cluster.topic_settings import dlq_settings, wanted_settings
from contract.cluster.trouble import Found, lacks, troubles
from contract.errors import BrokerUnavailable, ContractError
from contract.process.settings import KafkaSettings
from contract.wire.topics import OUR_PROCESSES, Layout
from nextwatch.topics.topics import wanted_topics

KAFKA = KafkaSettings(topic_prefix="p-", user_partitions=4, video_partitions=2)
LAYOUT = KAFKA.layout
ALL_RIGHTS = frozenset(Right)
BROKER = {"group.min.session.timeout.ms": "6000", "group.max.session.timeout.ms": "1800000"}


def found(layout=LAYOUT, **changes):
    """Return a cluster as `nextwatch topics` makes it, but for what *changes* in a topic."""
    known = topics_by_name(layout)
    topics = {}
    for wanted in wanted_topics(layout):
        topic, is_dlq = known[wanted.name]
        settings = dlq_settings() if is_dlq else wanted_settings(topic)
        topics[wanted.name] = FoundTopic(
            wanted.num_partitions, 3, rights=ALL_RIGHTS, settings=settings
        )
    for name, fields in changes.items():
        full_name = "p-" + name.replace("_", "-")
        topics[full_name] = replace(topics[full_name], **fields)
    return Found(topics, FoundGroup(ALL_RIGHTS), BROKER)


def texts(on, app="streams", kafka=KAFKA):
    """Return what *app* is told of the cluster *on*."""
    return [trouble.text for trouble in troubles(needs_of(app, kafka.layout), on, kafka)]


def settings_of(name):
    """Return the wanted settings of a topic."""
    return found().topics["p-" + name].settings


@pytest.mark.parametrize("app", sorted(OUR_PROCESSES))
def test_what_nextwatch_topics_creates_is_enough_for_every_process(app):
    assert texts(found(), app) == []


def test_missing_topics_are_named_together_with_the_remedy():
    on = found()
    topics = {
        n: t for n, t in on.topics.items() if n not in ("p-recommendations", "p-watch-events")
    }

    assert texts(replace(on, topics=topics)) == [
        "missing topics: p-recommendations, p-watch-events (`nextwatch topics` creates them)"
    ]


def test_a_topic_that_may_not_be_described_is_a_missing_right_not_a_missing_topic():
    [text] = texts(found(watch_events={"is_denied": True, "rights": None, "settings": None}))

    assert text == (
        "the anonymous user lacks the rights DescribeConfigs and Read on topic p-watch-events "
        "(`nextwatch acls streams` prints all that are needed)"
    )


def test_each_missing_right_is_named_with_user_operation_and_resource():
    kafka = KAFKA.model_copy(update={"sasl_username": "worker"})
    on = found(
        recommendations={"rights": ALL_RIGHTS - {Right.WRITE}},
        watch_events={"rights": ALL_RIGHTS - {Right.READ}},
        search_events={"rights": ALL_RIGHTS - {Right.READ}},
    )
    on = replace(on, group=FoundGroup(frozenset({Right.DESCRIBE})))

    [text] = texts(on, kafka=kafka)

    assert text.startswith("user worker lacks the rights ")
    assert "Read on topic p-search-events, topic p-watch-events, group p-nextwatch-streams" in text
    assert "Write on topic p-recommendations" in text


def test_a_group_that_may_not_be_described_is_a_missing_right():
    [text] = texts(replace(found(), group=FoundGroup(is_denied=True)))

    assert "Read on group p-nextwatch-streams" in text


def test_a_broker_without_access_control_lacks_no_rights():
    """Brokers before Kafka 2.3, and some that speak its protocol."""
    unknown = {"rights": None, "settings": None}
    on = replace(found(watch_events=unknown, recommendations=unknown), group=FoundGroup())

    assert texts(on) == []


def test_one_topic_with_more_partitions_is_repartitioned():
    """The setting alone would not do: the other topics do not fit it then."""
    [trouble] = troubles(
        needs_of("streams", LAYOUT), found(watch_events={"num_partitions": 6}), KAFKA
    )

    assert trouble.ends
    assert trouble.text == (
        "partitions: p-watch-events has 6, not 4: stop all processes and run "
        "`nextwatch repartition 6`, which brings all to 6"
    )


def test_topics_that_agree_on_another_count_are_met_by_the_setting():
    on = found(layout=Layout("p-", user_partitions=6, video_partitions=2))

    [text] = texts(on)

    assert "set NEXTWATCH_KAFKA_USER_PARTITIONS=6 if their users' windows were written so" in text


def test_keys_of_videos_are_not_moved():
    [text] = texts(found(item_vectors={"num_partitions": 5}))

    assert "p-item-vectors has 5, not 2" in text
    assert "NEXTWATCH_KAFKA_TOPIC_PREFIX" in text


def test_a_compacted_topic_that_is_not_compacted_is_refused():
    """As a broker makes it that creates topics by itself: windows of idle users would go."""
    name = "nextwatch-streams-windows"
    [text] = texts(found(**{name: {"settings": settings_of(name) | {"cleanup.policy": "delete"}}}))

    assert text == (
        f"p-{name} has cleanup.policy=delete, which loses records that are needed "
        "(`nextwatch topics` sets compact)"
    )


def test_an_operator_may_delete_from_a_compacted_topic():
    settings = settings_of("item-vectors") | {"cleanup.policy": "compact,delete"}

    assert texts(found(item_vectors={"settings": settings})) == []


def test_a_compacted_topic_of_events_is_refused():
    """Only the last event of each user would stay."""
    settings = settings_of("watch-events") | {"cleanup.policy": "compact,delete"}

    [text] = texts(found(watch_events={"settings": settings}))

    assert "p-watch-events has cleanup.policy=compact,delete" in text


def test_a_writer_rejects_a_limit_below_its_largest_message():
    settings = settings_of("item-vectors") | {"max.message.bytes": "1000"}
    on = found(item_vectors={"settings": settings})

    [text] = texts(on, "index_sync")

    assert text == (
        "p-item-vectors has max.message.bytes=1000, less than its largest messages need "
        "(`nextwatch topics` sets 1048588)"
    )
    assert texts(on, "streams") == []


def test_a_writer_rejects_more_replicas_in_sync_than_there_are():
    settings = settings_of("recommendations") | {"min.insync.replicas": "4"}

    [text] = texts(found(recommendations={"settings": settings}))

    assert "min.insync.replicas=4 and 3 replicas: nothing can be written to it" in text


def test_a_partition_without_a_leader_is_named_and_may_pass():
    """Its broker is being restarted, say; nothing else is mended by waiting."""
    on = found(watch_events={"leaderless": (3,)}, search_events={"num_partitions": 6})
    [count, leader] = troubles(needs_of("streams", LAYOUT), on, KAFKA)

    assert leader.text == "no broker leads p-watch-events/3: start the brokers that have them"
    assert leader.passes
    assert not count.passes


@pytest.mark.parametrize(
    ("count", "refusal"), [(4, BrokerUnavailable), (6, ContractError)], ids=["alone", "with more"]
)
def test_a_start_is_refused_for_good_only_by_what_does_not_pass(monkeypatch, count, refusal):
    """A supervisor starts a process again that ended with 69, and leaves one with 78 alone."""
    on = found(watch_events={"leaderless": (3,)}, search_events={"num_partitions": count})
    monkeypatch.setattr("contract.cluster.preflight._connect", lambda *_, **__: {})
    monkeypatch.setattr(Cluster, "topics", lambda *_: on.topics)
    monkeypatch.setattr(Cluster, "group", lambda *_: on.group)
    monkeypatch.setattr(Cluster, "broker_settings", lambda _: dict(on.broker_settings))

    with pytest.raises(refusal, match="no broker leads p-watch-events/3"):
        check_cluster(KAFKA, "streams")


@pytest.mark.parametrize(("session_ms", "is_refused"), [(3_000, True), (10_000, False)])
def test_a_member_rejects_a_session_timeout_outside_the_brokers_bounds(session_ms, is_refused):
    kafka = KAFKA.model_copy(update={"session_timeout_ms": session_ms})

    told = (
        "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS=3000: the broker accepts 6000 to 1800000 "
        "(group.min.session.timeout.ms and group.max.session.timeout.ms): set it between them"
    )
    assert texts(found(), kafka=kafka) == [told] * is_refused
    assert texts(found(), "trainer", kafka=kafka) == []


@pytest.mark.parametrize(
    ("protocol", "is_stranger"),
    [("range", True), ("consumer", True), ("faust", False), ("", False)],
)
def test_a_stranger_in_the_group_is_named(protocol, is_stranger):
    """While the group is between two assignments it has no protocol, and nobody is accused."""
    group = FoundGroup(ALL_RIGHTS, protocol, ("console-consumer on /10.0.0.7",))
    found_troubles = troubles(needs_of("streams", LAYOUT), replace(found(), group=group), KAFKA)

    assert [trouble.ends for trouble in found_troubles] == [True] * is_stranger
    for trouble in found_troubles:
        assert trouble.text.startswith(
            "the consumer group p-nextwatch-streams has members that use another assignor, "
            f'"{protocol}": console-consumer on /10.0.0.7: stop them'
        )


def test_a_command_asks_for_its_rights_and_topics_alone():
    """It reads topics however many partitions they have, and whoever may be in the group."""
    on = found(watch_events={"num_partitions": 6, "leaderless": (1,)})

    assert lacks(needs_of("streams", LAYOUT), on, KAFKA) == []
