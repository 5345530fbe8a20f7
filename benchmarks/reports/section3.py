"""Reports on event times in the future and on other partitioners."""

from confluent_kafka import KafkaError, Message

from benchmarks.reports.row import Row
from benchmarks.reports.stage import CHANGELOG, Seen, Stage, reason_of
from benchmarks.stack.player import Player
from contract.process.clock import system_clock
from contract.wire.topics import DAY_MS

FAR_MS = 400 * DAY_MS
NUM_USERS = 60
NUM_MISPLACED = 20
NUM_BEFORE = 11


def far_future(stage: Stage) -> Seen:
    """A watch 400 days ahead, event and record alike, then 60 users who watch another video."""
    refused = _send_from_the_future(stage)
    stage.operator.configure_topic(
        stage.topic("watch-events"), message_timestamp_after_max_ms=str(2 * FAR_MS)
    )
    stage.streams()
    accepted = not _send_from_the_future(stage)
    sent = {stage.player.watch(f"u{n}", "of-today") for n in range(NUM_USERS)}
    answered = stage.num_answered(sent)
    reasons = {reason_of(letter) for letter in stage.letters("watch-events", 1)}
    later = stage.num_answered({stage.player.watch("traveller", "after")})
    first = stage.list_of("somebody else")[:1]
    text = (
        f"the broker refuses it: {refused}; let through: {sorted(reasons) or 'accepted'}, "
        f"{answered} of {NUM_USERS} answered, first in the list {first}"
    )
    is_letter = accepted and all(reason.startswith("ts_future") for reason in reasons)
    is_right = refused and is_letter and bool(reasons) and answered == NUM_USERS and bool(later)
    return Seen(is_right and first == ["of-today"], text)


def _send_from_the_future(stage: Stage) -> bool:
    """Send a watch dated 400 days ahead, its record too; return whether the broker refused."""
    errors: list[KafkaError | None] = []

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        errors.append(error)

    time_ms = system_clock() + FAR_MS
    event = {
        "event_id": f"future-{time_ms}",
        "user_id": "traveller",
        "video_id": "of-the-future",
        "event_time_ms": time_ms,
        "watch_ms": 30_000,
        "duration_ms": 30_000,
    }
    stage.player.produce(
        "watch-events", "traveller", event, timestamp=time_ms, on_delivery=on_delivery
    )
    stage.player.flush()
    return any(error is not None for error in errors)  # `!=` of confluent-kafka fails on None


def another_partitioner(stage: Stage) -> Seen:
    """20 users, each 11 watches by librdkafka's default partitioner, then 2 by Kafka's."""
    stage.streams()
    wrong = Player(stage.place, partitioner="consistent_random")
    stage.callback(wrong.close)
    users = [f"u{n}" for n in range(NUM_MISPLACED)]
    for user in users:
        for number in range(NUM_BEFORE):
            wrong.watch(user, f"before{number}")
    wrong.flush()
    sent = {stage.player.watch(user, f"after{n}") for user in users for n in range(2)}
    answered = stage.num_answered(sent)
    letters = stage.letters("watch-events", 1)
    reasons = {reason_of(letter) for letter in letters}
    stage.last_records(CHANGELOG)
    windows = {
        (message.key(), message.partition())
        for message in stage.player.read[CHANGELOG]
        if (message.key() or b"").decode(errors="replace") in users
    }
    num_double = len(windows) - len({key for key, _ in windows})
    erased = stage.run("nextwatch", "erase", users[0], "--quick")
    text = (
        f"{len(letters)} dead letters {sorted(reasons)}, {num_double} users with two windows, "
        f"erase exits with {erased.code}"
    )
    is_right = reasons == {"misplaced"} and not num_double and answered == len(sent)
    return Seen(is_right and erased.code == 0, text)


ROWS = (
    Row("3.1", "a watch 400 days ahead", far_future),
    Row("3.2", "another partitioner", another_partitioner),
)
