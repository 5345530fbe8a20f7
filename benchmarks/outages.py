"""Run the demo under broker outages: ``python -m benchmarks.outages --json``.

An hour of the default demo, its broker stopped and started again every five minutes. Then what
it left is checked: every event of the topics has its answer, the windows in the changelog and
in the stores are those of an undisturbed run, and no process logged an error that is not about
the broker. The last line is one JSON object; the exit code is 1 if a promise broke.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from benchmarks.json_report import exit_with
from benchmarks.stack.demo_process import demo_process, ended_figures
from benchmarks.windows import oracle
from benchmarks.windows.reading import kept_windows, published_windows, read_all
from contract.process.settings import KafkaSettings
from contract.wire.decoding import decode
from contract.wire.events import Search, Watch
from contract.wire.topics import SEARCH_EVENTS, WATCH_EVENTS, Topic
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.process import Child

NUM_PARTITIONS = 4
"""Of the user topics in the embedded stack."""

_BROKER = "kafka.Kafka"
_LOOK_S = 0.5
_END_WITHIN_S = 180.0
_MOST_TOLD = 20
_ERROR = re.compile(r'"level": "(error|critical)"|\b(ERROR|CRITICAL)\b|^Traceback')
ABOUT_BROKER = re.compile(
    r"broker|coordinator|connect|leader|transport|timed.?out|heartbeat|node \d|bootstrap|metadata from",
    re.IGNORECASE,
)

Event = Watch | Search


def main() -> None:
    """Print the figures as one JSON object."""
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="nextwatch-outages-") as name:
        figures = measure(Path(name), given)
    exit_with(figures, is_right=figures["is_kept"])


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run the demo in *folder* through its outages, and return what came of it."""
    state_dir = folder / "state"
    seconds = 60 * given.minutes
    options = ("--state-dir", str(state_dir))
    demo = demo_process(folder, seconds=seconds, rate=given.rate, options=options)
    demo.start()
    try:
        num_outages = _play(demo, seconds, given)
        shown = ended_figures(demo, within_s=_END_WITHIN_S)
    finally:
        demo.kill()
    windows = _compared_windows(state_dir)
    errors = list(error_lines(state_dir / "logs"))
    others = [line for line in errors if not ABOUT_BROKER.search(line)]
    told = ("events_in", "answered", "lost", "lost_uploads", "dead_letters", "restarts", "error")
    is_whole = windows["state_equal"] and not (
        windows["lost_from_windows"] or windows["applied_twice"]
    )
    is_kept = is_whole and not (shown["lost"] or shown["lost_uploads"] or others or shown["error"])
    return {
        "minutes": given.minutes,
        "outages": num_outages,
        **{name: shown[name] for name in told},
        "event_to_recommendation_ms": shown["event_to_recommendation_ms"],
        **windows,
        "errors_about_the_broker": len(errors) - len(others),
        "other_errors": len(others),
        "other_error_lines": others[:_MOST_TOLD],
        "is_kept": is_kept and num_outages > 0,
    }


def _play(demo: Child, seconds: float, given: argparse.Namespace) -> int:
    """End the broker of *demo* at intervals; its supervisor restarts it. Return how often."""
    num_outages, started_s = 0, monotonic()
    next_s = started_s + given.every_s
    while demo.is_running and monotonic() - started_s < seconds - given.every_s / 2:
        if monotonic() >= next_s:
            num_outages += _end_broker(demo, is_killed=given.kill)
            next_s += given.every_s
        sleep(_LOOK_S)
    return num_outages


def _end_broker(demo: Child, *, is_killed: bool) -> int:
    """End the broker of *demo*; return 0 where there is none just now."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(demo.pid).children(recursive=True):
            if _BROKER in process.cmdline():
                (process.kill if is_killed else process.terminate)()
                return 1
    return 0


def error_lines(logs: Path) -> Iterator[str]:
    """Yield every line at level error or above, with the process that wrote it."""
    for path in sorted(logs.glob("*.log")):
        if path.stem in {"broker", "index"}:
            continue
        for line in path.read_text(errors="replace").splitlines():
            if _ERROR.search(line):  # two threads may have written into one line
                yield f"{path.stem}: {line}"


def _compared_windows(state_dir: Path) -> dict[str, Any]:
    """Return the figures of the windows, compared with what the events of the topics must make."""
    with reopened_broker(state_dir) as kafka:
        events = list(_events(kafka))
        published = published_windows(kafka)
        kept = kept_windows([state_dir / "streams"], kafka)
    wanted = oracle.expected(events)
    found = {user: oracle.drawn(record) for user, record in published.items()}
    stored = {user: oracle.drawn(record) for user, record in kept.items()}
    return {
        "events_of_topics": len(events),
        "users": len(wanted),
        "lost_from_windows": max(oracle.num_lost(wanted, found), oracle.num_lost(wanted, stored)),
        "applied_twice": oracle.num_twice([*found.values(), *stored.values()]),
        "state_equal": found == wanted and oracle.digest(published) == oracle.digest(kept),
    }


@contextmanager
def reopened_broker(state_dir: Path) -> Iterator[KafkaSettings]:
    """Start the broker once more on what the demo left, and yield how to reach it."""
    broker = EmbeddedBroker(
        env=inherited(os.environ),
        log_path=state_dir / "logs" / "broker.log",
        data_dir=state_dir / "broker",
    )
    try:
        broker.start()
        yield KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers,
            user_partitions=NUM_PARTITIONS,
            video_partitions=1,
        )
    finally:
        broker.child.kill()


def _events(kafka: KafkaSettings) -> Iterator[Event]:
    """Yield every watch and search that the topics hold."""
    kinds: tuple[tuple[Topic, type[Event]], ...] = (
        (WATCH_EVENTS, Watch),
        (SEARCH_EVENTS, Search),
    )
    sources = {kafka.layout.name(topic): (topic, kind) for topic, kind in kinds}
    for message in read_all(kafka, sources):
        topic, kind = sources[message.topic() or ""]
        yield decode(topic, kind, message.key(), message.value())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every-s", type=float, default=300.0, help="between two outages")
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--kill", action="store_true", help="SIGKILL instead of SIGTERM")
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
