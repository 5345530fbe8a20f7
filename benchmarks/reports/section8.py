"""Reports on topics that change, limits, retention and transactions."""

from time import sleep

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition

from benchmarks.reports.row import Row
from benchmarks.reports.section4 import TRAINER
from benchmarks.reports.stage import CHANGELOG, Ended, Seen, Stage, code_within, stop, text_of
from benchmarks.stack.player import Player
from benchmarks.stack.prefixed_stack import StackProcess
from benchmarks.stack.waiting import eventually
from contract.kafka.client import consumer_config
from contract.process.exit_codes import ExitCode
from contract.wire.topics import DAY_MS, TOPICS
from nextwatch.embedded.process.ports import free_ports

MORE_PARTITIONS = 6
NUM_USERS = 40
NOTICED_WITHIN_S = 30.0
NUM_GONE = 152


def partitions_added(stage: Stage) -> Seen:
    """`watch-events` grows from 4 to 6 partitions under a worker."""
    worker = stage.streams()
    stage.num_answered(stage.watches(NUM_USERS, "a"))
    stage.operator.add_partitions(stage.topic("watch-events"), MORE_PARTITIONS)
    code = code_within(worker, NOTICED_WITHIN_S)
    is_named = f"{stage.place.prefix}watch-events" in text_of(worker)
    again = run_worker(stage)
    text = f"exit code {code}, names the topic: {is_named}; at the next start {again.code}"
    is_right = code == again.code == ExitCode.MISCONFIGURED
    return Seen(is_right and is_named, text)


def all_topics_grown(stage: Stage) -> Seen:
    """All topics of users grow to 6 by hand, the setting follows; then the documented migration."""
    worker = stage.streams()
    stage.num_answered(stage.watches(NUM_USERS, "a"))
    stop(worker)
    names = [topic.name for topic in TOPICS if topic.key_field == "user_id"]
    names += [
        topic.dlq for topic in TOPICS if topic.key_field == "user_id" and topic.dead_lettered_by
    ]
    for name in names:
        stage.operator.add_partitions(stage.topic(name), MORE_PARTITIONS)
    grown = stage.another(stage.place.prefix, NEXTWATCH_KAFKA_USER_PARTITIONS=str(MORE_PARTITIONS))
    refused = grown.streams("refused", waits=False, STATE_DIR=worker.state_dir)
    code = code_within(refused, 30)
    empty = grown.streams("with-empty-disk", waits=False)
    code_empty = code_within(empty, 30)
    stop(refused)
    stop(empty)
    moved = grown.run("nextwatch", "repartition", str(MORE_PARTITIONS))
    grown.streams("moved", waits=False)
    answered = grown.num_answered(grown.watches(NUM_USERS, "b"), within_s=60)
    num_windows = _num_windows(grown)
    text = (
        f"exit codes {code} and {code_empty} before the migration, which exits with {moved.code}; "
        f"then {answered} of {NUM_USERS} answered, {num_windows} windows of {NUM_USERS} users"
    )
    is_refused = code == code_empty == ExitCode.MISCONFIGURED
    is_right = is_refused and moved.code == 0 and answered == NUM_USERS == num_windows
    return Seen(is_right, text)


def _num_windows(stage: Stage) -> int:
    """Return how many windows there are, one in each partition that has a last record of a user."""
    stage.last_records(CHANGELOG)
    last = {(m.partition(), m.key()): m.value() for m in stage.player.read[CHANGELOG]}
    users = {f"u{n}".encode() for n in range(NUM_USERS)}
    return sum(value is not None and key in users for (_, key), value in last.items())


