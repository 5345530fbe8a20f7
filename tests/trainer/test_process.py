"""The real process on a real broker, killed and started again, as others see it."""

import json
import os
import signal
import subprocess
import sys
from time import monotonic

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient

from contract.kafka.client import client_config
from contract.process.exit_codes import ExitCode
from contract.wire.topics import IMPRESSIONS, VIDEO_UPLOADS, WATCH_EVENTS
from models.bundle import bundle
from nextwatch.topics.topics import reconcile
from tests.support.builders import upload, watch
from tests.support.dataset_logs import T0, exposure, write_kuairand
from tests.trainer.real_process import PATIENCE_S, ROOT, Neighbours, Process
from trainer.state.checkpoint import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.long]
NUM_VIDEOS = 60


@pytest.fixture
def neighbours(kafka):
    """The others, and a catalogue."""
    neighbours = Neighbours(kafka)
    neighbours.send(VIDEO_UPLOADS, *(upload(f"v{n}") for n in range(NUM_VIDEOS)))
    yield neighbours
    neighbours.close()


@pytest.fixture
def process(kafka, neighbours, tmp_path):
    """A running trainer."""
    process = Process(kafka, tmp_path)
    process.start()
    yield process
    if process.child.poll() is None:
        process.end(signal.SIGKILL)


def some_watches(start, stop):
    """Return watches of five users, no video twice by the same one: an example each."""
    return [watch(f"v{n // 5}", user_id=f"u{n % 5}", at_ms=n) for n in range(start, stop)]


def num_examples(offered):
    return offered.metrics["progressive_examples"]


def test_offers_a_cold_bundle_then_learned_ones_with_vectors_between(process, neighbours):
    neighbours.wait_until(lambda: neighbours.offered)
    cold = neighbours.offered[0]
    neighbours.send(WATCH_EVENTS, *some_watches(0, 100))
    neighbours.wait_until(lambda: len(neighbours.offered) > 1 and neighbours.vectors)

    assert (cold.generation, num_examples(cold)) == (1, 0.0)
    assert len(bundle.load(cold.url, manifest_sha256=cold.manifest_sha256).snapshot.video_ids) == 60
    assert neighbours.offered[1].generation == 2
    assert neighbours.vectors[0].generation == 1
    assert process.ready.exists()


def test_killed_in_mid_stream_it_counts_each_example_once(process, neighbours):
    """Everything after the last checkpoint is done again, from the same offsets."""
    neighbours.wait_until(lambda: neighbours.offered)
    neighbours.send(WATCH_EVENTS, *some_watches(0, 150))
    neighbours.wait_until(lambda: any(num_examples(one) > 0 for one in neighbours.offered))
    process.end(signal.SIGKILL)
    process.start()
    neighbours.send(WATCH_EVENTS, *some_watches(150, 250))
    neighbours.wait_until(lambda: any(num_examples(one) >= 250 for one in neighbours.offered))

    generations = [one.generation for one in neighbours.offered]
    assert max(num_examples(one) for one in neighbours.offered) == 250
    assert generations == sorted(set(generations))


def test_a_signal_to_stop_saves_a_checkpoint_and_ends_the_process(process, neighbours):
    neighbours.wait_until(process.ready.exists)
    neighbours.send(WATCH_EVENTS, *some_watches(0, 10))
    neighbours.wait_until(lambda: _learned(process) == 10)

    started_s = monotonic()
    status = process.end(signal.SIGTERM)

    assert (status, monotonic() - started_s < 5) == (0, True)
    assert Checkpoints(process.checkpoints).newest().offsets["watch-events"] == {0: 10}
    assert "trainer_stopped" in process.log()


def test_a_topic_that_is_deleted_makes_it_not_ready_until_it_is_there_again(
    process, neighbours, kafka
):
    neighbours.wait_until(process.ready.exists)
    name = kafka.layout.name(IMPRESSIONS)
    admin = AdminClient(client_config(kafka))
    admin.delete_topics([name])[name].result(10)
    neighbours.wait_until(lambda: not process.ready.exists())
    told = process.log()
    reconcile(kafka)
    neighbours.wait_until(process.ready.exists)

    assert f"missing topics: {name}" in told
    assert process.child.poll() is None


