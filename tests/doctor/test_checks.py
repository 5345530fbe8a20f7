"""Each check by itself: what is right, what is wrong, and what cannot be told."""

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException
from msgspec.structs import replace

from contract.cluster.cluster import FoundTopic
from contract.kafka.records import Received
from contract.points import point_id
from contract.process.clock import ManualClock
from contract.wire.events import BundleAnnouncement, BundleState, encode
from contract.wire.topics import TOPICS, Layout
from nextwatch.doctor import catalogue, disk, topics, versions
from nextwatch.doctor.diagnosis import PartHealth
from nextwatch.doctor.examination import Examination
from nextwatch.topics.findings import Finding, Outcome
from tests.support.builders import T0, upload
from tests.support.bundles import catalogue as uploads
from tests.support.bundles import learner_of, write

LAYOUT = Layout(user_partitions=8, video_partitions=4)
OK, NOTED, NOT_CHECKED, WRONG = (
    PartHealth.OK,
    PartHealth.NOTED,
    PartHealth.NOT_CHECKED,
    PartHealth.WRONG,
)


def healths(diagnoses):
    return [one.health for one in diagnoses]


def all_topics(**counts):
    """Return the topics as the contract has them, but for *counts* by name."""
    return {
        topic.name: FoundTopic(
            counts.get(topic.name.replace("-", "_"), LAYOUT.num_partitions(topic)), 1
        )
        for topic in TOPICS
    }


def test_topics_as_the_contract_has_them_are_one_line():
    found = [Finding("t", "retention.ms", "1", "1", Outcome.SAME)] * 3

    [one] = topics.topic_diagnoses(found)

    assert (one.health, one.found) == (OK, "3 properties are as the contract wants them")


def test_a_missing_topic_says_which_command_makes_it():
    found = [Finding("t", "topic", "8 partitions", "", Outcome.MISSING, "run it without --check")]

    first = next(topics.topic_diagnoses(found))

    assert (first.health, first.remedy) == (WRONG, "run `nextwatch topics`")


def test_partitions_that_agree_are_ok_for_each_key():
    assert set(healths(topics.partition_diagnoses(LAYOUT, all_topics()))) == {OK}


def test_one_topic_with_another_count_is_named_with_the_remedy():
    found = all_topics(impressions=4)

    [one] = [d for d in topics.partition_diagnoses(LAYOUT, found) if d.health is WRONG]

    assert "impressions has 4" in one.found
    assert "repartition" in one.remedy


def test_a_partition_without_a_leader_is_wrong():
    found = all_topics() | {"impressions": FoundTopic(8, 1, (2, 5))}

    [one] = [d for d in topics.partition_diagnoses(LAYOUT, found) if d.health is WRONG]

    assert (one.what, one.found) == ("impressions", "partitions without a leader: 2, 5")


@pytest.mark.parametrize(
    ("age_ms", "health"),
    [(0, OK), (4_000, OK), (60_000, NOT_CHECKED), (-500, OK), (-60_000, WRONG)],
)
def test_the_newest_record_tells_how_far_this_clock_is_behind_or_ahead(age_ms, health):
    times = {"recommendations": T0 - age_ms}

    assert healths(topics.clock_diagnoses(LAYOUT, all_topics(), times, T0)) == [health]


def test_the_clocks_of_players_say_nothing_of_ours():
    times = {"watch-events": T0 + 3_600_000}

    assert healths(topics.clock_diagnoses(LAYOUT, all_topics(), times, T0)) == [NOT_CHECKED]


def test_the_brokers_stamp_counts_on_any_topic():
    stamped = FoundTopic(8, 1, settings={"message.timestamp.type": "LogAppendTime"})
    times = {"watch-events": T0 + 3_600_000}

    [one] = topics.clock_diagnoses(LAYOUT, {"watch-events": stamped}, times, T0)

    assert one.health is WRONG
    assert "the broker" in one.found


class SlowAdmin:
    """A broker that tells the newest time of one partition, refuses another, and is silent then."""

    def list_offsets(self, places, request_timeout):
        assert request_timeout > 0
        answers = {place: Future() for place in places}
        told, refused, *_silent = answers.values()
        told.set_result(SimpleNamespace(timestamp=T0))
        refused.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        return answers


def test_what_the_broker_does_not_tell_in_time_is_left_out():
    times = topics.newest_times(SlowAdmin(), {"t": FoundTopic(3, 1)}, within_s=0.05)

    assert times == {"t": T0}


@pytest.mark.parametrize(("skew_ms", "health"), [(0, OK), (-1_900, OK), (9_000, WRONG)])
def test_the_clock_of_the_index_is_compared_to_the_second(skew_ms, health):
    assert topics.index_clock_diagnosis(T0 + skew_ms, T0).health is health


def test_an_index_without_a_date_is_not_checked():
    assert topics.index_clock_diagnosis(None, T0).health is NOT_CHECKED


@pytest.mark.parametrize(("free", "health"), [(1 << 20, WRONG), (2 << 30, NOTED), (50 << 30, OK)])
def test_little_room_is_wrong_and_a_small_share_is_noted(tmp_path, free, health):
    places = {"NEXTWATCH_STREAMS_STATE_DIR": tmp_path}

    [one] = disk.disk_diagnoses(places, lambda _path: (100 << 30, 0, free))

    assert one.health is health
    assert ("NEXTWATCH_STREAMS_STATE_DIR" in one.remedy) is (health is not OK)


def test_a_directory_that_is_not_made_yet_is_measured_where_it_will_be(tmp_path):
    asked = []

    def usage(path):
        asked.append(path)
        return 100, 0, 100

    list(disk.disk_diagnoses({"X": tmp_path / "a" / "b"}, usage))

    assert asked == [tmp_path]


