"""A producer that leaves a transaction open: ``python -m benchmarks.faults.open_transaction NAME``.

It writes watches of users whom nobody else knows, says "open", and waits to be killed.
"""

import os
import sys
from threading import Event

from confluent_kafka import Producer

from contract.kafka.client import producer_config
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings, load
from contract.wire.events import Watch, encode
from contract.wire.topics import WATCH_EVENTS

NUM_WATCHES = 40
TIMEOUT_MS = 3_000
"""After so long the broker aborts it, as soon as it looks: every ten seconds by default."""

_ANSWER_S = 20.0


def main() -> None:
    """Open a transaction and wait."""
    [name] = sys.argv[1:]
    kafka = load(KafkaSettings, os.environ)
    config = {"transactional.id": name, "transaction.timeout.ms": TIMEOUT_MS}
    producer = Producer(producer_config(kafka) | config)
    producer.init_transactions(_ANSWER_S)
    producer.begin_transaction()
    for number in range(NUM_WATCHES):
        user_id = f"phantom{number}-{name}"
        event = Watch(
            event_id=f"{name}-{number}",
            user_id=user_id,
            video_id="phantom",
            event_time_ms=system_clock(),
            watch_ms=1_000,
            duration_ms=30_000,
        )
        producer.produce(kafka.layout.name(WATCH_EVENTS), encode(event), user_id)
    producer.flush(_ANSWER_S)
    print("open", flush=True)
    Event().wait()


if __name__ == "__main__":
    main()
