"""The command line of the peers' programs, and the windows they start with.

``python -m benchmarks.peers.peer_<name> fill`` writes the windows in a file to new stores, by the
framework's own classes; ``... run`` does the job until SIGTERM.
"""

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.peers.job import Job
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings, QdrantSettings, load
from contract.wire.keys import partition_of
from streams.serving.index import IndexClient

INDEX_PATIENCE_MS = 10_000
"""How long everybody waits for the index: long enough to get what was asked for."""

Seeds = dict[str, list[tuple[str, bytes]]]
"""By the number of a partition: the users there, each with the record of the window."""


@dataclass(frozen=True)
class PeerSettings:
    """Settings of a peer's worker: broker, state directory, and whether it may use threads."""

    kafka: KafkaSettings
    state_dir: Path
    is_threaded: bool = False


def write_seeds(path: Path, users: Iterable[tuple[str, bytes]], *, num_partitions: int) -> None:
    """Write the windows of *users* to *path*, by the partition that each belongs to."""
    seeds: Seeds = {str(number): [] for number in range(num_partitions)}
    for user_id, record in users:
        seeds[str(partition_of(user_id.encode(), num_partitions))].append((user_id, record))
    path.write_bytes(msgspec.msgpack.encode(seeds))


def _read_seeds(path: Path) -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    seeds = msgspec.msgpack.decode(path.read_bytes(), type=Seeds)
    for number, users in seeds.items():
        yield int(number), users


def main(
    name: str,
    *,
    run: Callable[[PeerSettings, Job], None],
    fill: Callable[[PeerSettings, int, list[tuple[str, bytes]]], None],
) -> None:
    """Do what the command line says, with *run*, or *fill* for each partition."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.peers.{name}")
    parser.add_argument("action", choices=["run", "fill"])
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seeds", type=Path, help="for fill: what `write_seeds` wrote")
    parser.add_argument("--threaded", action="store_true", help="for run: compute in a thread")
    parser.add_argument("--bundle-url", default="", help="for run")
    parser.add_argument("--manifest-sha256", default="", help="for run")
    given = parser.parse_args()
    environ = dict(os.environ)
    place = PeerSettings(load(KafkaSettings, environ), given.state, given.threaded)
    if given.action == "fill":
        for number, users in _read_seeds(given.seeds):
            fill(place, number, users)
        return
    qdrant = load(QdrantSettings, environ)
    job = Job.of(
        given.bundle_url,
        given.manifest_sha256,
        index=IndexClient(qdrant, patience_ms=INDEX_PATIENCE_MS),
        collection_prefix=qdrant.prefix(place.kafka),
        clock=system_clock,
    )
    run(place, job)
