"""Plan the start of each process of the embedded stack: its command line and its settings."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nextwatch.embedded.process.ports import LOOPBACK
from nextwatch.embedded.process.process import Plan
from nextwatch.embedded.rundir import RunDirectory

STORAGE = ("broker", "index")
WORKERS = ("index_sync", "streams", "trainer")
PROCESSES = STORAGE + WORKERS

_PREFIX = "NEXTWATCH_"
_SOURCE_ROOT = Path(__file__).resolve().parents[3]
_NICENESS = {"trainer": 10}  # once up, learning waits for serving, never the other way round
_CACHE_MB = "16"
"""Of RocksDB, whose default of 64 MB fills slowly and is more than a demo needs:
docs/experiments.md, "RocksDB's cache in the embedded stack"."""
_MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}
"""Of the index and what writes to it: glibc keeps what a generation that is replaced leaves behind,
unless its matrices are mapped one by one."""
_REUSED = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
"""Of streams and trainer: what a batch computes lies in some twenty matrices of up to 4 MB. Mapped
one by one, each is zeroed by the kernel page by page: 0.1 of the 0.3 ms that ranking takes of an
event, and 55 of the 145 us that the trainer takes of an example (85 with these settings, 91 with
malloc's own)."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the children: *environ* without our own settings.

    The packages are found from where this one was, whether or not they are installed.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_PREFIX)}
    paths = [str(_SOURCE_ROOT), *filter(None, [environ.get("PYTHONPATH")])]
    return (
        kept
        | _ONE_THREAD
        | {name: _beyond_proxies(environ.get(name, "")) for name in ("no_proxy", "NO_PROXY")}
        | {"PYTHONPATH": ":".join(paths), "PYTHONUNBUFFERED": "1"}
    )


def _beyond_proxies(given: str) -> str:
    """Return *given* with the loopback interface: no proxy leads to the embedded index."""
    return ",".join([*filter(None, [given]), LOOPBACK, "localhost"])


def gated(gate: Path, module: str, *arguments: str, loads: str) -> tuple[str, ...]:
    """Return the command that imports *loads* at once and runs *module* once *gate* exists."""
    return (
        sys.executable,
        "-m",
        "nextwatch.embedded.process.gate",
        str(gate),
        loads,
        module,
        *arguments,
    )


@dataclass(frozen=True, slots=True)
class Plans:
    """Makes the plan of each process; *client_env* has the addresses of broker and index."""

    directory: RunDirectory
    inherited: Mapping[str, str]
    env_of: Mapping[str, Mapping[str, str]]
    publish_every_s: float

    def index(self, port: int) -> Plan:
        """Return the plan of the vector index."""
        module = ("-m", "nextwatch.embedded.index_server")
        data = str(self.directory.part("index"))
        return Plan(
            "index",
            (sys.executable, *module, "--port", str(port), "--data", data),
            {**self.inherited, **_MALLOC, **self.env_of.get("index", {})},
            self.log_path("index"),
            (port,),
        )

    def worker(self, name: str, client_env: Mapping[str, str]) -> Plan:
        """Return the plan of streams, trainer or index_sync."""
        ready_file = self.directory.part("ready") / name
        own = {"NEXTWATCH_PROCESS_READY_FILE": str(ready_file), **self._own_settings(name)}
        return Plan(
            name,
            gated(self.gate(name), name, loads=f"{name}.__main__"),
            {**self.inherited, **client_env, **own, **self.env_of.get(name, {})},
            self.log_path(name),
            ready_file=ready_file,
            niceness=_NICENESS.get(name, 0),
        )

    def gate(self, name: str) -> Path:
        """Return the file that the worker *name* waits for."""
        return self.directory.part("ready") / f"{name}.gate"

    def log_path(self, name: str) -> Path:
        """Return where the process *name* writes its log."""
        return self.directory.part("logs") / f"{name}.log"

    def _own_settings(self, name: str) -> dict[str, str]:
        if name == "index_sync":
            return _MALLOC
        if name == "streams":
            return {
                **_REUSED,
                "NEXTWATCH_STREAMS_STATE_DIR": str(self.directory.part("streams")),
                "NEXTWATCH_STREAMS_CACHE_MB": _CACHE_MB,
            }
        if name == "trainer":
            return {
                **_REUSED,
                "NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(self.directory.part("trainer")),
                "NEXTWATCH_TRAINER_PUBLISH_EVERY_S": f"{self.publish_every_s:g}",
            }
        return {}
