"""Run one report on a stack: topics under a prefix, its processes, and a user's client."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import Message
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    ConfigResource,
    ResourceType,
)

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.cluster.operator import Operator
from benchmarks.stack.player import Player
from benchmarks.stack.prefixed_stack import PrefixedStack, StackProcess
from benchmarks.stack.waiting import eventually
from contract.kafka.records import headers_of
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.stack import EmbeddedStack

CHANGELOG = "nextwatch-streams-windows"
READY_S = 120.0
STOP_S = 20.0
COMMAND_S = 120.0


class Seen(NamedTuple):
    """What was seen, in words, and whether it is right."""

    is_right: bool
    text: str


class Ended(NamedTuple):
    """A command or a process that ended: exit code, what it wrote, and after how many seconds."""

    code: int
    text: str
    after_s: float

    @property
    def lines(self) -> list[str]:
        """What it wrote, without empty lines."""
        return [line for line in self.text.splitlines() if line.strip()]


@dataclass
class Stage:
    """The prefixed stack, the client and the operator of one row.

    `place` has its settings, `player` is whoever uses it, `operator` whoever runs the broker.
    """

    place: PrefixedStack
    player: Player
    operator: Operator
    _ending: ExitStack
    _more: dict[str, str] = field(default_factory=dict)
    _causes: Counter[str] = field(default_factory=Counter)
    _num_read: int = 0

    def streams(
        self, name: str | None = None, *, waits: bool = True, **settings: object
    ) -> StackProcess:
        """Start a streams worker with a health server; return it once it is ready."""
        settings = {"HTTP_PORT": free_ports(1)[0]} | settings
        worker = self.place.worker(name=name, env=self._more, **settings)
        if waits:
            worker.wait_ready(READY_S)
        return worker

    def process(self, module: str, env: Mapping[str, str] | None = None) -> StackProcess:
        """Start trainer or index_sync."""
        own = {"NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(self.place.directory / "checkpoints")}
        return self.place.worker("-m", module, name=module, env=own | self._more | dict(env or {}))

    def run(self, *argv: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run the Python module and arguments *argv* to its end; -1 if that does not come."""
        return self.run_all([argv], env=env)[0]

    def run_all(
        self, commands: Iterable[tuple[str, ...]], env: Mapping[str, str] | None = None
    ) -> list[Ended]:
        """Run all *commands* at the same time, as `run` does."""
        begun_s = monotonic()
        whole_env = {**inherited(os.environ), **self.place.env, **self._more, **(env or {})}
        running = [
            subprocess.Popen(  # noqa: S603 - our own programs
                (sys.executable, "-m", *argv),
                env=whole_env,
                cwd=self.place.directory.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for argv in commands
        ]
        return [_ended(process, begun_s) for process in running]

    def another(self, prefix: str, **settings: str) -> "Stage":
        """Return a stage with another topic prefix, on the same broker and index."""
        return self._ending.enter_context(stage_on(self.place.stack, prefix, settings))

    def on_cluster(self, **options: Any) -> tuple["Stage", EmbeddedCluster]:
        """Return a stage on a cluster of its own, started with *options*, and the cluster."""
        cluster = EmbeddedCluster(self.place.directory / "cluster", **options)
        self._ending.enter_context(cluster)
        num_replicas = str(len(cluster.brokers))
        settings = {
            "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "NEXTWATCH_KAFKA_REPLICATION_FACTOR": num_replicas,
        }
        own = stage_on(self.place.stack, f"{self.place.prefix}own-", settings)
        return self._ending.enter_context(own), cluster

    def topic(self, name: str) -> str:
        """Return the full name of a topic."""
        return self.place.prefix + name

    def settings_of(self, name: str) -> dict[str, str]:
        """Return the settings of a topic."""
        resource = ConfigResource(ResourceType.TOPIC, self.topic(name))
        [answer] = self.operator.admin.describe_configs([resource]).values()
        return {entry.name: entry.value for entry in answer.result(READY_S).values()}

    def use(self, **settings: str) -> None:
        """Add *settings* to those of all processes that are started from now on."""
        self._more.update(settings)

    def callback(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call *function* when this row is over."""
        self._ending.callback(function, *arguments)

    def causes(self) -> Counter[str]:
        """Return how many recommendations named each event."""
        answers = self.player.poll("recommendations")
        for message in answers[self._num_read :]:
            if value := message.value():
                self._causes.update(json.loads(value)["caused_by"])
        self._num_read = len(answers)
        return self._causes

    def num_answered(self, wanted: Iterable[str], *, within_s: float = 60.0) -> int:
        """Wait for answers to all of *wanted*, and return how many were answered."""
        ids = set(wanted)
        self.player.flush()
        eventually(lambda: ids <= self.causes().keys(), within_s=within_s)
        return len(ids & self.causes().keys())

    def num_twice(self, wanted: Iterable[str]) -> int:
        """Return how many of *wanted* were answered more than once by now."""
        causes = self.causes()
        return sum(causes[event_id] > 1 for event_id in wanted)

    def watches(self, count: int, tag: str, *, users: int = 40) -> set[str]:
        """Produce *count* watches of so many *users*, each of another video; return their ids."""
        return {self.player.watch(f"u{n % users}", f"{tag}{n}") for n in range(count)}

    def list_of(self, user_id: str) -> list[str]:
        """Ask for a list, and return its videos."""
        return [item["video_id"] for item in self.answer(user_id)["items"]]

    def answer(self, user_id: str) -> dict[str, Any]:
        """Ask for a list, and return the answer."""
        asked = self.player.ask(user_id)
        self.player.flush()
        return self.player.answer_to(asked, within_s=30)

    def user_of_each_partition(self) -> dict[int, str]:
        """Return a user of each partition that had an answer."""
        return {
            message.partition() or 0: (message.key() or b"").decode()
            for message in self.player.poll("recommendations")
        }

    def letters(self, topic: str, count: int, *, within_s: float = 20.0) -> list[Message]:
        """Wait for *count* dead letters of *topic*, and return those that came."""
        key = "video" if topic == "video-uploads" else "user"

        def letters() -> list[Message]:
            return self.player.poll(f"{topic}.dlq", key=key)

        eventually(lambda: len(letters()) >= count, within_s=within_s)
        return letters()

    def announcements(self) -> list[dict[str, Any]]:
        """Return every announcement of a bundle so far."""
        values = [message.value() for message in self.player.poll("model-bundles", key="bundle")]
        return [json.loads(value) for value in values if value]

    def last_records(self, topic: str, *, key: str = "user") -> dict[bytes, bytes | None]:
        """Return the last value of each key of *topic*."""
        num_before = -1
        while len(self.player.poll(topic, key=key)) > num_before:
            num_before = len(self.player.read[topic])
        return {message.key() or b"": message.value() for message in self.player.read[topic]}


@contextmanager
def stage_on(
    stack: EmbeddedStack, prefix: str, settings: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """Yield a stage on *stack*, and remove its processes and topics at the end."""
    with ExitStack() as ending:
        place = PrefixedStack(stack, prefix, settings or {})
        ending.callback(place.close)
        place.directory.mkdir(parents=True, exist_ok=True)
        player = Player(place)
        ending.callback(player.close)
        yield Stage(place, player, Operator(place.bootstrap_servers), ending)


def stop(worker: StackProcess) -> int | None:
    """Ask *worker* to stop, and return its exit code; None if it does not go."""
    worker.child.terminate()
    worker.child.wait_ended(STOP_S)
    code = worker.child.exit_code
    worker.child.kill()
    return code


def code_within(worker: StackProcess, within_s: float) -> int | None:
    """Return the exit code of *worker*; None if it has not ended within so many seconds."""
    worker.child.wait_ended(within_s)
    return worker.child.exit_code


def text_of(worker: StackProcess) -> str:
    """Return all that *worker* has written."""
    return worker.child.log_path.read_text(errors="replace")


def reason_of(letter: Message) -> str:
    """Return why a record is a dead letter."""
    headers = dict(headers_of(letter))
    return (headers["dlq.reason"] or b"").decode()


def _ended(process: "subprocess.Popen[str]", begun_s: float) -> Ended:
    try:
        text, _ = process.communicate(timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        return Ended(-1, text, monotonic() - begun_s)
    return Ended(process.returncode, text, monotonic() - begun_s)