def changelog_by_auto_creation(stage: Stage) -> Seen:
    """The broker creates topics by itself, and the changelog is deleted under the worker."""
    own, _ = stage.on_cluster(settings={"auto.create.topics.enable": "true"})
    worker = own.streams()
    own.num_answered(own.watches(NUM_USERS, "a"))
    name = own.topic(CHANGELOG)
    own.operator.admin.delete_topics([name])[name].result(20)
    for number in range(10):
        own.watches(4, f"b{number}-")
        own.player.flush()
        sleep(0.5)
    exists = name in own.operator.admin.list_topics(timeout=20).topics
    policy = own.settings_of(CHANGELOG)["cleanup.policy"] if exists else "none"
    stop(worker)
    return _refused_policy(own, policy)


def _refused_policy(stage: Stage, policy: str) -> Seen:
    """Have a worker start on a changelog that is not compacted."""
    stage.run("nextwatch", "topics")
    stage.operator.configure_topic(stage.topic(CHANGELOG), cleanup_policy="delete")
    ended = run_worker(stage)
    is_named = "cleanup.policy" in ended.text and CHANGELOG in ended.text
    text = f"the changelog comes back with cleanup.policy {policy}; one that is not compacted: exit"
    is_right = policy != "delete" and ended.code == ExitCode.MISCONFIGURED and is_named
    return Seen(is_right, f"{text} {ended.code}, named: {is_named}")


def trainer_after_retention(stage: Stage) -> Seen:
    """A trainer is away while retention takes what its checkpoint stands at."""
    trainer = _started_trainer(stage)
    stage.watches(NUM_USERS, "a")
    stage.player.flush()
    eventually(lambda: trainer.logged("checkpoint_saved"), within_s=30, every_s=0.5)
    sleep(3.0)
    stop(trainer)
    stage.watches(200, "b")
    stage.player.flush()
    for number in range(stage.place.kafka.user_partitions):
        stage.operator.delete_records(stage.topic("watch-events"), number)
    stage.watches(NUM_USERS, "c")
    stage.player.flush()
    trainer.ready_file.unlink(missing_ok=True)
    trainer.child.start()
    is_ready = eventually(
        lambda: trainer.ready_file.exists() or not trainer.child.is_running, within_s=90
    )
    is_running = trainer.child.is_running
    told = trainer.logged("records_gone") or trainer.logged("records_expired")
    text = f"starts again: {bool(is_ready and is_running)}, {len(told)} lines say what was missed"
    return Seen(bool(is_ready and is_running and told), text)


def raised_settings(stage: Stage) -> Seen:
    """An operator raised limits and retention; then `nextwatch topics`."""
    raised = {
        "item-vectors": {"max.message.bytes": "8388608"},
        CHANGELOG: {"delete.retention.ms": str(30 * DAY_MS)},
        "video-uploads": {"cleanup.policy": "compact,delete"},
    }
    for name, settings in raised.items():
        stage.operator.configure_topic(stage.topic(name), **settings)
    ended = stage.run("nextwatch", "topics")
    kept = sum(
        settings.items() <= stage.settings_of(name).items() for name, settings in raised.items()
    )
    text = f"{kept} of {len(raised)} settings as the operator left them, exit code {ended.code}"
    return Seen(kept == len(raised) and ended.code == 0, text)


