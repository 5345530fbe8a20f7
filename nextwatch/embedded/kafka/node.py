"""Configure one Kafka node that is broker and controller at once, on loopback.

Kafka's defaults hold but for what a single node on a laptop needs: one replica, few threads,
small buffers, bounded logs, and no wait before the first rebalance of a group.
"""

import base64
import shutil
import subprocess
import uuid
from pathlib import Path

from contract.errors import StackError
from nextwatch.embedded.kafka.distribution import Distribution
from nextwatch.embedded.ports import LOOPBACK

JVM_FLAGS = (
    "-Xms128m",
    "-Xmx128m",  # some 50 MB live; with 384 the JVM grew to 550 MB in half an hour of garbage
    "-Xmn48m",
    "-XX:+UseSerialGC",
    "-XX:ReservedCodeCacheSize=64m",
    "-XX:-UsePerfData",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)
ENV = {"MALLOC_ARENA_MAX": "2"}
"""glibc gives each thread an arena of its own, and never takes it back."""
_FORMAT_TIMEOUT_S = 60
_META = "meta.properties"
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{loopback}:{controller_port}
listeners=PLAINTEXT://{loopback}:{port},CONTROLLER://{loopback}:{controller_port}
advertised.listeners=PLAINTEXT://{loopback}:{advertised_port}
controller.listener.names=CONTROLLER
log.dirs={data_dir}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=1
num.io.threads=2
background.threads=2
group.coordinator.threads=1
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=8388608
log.segment.bytes=67108864
log.retention.bytes=268435456
log.index.size.max.bytes=1048576
metadata.max.idle.interval.ms=5000
"""


def configure(
    folder: Path, *, data_dir: Path, port: int, controller_port: int, advertised_port: int
) -> Path:
    """Write the settings of the node into *folder*, and return the file."""
    file = folder / "server.properties"
    file.write_text(
        _SETTINGS.format(
            loopback=LOOPBACK,
            port=port,
            controller_port=controller_port,
            advertised_port=advertised_port,
            data_dir=data_dir,
        ),
        encoding="utf-8",
    )
    return file


def server_command(distribution: Distribution, settings: Path, *flags: str) -> tuple[str, ...]:
    """Return the command line of the node with these *settings*."""
    java = distribution.java_command(*JVM_FLAGS, *flags, main="kafka.Kafka")
    return (*java, str(settings))


def is_formatted(data_dir: Path) -> bool:
    """Return whether *data_dir* is a log directory that a node can be started on."""
    return (data_dir / _META).exists()


def copy_template(template: Path, data_dir: Path) -> None:
    """Make *data_dir* a formatted log directory with a cluster id of its own."""
    shutil.copytree(template, data_dir, dirs_exist_ok=True)
    lines = (data_dir / _META).read_text(encoding="utf-8").splitlines()
    renamed = [
        f"cluster.id={_random_id()}" if line.startswith("cluster.id=") else line for line in lines
    ]
    (data_dir / _META).write_text("\n".join(renamed) + "\n", encoding="utf-8")


def format_directory(distribution: Distribution, settings: Path) -> None:
    """Format the log directory that *settings* name, by Kafka's own tool.

    Raises:
        StackError: the tool failed, with its last lines.
    """
    command = distribution.java_command("-XX:+UseSerialGC", main="kafka.tools.StorageTool")
    arguments = ("format", "-t", _random_id(), "-c", str(settings))
    done = subprocess.run(  # noqa: S603 - our own program
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise StackError(f"Kafka's log directory could not be formatted:\n{last}")


def _random_id() -> str:
    """Return a cluster id as Kafka writes them: 16 random bytes in URL-safe base 64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
