"""The commands on a real broker: what is there comes out, and what is published is followed."""

import json
import os
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from contract.errors import ContractError, DatasetError
from contract.kafka.client import producer_config
from contract.process.settings import KafkaSettings
from contract.wire.events import BundleAnnouncement, BundleState, Context, encode
from contract.wire.topics import (
    HOTTEST_VIDEOS,
    MODEL_BUNDLES,
    SIMILAR_VIDEOS,
    VIDEO_UPLOADS,
    WINDOWS,
)
from models.history import codec
from models.history.history import EMPTY, WindowPolicy, fold
from nextwatch.batch import served
from nextwatch.commands import cli
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile
from streams.settings import StreamsSettings
from tests.support import bundles
from tests.support.builders import T0, watch
from tests.support.dataset_logs import exposure, write_kuairand

NUM_USERS = 12


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A real broker."""
    broker = EmbeddedBroker(
        env=dict(os.environ), log_path=tmp_path_factory.mktemp("broker") / "broker.log"
    )
    broker.start()
    yield broker
    broker.child.stop()


class World:
    """Topics of one's own: a catalogue, a bundle in service, the windows of twelve users."""

    def __init__(self, broker, root):
        self.kafka = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            topic_prefix=f"batch-{uuid4().hex[:6]}-",
            user_partitions=3,
            video_partitions=2,
        )
        self.bundle_url = f"file://{root}/bundles"
        self.env = {
            "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "NEXTWATCH_KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "NEXTWATCH_KAFKA_USER_PARTITIONS": "3",
            "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": "2",
            "NEXTWATCH_PROCESS_BUNDLE_URL": self.bundle_url,
            "TERM": "dumb",
        }
        reconcile(self.kafka)
        self.producer = Producer(producer_config(self.kafka))
        self._fill(root)

    def _fill(self, root):
        catalogue = bundles.catalogue()
        for upload in catalogue:
            self.send(VIDEO_UPLOADS, upload.video_id, encode(upload))
        url, manifest = bundles.write(bundles.learner_of(catalogue), root / "bundles")
        offer = BundleAnnouncement(
            bundle_id=manifest.bundle_id,
            generation=manifest.generation,
            state=BundleState.IN_SERVICE,
            url=url,
            manifest_sha256=manifest.sha256,
            announced_at_ms=T0,
        )
        self.send(MODEL_BUNDLES, offer.bundle_id, encode(offer))
        for user in range(NUM_USERS):
            for num_watches in (1, 3):  # an older record, and the newest
                self.send(WINDOWS, f"u{user:02}", self.window(user, num_watches))
        self.send(WINDOWS, "erased", self.window(0, 3))
        self.send(WINDOWS, "erased", None)
        assert self.producer.flush(20) == 0

    @staticmethod
    def window(user, num_watches):
        context = Context(country="BR" if user % 2 else "DE")
        videos = ["cooking0", f"cooking{1 + user % 2}", f"chess{user % 2}"][:num_watches]
        events = [
            watch(video, user_id=f"u{user:02}", at_ms=1_000 * n, context=context)
            for n, video in enumerate(videos)
        ]
        return codec.encode(fold(EMPTY, events, WindowPolicy()))

    def send(self, topic, key, value):
        self.producer.produce(self.kafka.layout.name(topic), value, key.encode())
        self.producer.poll(0)

    def run(self, *arguments):
        """Run a command; return its summary."""
        done = CliRunner().invoke(cli.app, ["batch", *map(str, arguments), "--json"], env=self.env)
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout.splitlines()[-1])

    def served(self):
        """Return what a worker that starts now would serve."""
        return served.from_broker(self.kafka, self.bundle_url, StreamsSettings())


@pytest.fixture(scope="module")
def world(broker, tmp_path_factory):
    return World(broker, tmp_path_factory.mktemp("world"))


def test_every_known_user_gets_a_list_by_the_newest_window(world, tmp_path):
    summary = world.run("recommend", "--out", tmp_path / "lists.jsonl", "--number", "4")

    rows = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert [row["user_id"] for row in rows] == [f"u{user:02}" for user in range(NUM_USERS)]
    assert summary["users"] == NUM_USERS
    assert not (tmp_path / "lists.jsonl.work").exists()
    for row in rows:
        watched = {"cooking0", f"cooking{1 + int(row['user_id'][1:]) % 2}"}
        assert len(row["items"]) == 4
        assert not watched & {item["video_id"] for item in row["items"]}


