"""Run docker-compose.yml as a user does, on its own ports and with its own images."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.stack.waiting import eventually
from contract.process.settings import KafkaSettings, load
from nextwatch.embedded.process.ports import free_ports

ROOT = Path(__file__).parents[2]
UP_WITHIN_S = 240
WORKERS = ("streams", "index_sync", "trainer")


@dataclass
class Project:
    """One project; it looks like a stack to a `Player`."""

    name: str
    env: dict[str, str]
    files: tuple[str, ...] = ("docker-compose.yml",)
    client: dict[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(2))

    @property
    def bootstrap_servers(self):
        """Where the broker is published."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def kafka(self):
        """How to reach the broker from this machine."""
        own = {"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}
        return load(KafkaSettings, self.client | own)

    def compose(self, *arguments):
        """Run ``docker compose`` and return what it prints."""
        files = [part for file in self.files for part in ("--file", str(ROOT / file))]
        ports = {
            "NEXTWATCH_KAFKA_PORT": str(self.ports[0]),
            "NEXTWATCH_QDRANT_PORT": str(self.ports[1]),
        }
        ran = subprocess.run(
            ["docker", "compose", *files, "--project-name", self.name, *arguments],
            env={**os.environ, **self.env, **self.client, **ports},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"docker compose {' '.join(arguments)}: {ran.stderr}"
        return ran.stdout

    def up(self, *arguments):
        """Start what does not run, and wait until every container is healthy."""
        self.compose("up", "--detach", "--no-build", *arguments)
        self.wait_healthy()

    def wait_healthy(self):
        """Wait until all containers that are to run are healthy."""
        unwell = None

        def is_well():
            nonlocal unwell
            unwell = [
                f"{each['Name']}: {each['State']} {each['Health']}"
                for each in self.containers()
                if each["Service"] != "topics" and each["Health"] != "healthy"
            ]
            return not unwell

        assert eventually(is_well, within_s=UP_WITHIN_S, every_s=1.0), (unwell, self.logs())

    def containers(self, service=None):
        """Return what is known of each container, also of those that have ended."""
        named = () if service is None else (service,)
        listed = self.compose("ps", "--all", "--format", "json", *named)
        return [json.loads(line) for line in listed.splitlines()]

    def inspect(self, container):
        """Return everything that the engine knows of *container*."""
        return json.loads(docker("inspect", container["ID"]))[0]

    def kill_9(self, container):
        """End the first process of *container* as the kernel does when memory is short.

        Not by the engine, which would not start again what it was told to end.
        """
        pid = self.inspect(container)["State"]["Pid"]
        assert container["ID"] in Path(f"/proc/{pid}/cgroup").read_text()
        os.kill(pid, signal.SIGKILL)

    def await_restart(self, container, before):
        """Wait until the engine has started *container*, of which *before* is known, again."""

        def is_back():
            now = self.inspect(container)
            return now["RestartCount"] > before["RestartCount"] and now["State"]["Running"]

        assert eventually(is_back, within_s=UP_WITHIN_S, every_s=0.5)

    def logs(self):
        """Return the last lines of every container, for a failed assertion."""
        return self.compose("logs", "--tail", "15")

    def down(self):
        """Remove everything of the project, volumes included."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "10")
        # a busy engine still removes them when Compose has ended, and its next command finds them
        assert eventually(lambda: not self.containers(), within_s=60)


def docker(*arguments, stdin=None):
    """Run ``docker`` and return what it prints."""
    ran = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"docker {' '.join(arguments)}: {ran.stderr}"
    return ran.stdout


def can_kill_from_outside():
    """Return whether processes in containers are processes of this machine, and root's are ours."""
    return Path("/proc/1/cgroup").exists() and os.geteuid() == 0
