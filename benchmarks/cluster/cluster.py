"""Run a Kafka cluster for one test: one broker, or three brokers and their controller.

Each node is a child that dies with its parent, on loopback, started from the pinned jars. On the
listener PLAINTEXT everybody is the super user ANONYMOUS: the brokers among themselves, and whoever
runs the cluster. Where clients shall need a password or a certificate they have another listener.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from benchmarks.cluster import listeners
from benchmarks.cluster.certificates import PASSWORD, Certificate, issue
from benchmarks.cluster.listeners import Listeners, Protocol
from benchmarks.cluster.operator import Operator, until
from contract.errors import StackError
from nextwatch.embedded.broker import default_engine
from nextwatch.embedded.kafka import node
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.process.process import Child, Plan

START_S = 90.0
STOP_S = 20.0
_TOOL_S = 60
_CONTROLLER = 100
_OF_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "broker.session.timeout.ms": "6000",  # four JVMs start on two cores
}


class EmbeddedCluster:
    """A cluster below *directory*; with three brokers the controller is a node apart.

    Clients use *protocol*: with SASL they are *users* by SCRAM-SHA-256, with SSL by certificates
    of their names. With *has_acls* users may do nothing that `Operator.allow` has not granted.
    *settings* are those of every node, as Kafka names them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        num_brokers: Literal[1, 3] = 1,
        protocol: Protocol = "PLAINTEXT",
        users: Sequence[str] = (),
        has_acls: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        distribution = default_engine(os.environ).distribution
        if distribution is None:
            raise RuntimeError("a cluster needs Apache Kafka, and this machine has none")
        self._distribution = distribution
        self._directory = directory
        self._users = users
        self._settings = (_OF_THREE if num_brokers > 1 else {}) | dict(settings or {})
        self._settings |= listeners.with_acls() if has_acls else {}
        self._certificates: dict[str, Certificate] = {}
        numbers = range(1, num_brokers + 1)
        controller_port, *ports = free_ports(1 + 2 * num_brokers)
        self._listeners = Listeners(
            protocol,
            ports=dict(zip(numbers, ports[:num_brokers], strict=True)),
            client_ports=dict(zip(numbers, ports[num_brokers:], strict=True)),
            controller=_CONTROLLER if num_brokers > 1 else 1,
            controller_port=controller_port,
        )
        self._nodes: dict[int, Child] = {}
        self.operator = Operator(self.bootstrap_servers)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """Where the super user finds the brokers."""
        return self._listeners.bootstrap_servers

    @property
    def brokers(self) -> Mapping[int, Child]:
        """The brokers by number, to kill one or to stop it."""
        return {number: self._nodes[number] for number in self._listeners.ports}

    def env(self, user: str = "") -> dict[str, str]:
        """Return the settings by which *user* reaches the cluster, where it knows users."""
        protocol, brokers = self._listeners.protocol, self._listeners.ports
        given = {
            "BOOTSTRAP_SERVERS": self._listeners.client_servers,
            "SECURITY_PROTOCOL": protocol,
            "REPLICATION_FACTOR": str(len(brokers)),
        }
        if "SASL" in protocol:
            given |= {"SASL_MECHANISM": "SCRAM-SHA-256"}
            given |= {"SASL_USERNAME": user, "SASL_PASSWORD": PASSWORD}
        if "SSL" in protocol:
            given["SSL_CA_LOCATION"] = str(self.certificate("broker").certificate)
        if protocol == "SSL":
            own = self.certificate(user)
            given |= {"SSL_CERTIFICATE_LOCATION": str(own.certificate)}
            given |= {"SSL_KEY_LOCATION": str(own.key)}
        return {f"NEXTWATCH_KAFKA_{name}": value for name, value in given.items()}

    def certificate(self, name: str) -> Certificate:
        """Return the certificate of a user or of ``broker``; for another name, a new one."""
        if name not in self._certificates:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._certificates[name] = issue(self._directory, name, self._distribution.java)
        return self._certificates[name]

    def start(self) -> None:
        """Start every node, wait until all brokers are known, and add the users."""
        cluster_id, security = node.random_id(), self._security()
        for number in {self._listeners.controller, *self._listeners.ports}:
            changes = {**self._settings, **security, **self._listeners.of(number)}
            self._nodes[number] = self._node(number, cluster_id, changes)
            self._nodes[number].start()
        for number in self._nodes:
            self._wait_ready(number)
        until(self._are_all_known, "not all brokers are known")
        if "SASL" in self._listeners.protocol:
            for user in self._users:
                self.operator.add_user(user)

    def stop(self) -> None:
        """End every node at once: nothing in it is worth an orderly end."""
        for child in self._nodes.values():
            child.kill()

    def restart(self, number: int, *, is_killed: bool = False) -> None:
        """Stop a broker, or kill it, and start it again; returns when it listens."""
        child = self._nodes[number]
        if is_killed:
            child.kill()
        else:
            child.stop(STOP_S)
        self.start_again(number)

    def start_again(self, number: int) -> None:
        """Start a broker that was stopped or killed; returns when it listens."""
        self._nodes[number].start()
        self._wait_ready(number)

    def _wait_ready(self, number: int) -> None:
        """Wait until a node listens; start it once more if it was too slow for its controller."""
        child = self._nodes[number]
        try:
            child.wait_ready(START_S)
        except StackError:
            if child.is_running:
                raise
            child.start()
            child.wait_ready(START_S)

    def tool(self, main: str, *arguments: str) -> str:
        """Run a program of Kafka's own, told where the cluster is; return what it said."""
        command = self._distribution.java_command("-XX:+UseSerialGC", main=main)
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, "--bootstrap-server", self.bootstrap_servers, *arguments],
            capture_output=True,
            text=True,
            env=node.java_env(os.environ),
            timeout=_TOOL_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{main} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def _are_all_known(self) -> bool:
        known = self.operator.admin.list_topics(timeout=5).brokers
        return len(known) == len(self._listeners.ports)

    def _node(self, number: int, cluster_id: str, changes: Mapping[str, str | None]) -> Child:
        """Format and configure a node."""
        folder = self._directory / f"node{number}"
        folder.mkdir(parents=True)
        template, data_dir = self._distribution.template, folder / "data"
        node.copy_template(template, data_dir, cluster_id=cluster_id, node_id=number)
        controller_port = self._listeners.controller_port
        port = self._listeners.ports.get(number, controller_port)
        settings = node.configure(
            folder,
            data_dir=data_dir,
            port=port,
            controller_port=controller_port,
            advertised_port=port,
            changes=changes,
        )
        flags = [f"-XX:ErrorFile={folder / 'crash.log'}"]
        aot_cache = self._distribution.aot_cache
        if aot_cache is not None and aot_cache.exists():
            flags.append(f"-XX:AOTCache={aot_cache}")
        argv = node.server_command(self._distribution, settings, *flags)
        env = node.java_env(os.environ)
        return Child(Plan(f"node{number}", argv, env, folder / "log", (port,)))

    def _security(self) -> dict[str, str]:
        protocol, found = self._listeners.protocol, dict[str, str]()
        if "SASL" in protocol:
            found |= listeners.with_scram()
        if "SSL" in protocol:
            found |= listeners.with_tls(self.certificate("broker"))
        if protocol == "SSL":
            found |= listeners.with_client_certificates(self._trusted())
        return found

    def _trusted(self) -> Path:
        """Return a file of the certificates of all users."""
        file = self._directory / "users.pem"
        certificates = [self.certificate(user).certificate.read_text() for user in self._users]
        file.write_text("".join(certificates))
        return file
