"""Run the real stack with the catalogue in service, drive loads and measure their cost.

Broker, index and streams are the embedded stack's processes, unmodified. The collection and
the users' windows are put in place before they start; the bundle is announced as indexed,
as index_sync would, and the workers put it in service themselves.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Literal

import msgspec
import numpy as np
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import GENERATION
from benchmarks.serving.load import Load, Measured
from contract.kafka.client import consumer_config, producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.process.clock import system_clock
from contract.wire.events import BundleAnnouncement, BundleState, encode
from contract.wire.topics import MODEL_BUNDLES, WATCH_EVENTS
from nextwatch.embedded.process.process import Child
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.topics.topics import reconcile

NUM_PARTITIONS = 4
"""Of the user topics in the embedded stack."""

START_S = 60.0
_LOOK_S = 0.05


@dataclass
class Rig:
    """A running stack; *workers* are its streams processes."""

    stack: EmbeddedStack
    audience: ServingAudience
    root: Path
    brokers: Sequence[Child] = ()
    workers: list[Child] = field(default_factory=list)
    num_runs: int = 0
    _committed: Consumer | None = None

    def drive(self, load: Load) -> "Drive":
        """Run *load* from a process of its own and return what came of it, with its costs."""
        self.num_runs += 1
        load = msgspec.structs.replace(load, run=self.num_runs)
        out = self.stack.directory / "logs" / f"run{self.num_runs}.npz"
        before = self._cpu_s()
        peak_mb = self.rss_mb()
        generator = self._generator(load, out)
        while generator.is_running:
            peak_mb = max(peak_mb, self.rss_mb())
            self.check()
            sleep(_LOOK_S)
        if not out.exists():
            raise RuntimeError(generator.exit_report())
        after, measured = self._cpu_s(), Measured.read(out)
        cpu_s = {name: after[name] - before[name] for name in after}
        cpu_s["generator"] = measured.generator_cpu_s
        return Drive(measured, cpu_s, peak_mb)

    def ingest_eps(self, num_events: int, *, patience_s: float = 120.0) -> float:
        """Send *num_events* at once to workers that answer none; return events/s committed.

        The slope between a sixth and five sixths of them, as the group's commits tell.
        """
        self.num_runs += 1
        load = Load(run=self.num_runs, num_events=num_events, is_answered=False)
        looks: list[tuple[float, int]] = []
        before = self._num_committed()
        generator = self._generator(load, self.stack.directory / "logs" / f"run{self.num_runs}.npz")
        deadline_s = monotonic() + patience_s
        while not looks or looks[-1][1] < num_events:
            self.check()
            if monotonic() > deadline_s:
                raise RuntimeError(f"{looks[-1][1]} of {num_events} events committed")
            looks.append((monotonic(), self._num_committed() - before))
            sleep(_LOOK_S)
        generator.wait_ended(10)
        inner = [(at_s, count) for at_s, count in looks if 1 / 6 <= count / num_events <= 5 / 6]
        at_s, counts = np.array(inner).T
        return float(np.polyfit(at_s, counts, 1)[0])

    def _num_committed(self) -> int:
        """Return how many events the workers' group has committed altogether."""
        kafka = self.stack.kafka
        name = kafka.layout.name(WATCH_EVENTS)
        places = [TopicPartition(name, number) for number in range(kafka.user_partitions)]
        if self._committed is None:
            self._committed = Consumer(consumer_config(kafka, group_id=kafka.layout.streams_group))
        return sum(max(0, place.offset) for place in self._committed.committed(places, timeout=10))

    def close(self) -> None:
        """Close what was opened here; the stack is its maker's to stop."""
        if self._committed is not None:
            self._committed.close()

    def check(self) -> None:
        """Raise the exit report of a worker that ended: the figures would miss it."""
        for worker in self.workers:
            if not worker.is_running:
                raise RuntimeError(worker.exit_report())

    def rss_mb(self) -> float:
        """Return the memory of the largest worker, in MiB."""
        return max(psutil.Process(worker.pid).memory_info().rss for worker in self.workers) / 2**20

    def stages(self) -> dict[str, float]:
        """Stop the workers in order and return what they say they spent, summed; may be empty."""
        totals: dict[str, float] = {}
        for worker in self.workers:
            worker.stop(10.0)
            for fact in facts(worker.log_path, "stages_measured"):
                for name, value in fact.items():
                    if isinstance(value, int | float):
                        totals[name] = totals.get(name, 0.0) + value
        return totals

    def _generator(self, load: Load, out: Path) -> Child:
        audience = self.audience
        argv = [sys.executable, "-m", "benchmarks.serving.load", "--root", str(self.root)]
        argv += ["--videos", str(audience.catalogue.num_videos)]
        argv += ["--users", str(audience.num_users), "--newest-ms", str(audience.newest_ms)]
        argv += ["--load", msgspec.json.encode(load).decode(), "--out", str(out)]
        return self.stack.add_process(f"generator{self.num_runs}", argv)

    def _cpu_s(self) -> dict[str, float]:
        found: dict[str, float] = {}
        found["broker"] = sum(_cpu_s(child) for child in self.brokers)
        found["index"] = _cpu_s(self.stack.process("index"))
        for worker in self.workers:
            found["worker"] = found.get("worker", 0.0) + _cpu_s(worker)
            for name, value in _thread_cpu_s(worker.pid).items():
                found[name] = found.get(name, 0.0) + value
        return found


