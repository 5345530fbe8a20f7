"""Measure a restart after SIGKILL: ``python -m benchmarks.restart --json``.

A worker of the embedded stack owns all partitions, with the windows of a million users. It is
killed while events come, and the next one opens the same stores. Beside it, a worker that finds
no store and reads the whole changelog: what every kill cost while stores were not kept.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.serving.rig import facts
from contract.kafka.client import consumer_config, producer_config, retried
from contract.process.clock import system_clock
from contract.wire.events import Watch, encode
from contract.wire.topics import WATCH_EVENTS, WINDOWS
from models.history import codec as history_codec
from models.history.history import WatchEntry, Window
from nextwatch.embedded.process.process import Child
from nextwatch.embedded.stack import EmbeddedStack

NUM_WATCHES = 20
NUM_EVENTS = 2_000
DAY_MS = 86_400_000
WITHIN_S = 1_800.0
_LOOK_S = 0.05
_POLL_EVERY = 5_000


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.restart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    given = parser.parse_args()
    print(json.dumps(measure(given.users)))


def measure(num_users: int) -> dict[str, Any]:
    """Return what a restart costs with *num_users*, with and without the stores."""
    with EmbeddedStack(os.environ, processes=("broker",), is_supervised=False) as stack:
        _publish_windows(stack, num_users)
        state_dir = stack.directory / "state"
        full = RestartedWorker.started(stack, state_dir, "without_store")
        _send_events(stack, num_users, run=1)
        _await_commits(stack, NUM_EVENTS)
        full.kill()
        _send_events(stack, num_users, run=2)
        kept = RestartedWorker.started(stack, state_dir, "with_store")
        _await_commits(stack, 2 * NUM_EVENTS)
        kept.kill()
        return {
            "users": num_users,
            "broker": stack.broker_name,
            **kept.figures(),
            "without_store": full.figures(),
        }


@dataclass(frozen=True)
class RestartedWorker:
    """A worker that serves, *ready_s* after its start."""

    child: Child
    ready_s: float

    @classmethod
    def started(cls, stack: EmbeddedStack, state_dir: Path, name: str) -> "RestartedWorker":
        """Start a worker on *state_dir* and return it once it has its partitions."""
        env = {
            "NEXTWATCH_STREAMS_STATE_DIR": str(state_dir),
            "NEXTWATCH_STREAMS_RECOMMEND": "false",
        }
        begun_s = monotonic()
        child = stack.add_process(name, (sys.executable, "-m", "streams"), env)
        while not facts(child.log_path, "partitions_assigned"):
            if not child.is_running or monotonic() - begun_s > WITHIN_S:
                raise SystemExit(child.exit_report())
            sleep(_LOOK_S)
        return cls(child, monotonic() - begun_s)

    def figures(self) -> dict[str, Any]:
        """Return the seconds from its start, and the changelog records that it read in them."""
        read = facts(self.child.log_path, "changelog_read")
        return {
            "ready_s": round(self.ready_s, 2),
            "records_read": sum(read[0]["records"].values()) if read else 0,
        }

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait_ended(10)


def _await_commits(stack: EmbeddedStack, num_events: int) -> None:
    """Wait until the group has committed *num_events* altogether."""
    kafka = stack.kafka
    name = kafka.layout.name(WATCH_EVENTS)
    places = [TopicPartition(name, number) for number in range(kafka.user_partitions)]
    consumer = Consumer(consumer_config(kafka, group_id=kafka.layout.streams_group))
    with closing(consumer):
        deadline_s = monotonic() + WITHIN_S
        while sum(max(0, at.offset) for at in _committed(consumer, places)) < num_events:
            if monotonic() > deadline_s:
                raise SystemExit(f"{num_events} events are not committed")
            sleep(_LOOK_S)


def _committed(consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
    return retried(lambda left_s: consumer.committed(places, timeout=left_s), within_s=30)


def _publish_windows(stack: EmbeddedStack, num_users: int) -> None:
    producer = Producer(
        producer_config(stack.kafka, linger_ms=20) | {"queue.buffering.max.messages": 500_000}
    )
    name = stack.kafka.layout.name(WINDOWS)
    for number, (user_id, window) in enumerate(_windows(num_users)):
        producer.produce(name, key=user_id.encode(), value=history_codec.encode(window))
        if number % _POLL_EVERY == 0:
            print(f"\r{number:,} of {num_users:,} windows", end="", file=sys.stderr)
            producer.poll(0)
            while len(producer) > 20 * _POLL_EVERY:
                producer.poll(0.1)
    if producer.flush(120):
        raise SystemExit("the broker did not take the windows")
    print(file=sys.stderr)


def _windows(num_users: int) -> Iterator[tuple[str, Window]]:
    first_ms = system_clock() - 2 * DAY_MS
    for number in range(num_users):
        watches = tuple(
            WatchEntry(
                first_ms + 60_000 * nth,
                (number * NUM_WATCHES + nth).to_bytes(16, "big"),
                f"v{(number * 31 + nth) % 100_000}",
                20_000,
                30_000,
            )
            for nth in range(NUM_WATCHES)
        )
        yield f"u{number:07d}", Window(watches)


def _send_events(stack: EmbeddedStack, num_users: int, *, run: int) -> None:
    producer = Producer(producer_config(stack.kafka, linger_ms=5))
    name = stack.kafka.layout.name(WATCH_EVENTS)
    for number in range(NUM_EVENTS):
        user_id = f"u{number * 7_919 % num_users:07d}"
        event = Watch(
            event_id=f"restart-{run}-{number}",
            user_id=user_id,
            video_id=f"v{number}",
            event_time_ms=system_clock(),
            watch_ms=20_000,
            duration_ms=30_000,
        )
        producer.produce(name, key=user_id.encode(), value=encode(event))
    if producer.flush(60):
        raise SystemExit("the broker did not take the events")


if __name__ == "__main__":
    main()