def test_user_ids_are_not_logged(process, neighbours):
    neighbours.wait_until(process.ready.exists)
    neighbours.send(WATCH_EVENTS, watch("v1", user_id="somebody"))
    neighbours.wait_until(lambda: _learned(process) == 1)
    process.end(signal.SIGTERM)

    assert "somebody" not in process.log()


def test_a_first_start_learns_the_backlog_in_passes_and_goes_on_without_a_gap(
    kafka, neighbours, tmp_path
):
    """The 150 watches of before are learned at once, the 100 of afterwards one by one."""
    neighbours.send(WATCH_EVENTS, *some_watches(0, 150))
    process = Process(kafka, tmp_path, backfill_passes="3")
    process.start()
    try:
        neighbours.wait_until(process.ready.exists)
        neighbours.send(WATCH_EVENTS, *some_watches(150, 250))
        neighbours.wait_until(lambda: any(num_examples(one) >= 100 for one in neighbours.offered))
        neighbours.wait_until(lambda: _learned(process) == 250)
        process.end(signal.SIGTERM)
    finally:
        if process.child.poll() is None:
            process.end(signal.SIGKILL)

    assert max(num_examples(one) for one in neighbours.offered) == 100
    assert neighbours.offered[-1].metrics["events"] == 250
    assert process.log().count("histories_pass_finished") == 3


def test_histories_are_learned_from_files_and_the_trainer_goes_on_from_there(
    kafka, neighbours, tmp_path
):
    """It is done once: a second time there is a checkpoint. Nobody live was among the histories."""
    folder = tmp_path / "kuairand"
    folder.mkdir()
    write_kuairand(folder, [exposure(video_id=n, at_ms=n) for n in range(NUM_VIDEOS)])
    pq.write_table(pa.Table.from_pylist([_past(user) for user in range(10, 16)]),
                   folder / "history.parquet")  # fmt: skip
    neighbours.send(WATCH_EVENTS, *some_watches(0, 50))
    process = Process(kafka, tmp_path)
    command = ("nextwatch", "backfill", "--data", f"kuairand:{folder}", "--passes", "3", "--json")

    ended = process.run(*command)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"users": 6, "passes": 3, "saved": True}
    assert WATCH_EVENTS.name not in Checkpoints(process.checkpoints).newest().offsets
    again = process.run(*command)
    assert again.returncode == ExitCode.MISCONFIGURED
    assert "at the very first start alone" in again.stderr

    process.start()
    try:
        neighbours.wait_until(lambda: any(num_examples(one) >= 50 for one in neighbours.offered))
        neighbours.wait_until(lambda: _learned(process) == 50)
        process.end(signal.SIGTERM)
    finally:
        if process.child.poll() is None:
            process.end(signal.SIGKILL)
    assert "checkpoint_resumed" in process.log()


def _past(user):
    """Return what a user watched before the log, of which each third was viewed for long."""
    return {
        "user_id": user,
        "history_len": 30,
        "last_time_ms": T0 - 3_600_000,
        "watch_seq": [(user + place) % NUM_VIDEOS for place in range(30)],
        "long_watch_seq": [(user + place) % NUM_VIDEOS for place in range(0, 30, 3)],
    }


def test_a_start_with_another_configuration_is_refused_with_the_remedy(kafka, neighbours, tmp_path):
    """What the checkpoint was learned with is recorded in it."""
    process = Process(kafka, tmp_path)
    process.start()
    neighbours.wait_until(process.ready.exists)
    process.end(signal.SIGTERM)
    (tmp_path / "trainer.toml").write_text("[model]\nid_lr = 0.1\n")
    other = Process(kafka, tmp_path, config=str(tmp_path / "trainer.toml"))
    other.start()

    assert other.child.wait(PATIENCE_S) == ExitCode.MISCONFIGURED
    assert "model.id_lr was 0.05 and is 0.1; set it back" in other.log()


