"""Configure one Kafka node that is broker and controller at once, on loopback.

Kafka's defaults hold but for what a single node on a laptop needs: one replica, few threads,
small buffers, bounded logs, and no wait before the first rebalance of a group.
"""

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from contract.errors import ContractError, StackError
from nextwatch.embedded.kafka.distribution import Distribution
from nextwatch.embedded.process.ports import LOOPBACK

JVM_FLAGS = (
    "-XX:+IgnoreUnrecognizedVMOptions",  # Kafka runs on Java 17; some of these came with 23 or 24
    "-Xms128m",
    "-Xmx128m",  # some 50 MB live: docs/experiments.md, "Heap of the embedded broker"
    "-Xmn48m",
    "-XX:+AlwaysPreTouch",  # else the old generation fills, and memory grows for half an hour
    "-XX:+UseSerialGC",
    "-XX:ReservedCodeCacheSize=64m",
    "-XX:-UsePerfData",
    "-XX:-CreateCoredumpOnCrash",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)
ENV = {"MALLOC_ARENA_MAX": "2", "LC_ALL": "C.UTF-8"}
"""glibc gives each thread an arena of its own, and never takes it back. Java encodes the names of
files by the locale."""
_OPTIONS_OF_OTHERS = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"}
_FIRST_BEYOND_ASCII = 0x80
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
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


def configure(
    folder: Path,
    *,
    data_dir: Path,
    port: int,
    controller_port: int,
    advertised_port: int,
    changes: Mapping[str, str | None] | None = None,
) -> Path:
    """Write the settings of the node into *folder*, and return the file.

    *changes* replace settings or add to them; None takes one away.

    Raises:
        StackError: Kafka cannot use the path *data_dir*.
    """
    check_path(data_dir)
    text = _SETTINGS.format(
        loopback=LOOPBACK,
        port=port,
        controller_port=controller_port,
        advertised_port=advertised_port,
        data_dir=_escaped(str(data_dir)),
    )
    settings = dict(line.split("=", 1) for line in text.splitlines()) | dict(changes or {})
    lines = [f"{name}={value}\n" for name, value in settings.items() if value is not None]
    file = folder / "server.properties"
    file.write_text("".join(lines), encoding="ascii")
    return file


def java_env(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a JVM of ours: UTF-8 paths, and no options meant for others."""
    kept = {name: value for name, value in environ.items() if name not in _OPTIONS_OF_OTHERS}
    return kept | ENV


def check_path(path: Path) -> None:
    """Check that Kafka can keep its records below *path*.

    Raises:
        StackError: Kafka takes the path for a list.
    """
    if "," in f"{path}":
        raise StackError(f"Kafka cannot keep its records in {path}: name a path without a comma")


def _escaped(path: str) -> str:
    """Return *path* as a value of a Java properties file."""
    utf16 = path.replace("\\", "\\\\").encode("utf-16-be")
    units = [int.from_bytes(utf16[at : at + 2]) for at in range(0, len(utf16), 2)]
    return "".join(chr(unit) if unit < _FIRST_BEYOND_ASCII else f"\\u{unit:04x}" for unit in units)


def server_command(distribution: Distribution, settings: Path, *flags: str) -> tuple[str, ...]:
    """Return the command line of the node with these *settings*."""
    java = distribution.java_command(*JVM_FLAGS, *flags, main="kafka.Kafka")
    return (*java, str(settings))


def is_formatted(data_dir: Path) -> bool:
    """Return whether *data_dir* is a log directory that a node can be started on."""
    try:
        text = (data_dir / _META).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return all(f"\n{name}=" in text for name in ("cluster.id", "node.id", "version"))


def copy_template(
    template: Path, data_dir: Path, *, cluster_id: str | None = None, node_id: int = 1
) -> None:
    """Make *data_dir* a formatted log directory, of a cluster of its own without *cluster_id*.

    Raises:
        StackError: it holds other files.
    """
    draft = data_dir.with_name(f".{data_dir.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(template, draft)
    own = {
        "cluster.id": cluster_id or random_id(),
        "directory.id": random_id(),
        "node.id": str(node_id),
    }
    lines = (draft / _META).read_text(encoding="utf-8").splitlines()
    fields = [line.partition("=") for line in lines]
    renamed = [f"{name}{sign}{own.get(name, value)}" for name, sign, value in fields]
    (draft / _META).write_text("\n".join(renamed) + "\n", encoding="utf-8")
    try:
        if data_dir.exists():
            data_dir.rmdir()
        draft.rename(data_dir)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise StackError(
            f"{data_dir} holds files, but no whole log directory of Kafka: name another directory"
        ) from error


def format_directory(distribution: Distribution, settings: Path) -> None:
    """Format the log directory that *settings* name, by Kafka's own tool.

    Raises:
        StackError: the tool failed, with its last lines.
        ContractError: the Java runtime is too old for it.
    """
    command = distribution.java_command("-XX:+UseSerialGC", main="kafka.tools.StorageTool")
    arguments = ("format", "-t", random_id(), "-c", str(settings))
    done = subprocess.run(  # noqa: S603 - our own program
        [*command, *arguments],
        capture_output=True,
        text=True,
        env=java_env(os.environ),
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        said = done.stdout + done.stderr
        if "UnsupportedClassVersionError" in said:
            raise ContractError(
                f"{distribution.java} is too old for {distribution.name}: install Java 17 or later, "
                "and name it by JAVA_HOME"
            )
        last = "\n".join(said.splitlines()[-5:])
        raise StackError(f"Kafka's log directory could not be formatted:\n{last}")


def random_id() -> str:
    """Return a new id as Kafka writes them: 16 random bytes in URL-safe base 64.

    None begins with a dash, as none of Kafka's does: its tools would take it for an option.
    """
    while True:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not name.startswith("-"):
            return name