@dataclass(frozen=True)
class Drive:
    """One load, and the CPU seconds each process took from its start to its end."""

    measured: Measured
    cpu_s: Mapping[str, float]
    peak_rss_mb: float

    def cpu_ms_per_event(self) -> dict[str, float]:
        """Return the CPU milliseconds per event, by process, and by thread of the workers."""
        num_events = len(self.measured.meant_s_E)
        return {name: round(1e3 * spent / num_events, 3) for name, spent in self.cpu_s.items()}


@contextmanager
def running(
    audience: ServingAudience,
    *,
    root: Path,
    windows: Path | None,
    num_workers: int = 1,
    num_brokers: Literal[1, 3] = 1,
    env: Mapping[str, str] | None = None,
) -> Iterator[Rig]:
    """Run a stack whose workers start with the stores in *windows* and *env* of their own.

    One broker is the embedded one; three are a cluster with a controller apart, factor 3.
    """
    with ExitStack() as ending:
        cluster = _cluster(ending) if num_brokers > 1 else None
        stack = EmbeddedStack(
            os.environ,
            processes=("index", "streams") if cluster else ("broker", "index", "streams"),
            is_supervised=False,
            env={"NEXTWATCH_PROCESS_BUNDLE_URL": audience.catalogue.bundle_root_url}
            | (cluster.env() if cluster else {}),
            env_of={"streams": dict(env or {})},
        )
        ending.callback(stack.stop)
        if cluster is not None:
            reconcile(stack.kafka)
        rig = Rig(stack, audience, root)
        ending.callback(rig.close)
        audience.catalogue.copy_collection(stack.directory / "index")
        stack.start_storage()
        rig.brokers = (
            list(cluster.brokers.values()) if cluster is not None else [stack.process("broker")]
        )
        assert stack.kafka.user_partitions == NUM_PARTITIONS
        _announce(rig)
        if windows is not None:
            shutil.copytree(windows, stack.directory / "streams", dirs_exist_ok=True)
        stack.start_workers()
        rig.workers.append(stack.process("streams"))
        rig.workers += [
            more_worker(rig, number, windows, env or {}) for number in range(2, num_workers + 1)
        ]
        wait_serving(rig, num_workers)
        yield rig


def _cluster(ending: ExitStack) -> EmbeddedCluster:
    directory = ending.enter_context(TemporaryDirectory(prefix="nextwatch-brokers-"))
    return ending.enter_context(EmbeddedCluster(Path(directory), num_brokers=3))


def facts(log_path: Path, name: str) -> list[dict[str, Any]]:
    """Return the log lines of one name in a process's log."""
    if not log_path.exists():
        return []
    lines = [line for line in log_path.read_text().splitlines() if f'"event": "{name}"' in line]
    return [json.loads(line) for line in lines]


def _announce(rig: Rig) -> None:
    catalogue, kafka = rig.audience.catalogue, rig.stack.kafka
    offer = BundleAnnouncement(
        bundle_id=catalogue.bundle_id,
        generation=GENERATION,
        state=BundleState.INDEXED,
        url=catalogue.bundle_url,
        manifest_sha256=catalogue.manifest_sha256,
        announced_at_ms=system_clock(),
    )
    outbox = Outbox(Producer(producer_config(kafka)))
    name = kafka.layout.name(MODEL_BUNDLES)
    outbox.deliver([Outgoing(name, offer.bundle_id.encode(), encode(offer))])


def more_worker(rig: Rig, number: int, windows: Path | None, env: Mapping[str, str]) -> Child:
    """Start worker *number* with *env* and stores as in *windows*; it is not one of the rig yet."""
    state_dir = rig.stack.directory / f"streams{number}"
    if windows is not None:
        shutil.copytree(windows, state_dir)
    own = {"NEXTWATCH_STREAMS_STATE_DIR": str(state_dir)}
    return rig.stack.add_process(
        f"streams{number}", [sys.executable, "-m", "streams"], {**env, **own}
    )


def wait_serving(rig: Rig, num_workers: int) -> None:
    """Wait until every worker has the bundle in service and its fair share of partitions."""
    share = rig.stack.kafka.user_partitions // num_workers
    deadline_s = monotonic() + START_S
    while not all(_is_serving(worker, share) for worker in rig.workers):
        for worker in rig.workers:
            if not worker.is_running or monotonic() > deadline_s:
                raise RuntimeError(worker.exit_report())
        sleep(_LOOK_S)


def _is_serving(worker: Child, share: int) -> bool:
    assigned = facts(worker.log_path, "partitions_assigned")
    owned = len(assigned[-1]["kept"]) + len(assigned[-1]["opened"]) if assigned else 0
    return bool(facts(worker.log_path, "bundle_in_service")) and owned == share


def _cpu_s(child: Child) -> float:
    times = psutil.Process(child.pid).cpu_times()
    return float(times.user + times.system)


def _thread_cpu_s(pid: int) -> dict[str, float]:
    """Return the CPU seconds of the event loop's thread, librdkafka's, and the other threads."""
    found = {"worker.event_loop": 0.0, "worker.librdkafka": 0.0, "worker.threads": 0.0}
    for thread in psutil.Process(pid).threads():
        name = "worker.event_loop" if thread.id == pid else "worker.threads"
        if _thread_name(pid, thread.id).startswith("rdk:"):
            name = "worker.librdkafka"
        found[name] += thread.user_time + thread.system_time
    return found


def _thread_name(pid: int, thread_id: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{thread_id}/comm").read_text().strip()
    except OSError:
        return ""
