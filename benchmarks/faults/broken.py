"""Run a streams worker with a bug on purpose: ``python -m benchmarks.faults.broken NAME...``.

A fault test proves something only if it fails on a build that is wrong. Each break here takes
away one thing that a promise rests on, in this process alone; the code in production has no
switch for it. ``compacted`` breaks nothing: it reads the changelog as a broker would hand it out
that has compacted all of it, which takes a broker longer than a round.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from contract.kafka import outbox
from streams import __main__ as worker
from streams.state import changelog, partition


def commit_early() -> None:
    """Acknowledge what is only handed over: up to two seconds wait in the producer's queue."""
    configure = vars(worker)["producer_config"]

    def lingering(*args: Any, **options: Any) -> Any:
        return configure(*args, **options) | {"linger.ms": 2_000, "batch.num.messages": 100_000}

    _put(worker, "producer_config", lingering)
    _put(outbox.Outbox, "_wait", lambda _self, _pending: None)
    _put(partition.Partition, "note_published", lambda _self, _offsets: None)


def no_rewind() -> None:
    """Read on from the committed offset, whoever else has written."""
    os.environ["NEXTWATCH_STREAMS_REWIND_RECORDS"] = "0"


def replace() -> None:
    """Put a record of the changelog in place of the window instead of merging it."""
    _put(partition, "merge", lambda _mine, theirs, _policy: theirs)


def compacted() -> None:
    """Read only the newest record of each key, in offset order."""
    read = changelog.Changelog.read

    def read_compacted(self: Any, *args: Any, **options: Any) -> Iterator[Any]:
        newest = {(record[0], record[2]): record for record in read(self, *args, **options)}
        yield from sorted(newest.values(), key=lambda record: record[:2])

    _put(changelog.Changelog, "read", read_compacted)


def _put(owner: object, name: str, broken: Callable[..., Any]) -> None:
    """Replace the attribute *name* of *owner* by *broken*."""
    assert hasattr(owner, name), f"{owner} has no {name} to break any more"
    setattr(owner, name, broken)


BREAKS: dict[str, Callable[[], None]] = {
    "commit_early": commit_early,
    "no_rewind": no_rewind,
    "replace": replace,
}
VIEWS: dict[str, Callable[[], None]] = {"compacted": compacted}


def main() -> None:
    """Break what the command line names, and run the worker."""
    names, sys.argv[1:] = sys.argv[1:], []
    for name in names:
        (BREAKS | VIEWS)[name]()
    worker.main()


if __name__ == "__main__":
    main()