def test_hottest_videos_are_published_followed_and_removed_when_they_are_gone(world, tmp_path):
    """The whole way: windows, topic, and the memory of a worker."""
    out = tmp_path / "hottest.jsonl"
    num_similar = len(world.served().offline)  # of another test, if it came before
    first = world.run("hottest", "--publish", "--out", out, "--min-users", "3")
    rows = map(json.loads, out.read_text().splitlines())
    lists = {row["list_name"]: row["videos"] for row in rows}

    assert lists["hottest:24h:all"][0]["video_id"] == "cooking0"
    assert {"hottest:24h:country=BR", "hottest:7d:category=chess"} <= lists.keys()
    assert first["published"] == len(lists)
    assert len(world.served().offline) == num_similar + len(lists)

    again = world.run("hottest", "--publish", "--min-users", "12")  # cooking0 alone, in no country
    assert again["removed"] > 0
    assert len(world.served().offline) == num_similar + again["published"]


def test_similar_videos_are_published_and_become_candidates(world):
    summary = world.run("similar", "--publish", "--most", "5")
    found = world.served()

    assert summary["lists_by_method"].keys() == {"co_visitation", "vectors"}
    assert summary["published"] == summary["lists"] == 20
    window = fold(EMPTY, [watch("chess0", user_id="new")], WindowPolicy())
    rows = found.offline.find([window], found.serving.points, found.serving.completion)[0].similar
    assert {found.serving.items.video_id(row) for row in rows.tolist()} <= {
        one.video_id for one in bundles.catalogue()
    }
    assert len(rows) == 5
    for topic in (SIMILAR_VIDEOS, HOTTEST_VIDEOS):
        assert topic.cleanup == "compact"


def test_pairs_are_predicted_from_the_windows_on_the_broker(world, tmp_path):
    pairs, out = tmp_path / "pairs.csv", tmp_path / "predicted.jsonl"
    pairs.write_text("user_id,video_id\nu01,chess3\nnobody,chess3\nu01,gone\n")

    summary = world.run("predict", pairs, "--out", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]

    assert [row["num_watches"] for row in rows] == [3, 0, 3]
    assert summary["pairs_without_video"] == summary["pairs_of_unknown_users"] == 1


def test_without_a_bundle_in_service_the_remedy_is_told(broker, tmp_path):
    """Nothing was announced on these topics."""
    kafka = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers, topic_prefix=f"none-{uuid4().hex[:6]}-"
    )
    reconcile(kafka)

    with pytest.raises(ContractError, match="--bundle"):
        served.from_broker(kafka, f"file://{tmp_path}", StreamsSettings())


def test_a_log_needs_no_broker(tmp_path):
    """Lists of a public log, and figures of how good they are."""
    pytest.importorskip("pyarrow")
    rows = [
        exposure(user_id=user, video_id=video, at_ms=60_000 * user + video)
        for user in range(1, 9)
        for video in (1, 2)
    ]
    data = write_kuairand(tmp_path, rows)
    out = tmp_path / "similar.parquet"
    arguments = ["similar", "--data", f"kuairand:{data}", "--no-vectors", "--out", str(out)]
    done = CliRunner().invoke(cli.app, ["batch", *arguments, "--json"])

    assert done.exit_code == 0, (done.output, done.exception)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["hit_rate_at_20"]["co_visitation"] == 1.0
    assert (summary["lists"], summary["videos"]) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["hottest"], "--out FILE, --publish"),
        (["hottest", "--out", "lists.txt"], "parquet"),
        (["recommend", "--out", "lists.csv"], "parquet"),
    ],
)
def test_a_product_that_would_go_nowhere_is_a_usage_error(arguments, expected):
    done = CliRunner().invoke(cli.app, ["batch", *arguments], env={"TERM": "dumb"})

    assert done.exit_code == 2
    assert expected in done.output


def test_a_log_without_a_bundle_is_told_how_to_name_one(tmp_path):
    write_kuairand(tmp_path, [exposure()])
    arguments = ["recommend", "--data", f"kuairand:{tmp_path}", "--out", f"{tmp_path}/a.jsonl"]
    done = CliRunner().invoke(cli.app, ["batch", *arguments])

    assert isinstance(done.exception, DatasetError)
    assert "--bundle" in str(done.exception)


@pytest.mark.parametrize("command", ["hottest", "similar", "recommend", "predict"])
def test_the_help_teaches_by_examples(command):
    done = CliRunner().invoke(cli.app, ["batch", command, "--help"], env={"TERM": "dumb"})

    assert done.exit_code == 0
    assert f"nextwatch batch {command} " in done.output
