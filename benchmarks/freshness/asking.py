"""Send requests for recommendations at a rate, in a process of its own.

Writing bundles and checking answers hold the interpreter. A client that shared it would send late,
and what it waited for would count as the latency of an answer.
"""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from time import monotonic, sleep
from typing import NamedTuple
from uuid import UUID

from confluent_kafka import Producer

from contract.kafka.client import producer_config
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings
from contract.wire.events import RecommendationRequest, encode
from contract.wire.topics import RECOMMENDATION_REQUESTS
from nextwatch.embedded.process.die_with_parent import die_with_parent

_SETTLE_S = 2.0


class SentRequest(NamedTuple):
    """A request, when it was meant to be sent (ms since 1970), and how late it was."""

    request_id: str
    meant_ms: float
    late_ms: float


@contextmanager
def sending_process() -> Iterator[ProcessPoolExecutor]:
    """Run a process for `send_requests`, in a session of its own, as long as the block.

    What it has not sent by then is not waited for: Ctrl-C reaches this process alone, and there may
    be a quarter of an hour to go. On Linux it does not outlive a benchmark that is killed.
    """
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
    ) as executor:
        pid = executor.submit(os.getpid).result()
        try:
            yield executor
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _begin(parent_pid: int) -> None:
    os.setsid()
    die_with_parent(parent_pid)


def send_requests(
    kafka: KafkaSettings, *, rate: float, num: int, num_users: int, first: int
) -> list[SentRequest]:
    """Send *num* requests at *rate* a second, of users in turn; return once they are acknowledged.

    The first of them has the number *first*. One of each user goes before, which opens the
    connections.
    """
    producer = Producer(producer_config(kafka, linger_ms=1))
    topic = kafka.layout.name(RECOMMENDATION_REQUESTS)

    def send(number: int, user: int) -> str:
        request_id, user_id = str(UUID(int=2 << 64 | number)), f"u{user}"
        request = RecommendationRequest(
            request_id=request_id, user_id=user_id, event_time_ms=system_clock()
        )
        producer.produce(topic, key=user_id, value=encode(request))
        producer.poll(0)
        return request_id

    for user in range(num_users):
        send(0, user)
    producer.flush(30)
    sleep(_SETTLE_S)
    start_s, start_ms = monotonic(), float(system_clock())
    sent = []
    for place in range(num):
        meant_s = start_s + place / rate
        sleep(max(0.0, meant_s - monotonic()))
        request_id = send(first + place, place % num_users)
        late_ms = 1_000 * (monotonic() - meant_s)
        sent.append(SentRequest(request_id, start_ms + 1_000 * place / rate, late_ms))
    producer.flush(30)
    return sent
