"""Send events and receive answers, in a process of its own.

`python -m benchmarks.serving.load` is started by `rig`.

Open loop: each event has a time at which it is meant to be sent, whatever became of those
before it, and its latency counts from that time, so a stall is charged to every event that
waited for it. Sending and receiving are in one process, on one monotonic clock.

The answers may be of any maker: JSON objects on one topic, with ``caused_by``, the ids of the
events answered, and ``items``.
"""

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, process_time, sleep
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from jaxtyping import Float64, Int64

from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import open_catalogue
from contract.kafka.client import consumer_config, producer_config, take
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings, load
from contract.wire.topics import RECOMMENDATIONS, WATCH_EVENTS

# Shape legend: E = events, A = answers.

_SWITCH_S = 0.0005
_QUIET_S = 0.3
_FULL_LIST = 20


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The load to send. The rig gives every run on a stack its own *run* number.

    *rate_eps* 0 sends everything at once, in large batches. *hot_rate_eps* more events a second
    come from one user, the last one.
    """

    num_events: int
    run: int = 0
    rate_eps: float = 0.0
    hot_rate_eps: float = 0.0
    first_event: int = 0
    linger_ms: float = 1.0
    patience_s: float = 120.0
    answers_topic: str = RECOMMENDATIONS.name
    is_answered: bool = True


class _Answer(msgspec.Struct):
    caused_by: list[str]
    items: list[msgspec.Raw]
    degraded: list[str] = []


@dataclass(frozen=True)
class Measured:
    """The result of a load. Times are seconds on the generator's clock; NaN: not answered."""

    meant_s_E: Float64[np.ndarray, "E"]
    answered_s_E: Float64[np.ndarray, "E"]
    is_hot_E: Int64[np.ndarray, "E"]
    received_s_A: Float64[np.ndarray, "A"]
    num_caused_A: Int64[np.ndarray, "A"]
    num_short: int
    num_degraded: int
    generator_cpu_s: float

    @property
    def num_unanswered(self) -> int:
        """How many events were not answered within `Load.patience_s`."""
        return int(np.isnan(self.answered_s_E).sum())

    def latency_ms(self, *, is_hot: bool = False, skip: float = 0.1) -> Float64[np.ndarray, "E"]:
        """Return the latencies of the cold (or hot) events but the first *skip* of them."""
        chosen_E = self.is_hot_E == int(is_hot)
        latency_E = 1_000 * (self.answered_s_E - self.meant_s_E)[chosen_E]
        answered_E = latency_E[int(skip * len(latency_E)) :]
        kept_E: np.ndarray = answered_E[~np.isnan(answered_E)]
        return kept_E

    def rates(self, *, skip: float = 0.15) -> tuple[float, float]:
        """Return (answers, events) a second, without the first and the last *skip* of answers."""
        first, last = int(skip * len(self.received_s_A)), int((1 - skip) * len(self.received_s_A))
        order_A = np.argsort(self.received_s_A, kind="stable")[first:last]
        if len(order_A) < 2:  # noqa: PLR2004 - no rate without an interval
            return float("nan"), float("nan")
        times_A, caused_A = self.received_s_A[order_A], self.num_caused_A[order_A]
        took_s = times_A[-1] - times_A[0]
        return float((len(times_A) - 1) / took_s), float(caused_A[1:].sum() / took_s)

    @property
    def drained_s(self) -> float:
        """The seconds from the first event's intended time to the last answer."""
        return float(self.received_s_A.max(initial=-np.inf) - self.meant_s_E.min())

    def save(self, path: Path) -> None:
        """Write everything to *path*, whole or not at all."""
        draft = path.with_suffix(".draft.npz")
        np.savez(draft, **vars(self))
        draft.rename(path)

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            found: dict[str, Any] = dict(arrays)
        for name in ("num_short", "num_degraded", "generator_cpu_s"):
            found[name] = found[name].item()
        return cls(**found)


