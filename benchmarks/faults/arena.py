"""Start the stack that faults break: brokers, index, a bundle in service, workers, events.

A stack serves some rounds and is then renewed, so that a round does not depend on all before it.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.faults.fault_actors import FaultActors
from benchmarks.faults.flow import Flow
from benchmarks.faults.ledger import FaultLedger
from benchmarks.faults.proxy import LOOPBACK, Network
from benchmarks.stack.bundle_in_service import put_in_service
from benchmarks.stack.waiting import eventually
from contract.wire.topics import SEARCH_EVENTS
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.process.process import Child, Plan
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics.topics import reconcile

NUM_WORKERS = 2
START_S = 180.0
SESSION_TIMEOUT_MS = 6_000
"""The least that a Kafka of production allows: every round waits for it."""

PATIENCE_S = 60.0
"""How long a fault waits for what it needs before it goes on."""


class NotRecoveredError(Exception):
    """The stack did not recover in time."""


@dataclass(frozen=True, slots=True)
class FaultTiming:
    """When a fault happened (`time.monotonic`), and how long the others took to take over."""

    at_s: float
    takeover_s: float | None = None


@dataclass(frozen=True, slots=True)
class OneBroker:
    """The only broker, and the network that every client reaches it through."""

    broker: EmbeddedBroker
    network: Network


@dataclass(frozen=True, slots=True)
class Arena:
    """Everything a fault can touch, and the ledger of the stack; one broker, or a cluster."""

    stack: EmbeddedStack
    actors: FaultActors
    ledger: FaultLedger
    rng: random.Random
    brokers: OneBroker | EmbeddedCluster

    @property
    def broker(self) -> EmbeddedBroker:
        """The only broker."""
        assert isinstance(self.brokers, OneBroker)
        return self.brokers.broker

    @property
    def network(self) -> Network:
        """The network before the only broker."""
        assert isinstance(self.brokers, OneBroker)
        return self.brokers.network

    @property
    def cluster(self) -> EmbeddedCluster:
        """The three brokers."""
        assert isinstance(self.brokers, EmbeddedCluster)
        return self.brokers

    @property
    def session_s(self) -> float:
        """The session timeout in seconds."""
        return self.stack.kafka.session_timeout_ms / 1_000


Fault = Callable[[Arena], FaultTiming]
"""Breaks something, mends it, and returns when it struck."""


@contextmanager
def arena(
    seed: int,
    *,
    rate: float,
    breaks: Sequence[str],
    env: Mapping[str, str],
    has_cluster: bool = False,
    is_kept: Callable[[], bool] = lambda: False,
) -> Iterator[Arena]:
    """Start everything, yield it while events flow and are answered, and leave nothing behind.

    Nothing but logs and state, if *is_kept* says so in the end. With *has_cluster* there are three
    brokers.

    Raises:
        NotRecoveredError: it did not begin to answer.
    """
    with ExitStack() as ending:
        start = _start_cluster if has_cluster else _start_broker
        stack, brokers = start(ending, env, is_kept)
        stack.start()
        put_in_service(stack)
        actors = FaultActors(
            stack, (sys.executable, "-m", "benchmarks.faults.broken", *breaks), env
        )
        for _ in range(NUM_WORKERS):
            actors.add()
        ledger = FaultLedger(stack.kafka, Flow(seed), rate=rate)
        ending.callback(ledger.stop)
        ledger.start()
        rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        if not eventually(lambda: actors.is_whole() and ledger.answered_s, within_s=START_S):
            raise NotRecoveredError(f"no answers after {START_S:.0f} s; see {stack.directory}")
        yield Arena(stack, actors, ledger, rng, brokers)


def _start_broker(
    ending: ExitStack, env: Mapping[str, str], is_kept: Callable[[], bool]
) -> tuple[EmbeddedStack, OneBroker]:
    """Start a broker behind a proxy."""
    proxy_port, control_port = free_ports(2)
    inherited_env = inherited(os.environ)
    bootstrap = {"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{proxy_port}"}
    stack = _new_stack(ending, bootstrap | dict(env), is_kept)
    logs = stack.directory / "logs"
    broker = EmbeddedBroker(
        env=inherited_env, log_path=logs / "broker.log", advertised_port=proxy_port
    )
    ending.callback(broker.child.kill)
    broker.start()
    ports = (str(proxy_port), str(broker.port), str(control_port))
    argv = (sys.executable, "-m", "benchmarks.faults.proxy", *ports)
    proxy = Child(Plan("proxy", argv, inherited_env, logs / "proxy.log", (control_port,)))
    ending.callback(proxy.kill)
    proxy.start()
    proxy.wait_ready(START_S)
    network = Network(control_port)
    ending.callback(network.close)
    reconcile(stack.kafka)
    return stack, OneBroker(broker, network)


def _start_cluster(
    ending: ExitStack, env: Mapping[str, str], is_kept: Callable[[], bool]
) -> tuple[EmbeddedStack, EmbeddedCluster]:
    """Start three brokers; of each search event only one of them has a copy."""
    directory = ending.enter_context(TemporaryDirectory(prefix="nextwatch-faults-"))
    cluster = ending.enter_context(EmbeddedCluster(Path(directory), num_brokers=3))
    stack = _new_stack(ending, cluster.env() | dict(env), is_kept)
    reconcile(stack.kafka)
    name = stack.kafka.layout.name(SEARCH_EVENTS)
    replicas = [[1 + number % 3] for number in range(stack.kafka.user_partitions)]
    cluster.operator.delete_topic(name)
    cluster.operator.create_topic(name, replicas, min_insync_replicas="1")
    return stack, cluster


def _new_stack(
    ending: ExitStack, env: Mapping[str, str], is_kept: Callable[[], bool]
) -> EmbeddedStack:
    timeout = {"NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS)}
    stack = EmbeddedStack(
        os.environ, processes=("index",), is_supervised=False, env=timeout | dict(env)
    )
    ending.callback(lambda: stack.stop(is_kept=is_kept(), with_state=True))
    return stack
