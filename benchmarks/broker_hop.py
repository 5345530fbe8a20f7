"""What one hop through the embedded broker costs: ``python -m benchmarks.broker_hop``.

Two tables. How long a record takes from a plain producer to a plain consumer, by the consumer's
fetch wait; and the same, with the broker's share of a core, by how many records its partitions
hold already. The embedded stack's fetch waits were chosen by these (nextwatch/embedded/broker.py).
"""

import argparse
import json
import os
import statistics
import threading
from time import monotonic, sleep

import psutil
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from contract.kafka import consumer_config, producer_config
from nextwatch.embedded.stack import EmbeddedStack

TOPIC = "recommendations"
RECORD_BYTES = 2_400
EVERY_S = 0.02
SENT = b"sent "
"""How measured records begin; "latest" is answered too low, so older ones come along."""


class Line:
    """A producer and a consumer of one topic, and the times records take between them."""

    def __init__(self, stack: EmbeddedStack, *, fetch_wait_ms: int) -> None:
        settings = stack.kafka
        config = consumer_config(settings, group_id="benchmark")
        self._consumer = Consumer(config | {"fetch.wait.max.ms": fetch_wait_ms})
        self._consumer.assign(
            [TopicPartition(TOPIC, p, OFFSET_END) for p in range(settings.user_partitions)]
        )
        self._producer = Producer(producer_config(settings))
        self._broker = psutil.Process(stack.process("broker").pid)

    def fill(self, num_records: int) -> None:
        """Let the broker keep *num_records* more, one or two in a batch, as a trickle leaves them."""
        for number in range(num_records):
            self._producer.produce(TOPIC, key=f"u{number}", value=os.urandom(RECORD_BYTES))
            if number % 8 == 7:  # noqa: PLR2004 - two for each of four partitions
                self._producer.flush()
        self._producer.flush()

    def measure(self, num_records: int) -> dict[str, float]:
        """Send *num_records* at 50/s; return p50 and p99 of a hop and the broker's CPU share."""
        while self._consumer.poll(0.5):
            pass
        took_ms: list[float] = []
        has_ended = threading.Event()

        def receive() -> None:
            while not has_ended.is_set():
                message = self._consumer.poll(0.1)
                value = message.value() if message is not None else None
                if value is not None and value.startswith(SENT):
                    sent_s = float(value.removeprefix(SENT).split(b" ")[0])
                    took_ms.append(1e3 * (monotonic() - sent_s))

        receiver = threading.Thread(target=receive)
        receiver.start()
        started_s, cpu_s = monotonic(), sum(self._broker.cpu_times()[:2])
        for number in range(num_records):
            body = (SENT + f"{monotonic()} ".encode()).ljust(RECORD_BYTES, b"x")
            self._producer.produce(TOPIC, key=f"u{number}", value=body)
            self._producer.poll(0)
            sleep(EVERY_S)
        self._producer.flush()
        sleep(0.3)
        share = (sum(self._broker.cpu_times()[:2]) - cpu_s) / (monotonic() - started_s)
        has_ended.set()
        receiver.join()
        cuts = statistics.quantiles(took_ms, n=100)
        return {
            "p50_ms": round(cuts[49], 1),
            "p99_ms": round(cuts[98], 1),
            "broker_cpu_percent": round(100 * share, 1),
        }

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def main() -> None:
    """Print both tables as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=150, help="measured for each row")
    given = parser.parse_args()
    by_wait: dict[int, dict[str, float]] = {}
    by_kept: dict[int, dict[str, float]] = {}
    with EmbeddedStack(os.environ, processes=("broker",), is_supervised=False) as stack:
        for wait_ms in (10, 20, 50, 100):
            line = Line(stack, fetch_wait_ms=wait_ms)
            by_wait[wait_ms] = line.measure(given.records)
            line.close()
    with EmbeddedStack(os.environ, processes=("broker",), is_supervised=False) as stack:
        line = Line(stack, fetch_wait_ms=20)
        kept = 0
        for wanted in (0, 10_000, 20_000, 40_000):
            line.fill(wanted - kept)
            kept = wanted
            by_kept[wanted] = line.measure(given.records)
        line.close()
    print(json.dumps({"by_fetch_wait_ms": by_wait, "by_records_kept": by_kept}))


if __name__ == "__main__":
    main()