@dataclass
class _Reader:
    """Receives the answers to one run in a thread."""

    consumer: Consumer
    run: int
    num_events: int
    is_caught_up: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)
    answers: list[tuple[float, _Answer]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def read(self) -> None:
        decoder = msgspec.json.Decoder(_Answer)
        while not self.is_over.is_set():
            messages = take(self.consumer, 500, within_s=_QUIET_S)
            now_s = monotonic()
            if not messages:
                self.is_caught_up.set()
            for message in messages:
                value = message.value()
                if message.error() is None and value is not None:
                    self._note(decoder.decode(value), now_s)
            if len(self.seen) >= self.num_events:
                return

    def _note(self, answer: _Answer, now_s: float) -> None:
        numbers = [int(name[-12:], 16) for name in answer.caused_by if _run_of(name) == self.run]
        if numbers:
            self.answers.append((now_s, answer))
            self.seen.update(numbers)


def _run_of(event_id: str) -> int:
    return int(event_id[:18].replace("-", ""), 16)


def drive(settings: KafkaSettings, audience: ServingAudience, load: Load) -> Measured:
    """Send *load*, wait for the answers, and return what came of it."""
    plan = _Plan.of(load, audience)
    reader = _Reader(_consumer(settings, load), load.run, len(plan.values))
    thread = threading.Thread(target=reader.read)
    thread.start()
    reader.is_caught_up.wait(30)
    cpu_s = process_time()
    start_s = _send(settings, load, plan)
    if load.is_answered:
        thread.join(load.patience_s + plan.meant_s_E.max(initial=0.0))
    reader.is_over.set()
    thread.join()
    cpu_s = process_time() - cpu_s
    reader.consumer.close()
    return _measured(reader.answers, load, plan, start_s, cpu_s)


@dataclass(frozen=True)
class _Plan:
    """All events of a load, made before the first is sent: time, user and bytes."""

    meant_s_E: Float64[np.ndarray, "E"]
    users: list[int]
    values: list[bytes]
    is_hot_E: Int64[np.ndarray, "E"]

    @classmethod
    def of(cls, load: Load, audience: ServingAudience) -> "_Plan":
        every_s = 1 / load.rate_eps if load.rate_eps else 0.0
        cold_s = np.arange(load.num_events) * every_s
        span_s = load.num_events * every_s
        hot_s = np.arange(int(load.hot_rate_eps * span_s)) / max(load.hot_rate_eps, 1e-9)
        meant_s_E = np.concatenate([cold_s, hot_s])
        is_hot_E = np.concatenate([np.zeros(len(cold_s), int), np.ones(len(hot_s), int)])
        order_E = np.argsort(meant_s_E, kind="stable")
        meant_s_E, is_hot_E = meant_s_E[order_E], is_hot_E[order_E]
        now_ms, hot_user = system_clock(), audience.num_users - 1
        users, values = [], []
        for event, is_hot in enumerate(is_hot_E.tolist()):
            user = hot_user if is_hot else audience.visitor(load.first_event + event)
            at_ms = now_ms + int(meant_s_E[event] * 1_000)
            users.append(user)
            values.append(audience.watch(load.run, event, user, at_ms=at_ms))
        return cls(meant_s_E, users, values, is_hot_E)


def _consumer(settings: KafkaSettings, load: Load) -> Consumer:
    config = consumer_config(settings, group_id="benchmark-answers")
    consumer = Consumer(config | {"queued.max.messages.kbytes": 1 << 18})
    name = settings.topic_prefix + load.answers_topic
    consumer.assign(
        [TopicPartition(name, p, OFFSET_BEGINNING) for p in range(settings.user_partitions)]
    )
    return consumer


def _send(settings: KafkaSettings, load: Load, plan: _Plan) -> float:
    """Send every event at its time and return the time of the start."""
    config = producer_config(settings, linger_ms=load.linger_ms if load.rate_eps else 20)
    if not load.rate_eps:
        config |= {"batch.size": 1 << 20, "queue.buffering.max.messages": 1_000_000}
    producer = Producer(config)
    name = settings.layout.name(WATCH_EVENTS)
    start_s = monotonic() + 0.05
    for meant_s, user, value in zip(plan.meant_s_E.tolist(), plan.users, plan.values, strict=True):
        wait_s = start_s + meant_s - monotonic()
        if wait_s > 0:
            sleep(wait_s)
        producer.produce(name, key=ServingAudience.user_id(user), value=value)
        producer.poll(0)
    assert producer.flush(30) == 0, "the broker did not take every event"
    return start_s


def _measured(
    answers: Sequence[tuple[float, _Answer]],
    load: Load,
    plan: _Plan,
    start_s: float,
    cpu_s: float,
) -> Measured:
    answered_s_E = np.full(len(plan.values), np.nan)
    for received_s, answer in answers:
        for name in answer.caused_by:
            number = int(name[-12:], 16)
            if _run_of(name) == load.run and not answered_s_E[number] < received_s:
                answered_s_E[number] = received_s
    return Measured(
        meant_s_E=start_s + plan.meant_s_E,
        answered_s_E=answered_s_E,
        is_hot_E=plan.is_hot_E,
        received_s_A=np.array([received_s for received_s, _ in answers]),
        num_caused_A=np.array([len(answer.caused_by) for _, answer in answers], np.int64),
        num_short=sum(len(answer.items) < _FULL_LIST for _, answer in answers),
        num_degraded=sum(bool(answer.degraded) for _, answer in answers),
        generator_cpu_s=cpu_s,
    )


def main() -> None:
    """Run one load against the broker that the environment names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.load", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the catalogue is kept")
    parser.add_argument("--videos", type=int, required=True)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--newest-ms", type=int, required=True, help="of the users' windows")
    parser.add_argument("--load", required=True, help="a `Load` as JSON")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sys.setswitchinterval(_SWITCH_S)
    audience = ServingAudience(
        open_catalogue(given.root, given.videos), given.users, given.newest_ms
    )
    settings = load(KafkaSettings, dict(os.environ))
    plan = msgspec.json.decode(given.load, type=Load)
    drive(settings, audience, plan).save(given.out)


if __name__ == "__main__":
    main()