def small_limit(stage: Stage) -> Seen:
    """`max.message.bytes=1000` on `item-vectors`."""
    stage.operator.configure_topic(stage.topic("item-vectors"), max_message_bytes="1000")
    env = {"NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(stage.place.directory / "checkpoints")}
    ended = stage.run_all([("trainer",), ("index_sync",)], env)
    words = (f"{stage.place.prefix}item-vectors", "1000", "nextwatch topics")
    named = [all(word in each.text for word in words) for each in ended]
    text = f"exit codes of trainer and index_sync {[each.code for each in ended]}, named: {named}"
    return Seen(all(each.code == ExitCode.MISCONFIGURED for each in ended) and all(named), text)


def _started_trainer(stage: Stage) -> StackProcess:
    """Start a trainer that knows the videos which are watched."""
    for number in range(NUM_USERS):
        stage.player.upload(f"a{number}")
    stage.player.flush()
    trainer = stage.process("trainer", TRAINER)
    trainer.wait_ready(120)
    return trainer


def lag_of_the_trainer(stage: Stage) -> Seen:
    """What Kafka's tools see of the trainer's progress."""
    _started_trainer(stage)
    stage.watches(NUM_USERS, "a")
    stage.player.flush()

    def committed() -> int:
        return sum(
            at.offset
            for group in groups_of(stage)
            if "trainer" in group
            for at in _committed(stage, group)
            if at.topic == f"{stage.place.prefix}watch-events" and at.offset > 0
        )

    count = eventually(committed, within_s=60, every_s=1.0)
    return Seen(count > 0, f"{count} events of watch-events committed by a group of the trainer")


def groups_of(stage: Stage) -> list[str]:
    """Return the consumer groups under the prefix of *stage*."""
    found = stage.operator.admin.list_consumer_groups().result(20).valid
    return [each.group_id for each in found if each.group_id.startswith(stage.place.prefix)]


def _committed(stage: Stage, group: str) -> list[TopicPartition]:
    asked = [ConsumerGroupTopicPartitions(group)]
    [future] = stage.operator.admin.list_consumer_group_offsets(asked).values()
    return list(future.result(20).topic_partitions)


def check_beside_a_transaction(stage: Stage) -> Seen:
    """`nextwatch erase --check` while an open transaction hides a record of the user."""
    sender = Player(stage.place, transactional_id=f"{stage.place.prefix}player")
    sender.begin()
    sender.watch("u1", "hidden")
    sender.flush()
    ended = stage.run("nextwatch", "erase", "--check", "u1")
    sender.abort()
    is_told = "transaction" in ended.text
    return Seen(is_told, f"speaks of the open transaction: {is_told}, exit code {ended.code}")


def gone_before_read(stage: Stage) -> Seen:
    """Streams is away, and retention takes 152 of 200 watches."""
    worker = stage.streams()
    stage.num_answered({stage.player.watch("u1", "a")})
    stop(worker)
    for number in range(200):
        stage.player.watch("u1", f"b{number}")
    stage.player.flush()
    [(number, end)] = [each for each in _ends(stage, "watch-events").items() if each[1]]
    before = end - 200 + NUM_GONE
    stage.operator.delete_records(stage.topic("watch-events"), number, before=before)
    worker.child.start()
    answered = stage.num_answered({stage.player.watch("u1", "c")}, within_s=60)
    told = [line.get("records") for line in worker.logged("records_gone")]
    return Seen(bool(answered) and told == [NUM_GONE], f"lines on records gone: {told}")


def _ends(stage: Stage, topic: str) -> dict[int, int]:
    """Return the end of each partition of *topic*."""
    consumer = Consumer(consumer_config(stage.place.kafka, group_id="reports"))
    try:
        return {
            number: consumer.get_watermark_offsets(
                TopicPartition(stage.place.prefix + topic, number), timeout=20
            )[1]
            for number in range(stage.place.kafka.user_partitions)
        }
    finally:
        consumer.close()


def run_worker(stage: Stage) -> Ended:
    """Run a streams worker that is expected to end by itself, on an empty disk."""
    state_dir = stage.place.directory / f"state-{free_ports(1)[0]}"
    return stage.run("streams", env={"NEXTWATCH_STREAMS_STATE_DIR": str(state_dir)})


ROWS = (
    Row("8.1", "partitions added to one topic", partitions_added),
    Row("8.2", "all topics of users grown by hand", all_topics_grown),
    Row("8.3", "a changelog created by the broker", changelog_by_auto_creation),
    Row("8.4", "a trainer away for longer than retention", trainer_after_retention),
    Row("8.10", "settings that an operator raised", raised_settings),
    Row("8.11", "a limit smaller than a message", small_limit),
    Row("8.12", "the trainer's lag", lag_of_the_trainer),
    Row("8.13", "a check beside an open transaction", check_beside_a_transaction),
    Row("8.14", "records gone before they were read", gone_before_read),
)