def _learned(process):
    """Return the offset of the watches that the newest checkpoint stands at."""
    newest = Checkpoints(process.checkpoints).newest()
    return newest.offsets.get("watch-events", {}).get(0, 0) if newest else 0


def run(*args, **env):
    """Run ``python -m trainer`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "trainer", *args],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_teaches_the_settings():
    done = run("--help")

    assert done.returncode == 0
    assert "NEXTWATCH_TRAINER_PUBLISH_EVERY_S=60.0" in done.stdout


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NEXTWATCH_TRAINER_PUBLISH_EVRY_S", "5", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_TRAINER_CHECKPOINT_DIR", "/dev/null/x", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_PROCESS_BUNDLE_URL", "file:///dev/null/x", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_PROCESS_BUNDLE_URL", "nosuch://x", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1", ExitCode.BROKER_AWAY),
    ],
)
def test_a_trainer_that_cannot_start_prints_one_line(tmp_path, name, value, code):
    given = {
        "NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(tmp_path / "checkpoints"),
        "NEXTWATCH_PROCESS_BUNDLE_URL": (tmp_path / "bundles").as_uri(),
        name: value,
    }
    done = run(**given)

    [line] = done.stderr.splitlines()
    assert done.returncode == code
    assert line.startswith("trainer: ")
    assert name in line


def test_a_file_of_settings_that_is_wrong_is_told_before_the_broker_is_asked(tmp_path):
    """Ten seconds of asking would hide what is to be mended."""
    path = tmp_path / "trainer.toml"
    path.write_text("[model]\ndense_lr = nan\n")
    done = run(
        NEXTWATCH_TRAINER_CONFIG=str(path),
        NEXTWATCH_TRAINER_CHECKPOINT_DIR=str(tmp_path / "checkpoints"),
        NEXTWATCH_PROCESS_BUNDLE_URL=(tmp_path / "bundles").as_uri(),
        NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1",
    )

    assert done.returncode == ExitCode.MISCONFIGURED
    assert done.stderr == (
        "trainer: NEXTWATCH_TRAINER_CONFIG: [model] dense_lr: dense_lr must be in (0, 10], got nan\n"
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('[model]\nloss = "hierarchical"', "[model]: unknown loss 'hierarchical'; known: bpr_max"),
        ("[model]\nreplay_size = 1000000000000", "[model]: Unable to allocate"),
        ("[ranker]\ndim = 10000000000", "[ranker]: "),
    ],
)
def test_a_model_that_cannot_be_built_is_told_with_its_table(kafka, tmp_path, settings, told):
    """A loss that there is not, with those that there are; tables beyond memory."""
    path = tmp_path / "trainer.toml"
    path.write_text(settings)
    done = Process(kafka, tmp_path, config=path).run()

    assert done.returncode == ExitCode.MISCONFIGURED
    [line] = [line for line in done.stderr.splitlines() if line.startswith("trainer: ")]
    assert f"NEXTWATCH_TRAINER_CONFIG: {told}" in line


def test_a_second_trainer_on_one_directory_ends_with_the_remedy(process, neighbours, kafka):
    """Both would write checkpoints of different offsets under one another's numbers."""
    neighbours.wait_until(process.ready.exists)
    second = Process(kafka, process.directory)
    done = second.run()
    process.end(signal.SIGKILL)
    third = Process(kafka, process.directory)
    third.start()
    neighbours.wait_until(lambda: "checkpoint_resumed" in process.log())
    third.end(signal.SIGTERM)

    assert done.returncode == ExitCode.MISCONFIGURED
    assert done.stderr == (
        f"trainer: NEXTWATCH_TRAINER_CHECKPOINT_DIR: another process uses {process.checkpoints}: "
        "give each process a directory of its own\n"
    )