@pytest.mark.parametrize("place", ["taken", "taken/state", "dangling", "x" * 300])
def test_a_place_that_cannot_be_a_directory_is_wrong_and_the_others_are_measured(tmp_path, place):
    """The process that is given it ends at its start."""
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")

    places = {"FIRST": tmp_path / place, "SECOND": tmp_path}
    found = list(disk.disk_diagnoses(places, lambda _path: (100 << 30, 0, 50 << 30)))

    assert healths(found) == [WRONG, OK]
    assert found[0].remedy == "mend FIRST"


def test_a_bundle_store_elsewhere_is_no_disk_of_this_machine():
    assert disk.local_path("s3://bucket/x") is None
    assert disk.local_path("file:///var/lib/x") == Path("/var/lib/x")
    assert disk.local_path("/var/lib/x") == Path("/var/lib/x")


@pytest.mark.parametrize(
    ("version", "specifiers", "is_met"),
    [
        ("2.6", ">=2.6", True),
        ("2.5.9", ">=2.6", False),
        ("0.14.3", "==0.14.*", True),
        ("0.15.0", "==0.14.*", False),
        ("8.4.0", "<8.4", False),
        ("2.13.0+cpu", ">=2.6", True),
        ("1.0", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, specifiers, is_met):
    assert versions.is_version_met(version, specifiers) is is_met


def test_an_old_or_a_missing_package_is_wrong_and_torch_is_optional():
    required = {"numpy": ">=2.0", "msgspec": ">=0.20", "torch": ">=2.6"}
    found = list(versions.package_diagnoses(required, {"numpy": "1.26.4"}))

    assert [one.what for one in found if one.health is WRONG] == ["msgspec", "numpy"]


def test_a_server_of_qdrant_far_from_its_client_is_noted():
    assert versions.index_diagnosis("1.20.1", "1.19.0").health is OK
    assert versions.index_diagnosis("1.12.1", "1.19.0").health is NOTED


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the root of a store with one bundle, and its announcement."""
    root = tmp_path_factory.mktemp("bundles")
    url, manifest = write(learner_of(uploads()), root)
    return root, BundleAnnouncement(
        bundle_id=manifest.bundle_id,
        generation=1,
        state=BundleState.IN_SERVICE,
        url=url,
        manifest_sha256=manifest.sha256,
        announced_at_ms=T0,
    )


def test_the_bundle_in_service_is_read_by_this_code(store):
    root, announced = store

    assert healths(versions.bundle_diagnoses(f"file://{root}", announced)) == [OK]


def test_a_bundle_of_another_format_is_wrong(store, tmp_path):
    root, announced = store
    manifest = msgspec.json.decode((root / "b1" / "manifest.json").read_bytes())
    (tmp_path / "b1").mkdir()
    newer = msgspec.json.encode(manifest | {"format_version": 99})
    (tmp_path / "b1" / "manifest.json").write_bytes(newer)

    [one] = versions.bundle_diagnoses(f"file://{tmp_path}", announced)

    assert one.health is WRONG
    assert "format 99" in one.found


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_a_bundle_that_is_gone_or_damaged_is_wrong(store, tmp_path, content):
    if content is not None:
        (tmp_path / "b1").mkdir()
        (tmp_path / "b1" / "manifest.json").write_bytes(content)

    [one] = versions.bundle_diagnoses(f"file://{tmp_path}", store[1])

    assert one.health is WRONG


def videos(*live, gone=()):
    """Return what a topic with *live* videos and tombstones of those *gone* says."""
    records = [Received("video-uploads", 0, 0, v.encode(), encode(upload(v))) for v in live]
    records += [Received("video-uploads", 0, 0, v.encode(), None) for v in gone]
    return catalogue.LiveVideos().apply_records(records)


def compared(found, num_points, points):
    sampled = [*sorted(found.live), *sorted(found.taken_down)]
    there = {point_id(video_id) for video_id in points}
    return list(catalogue.index_diagnoses(found, "p-g1", num_points, sampled, there))


def test_an_index_with_the_videos_of_the_topic_is_ok():
    assert healths(compared(videos("a", "b", gone=["c"]), 2, ["a", "b"])) == [OK, OK]


def test_a_video_that_is_not_retrievable_is_named():
    count, sample = compared(videos("a", "b"), 1, ["a"])

    assert (count.health, sample.health) == (WRONG, WRONG)
    assert "not retrievable: b" in sample.found


def test_a_video_that_was_taken_down_and_is_still_retrievable_is_named():
    _, sample = compared(videos("a", "c", gone=["c"]), 2, ["a", "c"])

    assert sample.health is WRONG
    assert "still in the index: c" in sample.found


def test_an_upload_that_cannot_be_read_is_counted_and_not_live():
    broken = Received("video-uploads", 0, 0, b"a", b"{")
    found = catalogue.LiveVideos().apply_records([broken])

    assert (found.live, found.num_unreadable) == (set(), 1)


def test_a_video_that_was_uploaded_again_is_live():
    again = Received("video-uploads", 0, 2, b"c", encode(replace(upload("c"), title="again")))

    assert videos("a", gone=["c"]).apply_records([again]).live == {"a", "c"}


def test_wrong_settings_are_found_without_their_values_and_local_checks_go_on():
    environ = {
        "NEXTWATCH_KAFKA_SASL_PASSWORD": "hunter2!",
        "NEXTWATCH_QDRANT_URL": "http://127.0.0.1:9",
    }
    examination = Examination(environ, clock=ManualClock(T0), patience_s=0.5, check_s=10.0)

    found = examination.run()

    assert "hunter2!" not in str(found)
    assert [one.health for one in found if one.check == "settings"] == [WRONG]
    assert {one.check for one in found} >= {"connections", "versions", "disk", "index"}
