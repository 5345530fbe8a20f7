"""Join a log in a process that may be killed at any time; started by `test_kill`.

``python -m tests.trainer.ranking.killed_process DIRECTORY SEED``: goes on from the newest
checkpoint in DIRECTORY, saves one every few records, and prints a line for each.
"""

import sys
from collections import Counter
from pathlib import Path

import msgspec

from contract.process.clock import ManualClock
from contract.wire.events import Impressions, RankingLog
from tests.support.builders import T0
from tests.trainer.ranking.facts import POLICY, own_features, random_log
from trainer.ranking.examples import RankingExample
from trainer.ranking.join_store import RocksJoinStore
from trainer.ranking.joiner import Joiner
from trainer.state.checkpoint import Checkpoints

EVERY = 7


def main(directory: Path, seed: int) -> None:
    """Deliver the log of *seed* from where the newest checkpoint stands."""
    records = random_log(seed)
    checkpoints = Checkpoints(directory)
    newest = checkpoints.newest()
    counts: Counter[str] = Counter()
    store = RocksJoinStore(directory / "joiner")
    joiner = Joiner(store, POLICY, clock=ManualClock(T0 + 10**9), counts=counts)
    joiner.load(newest.directories["joiner"] if newest else None)
    start = newest.offsets["log"][0] if newest else 0
    if newest:
        joiner.examples = msgspec.msgpack.decode(
            newest.files["examples"], type=list[RankingExample]
        )
    for number, record in enumerate(records[start:], start + 1):
        if isinstance(record, RankingLog):
            joiner.logged(record, 0)
        elif isinstance(record, Impressions):
            joiner.shown(record, 0, own_features)
        else:
            joiner.watched(record, 0)
        joiner.advance()
        if number % EVERY == 0 or number == len(records):
            checkpoints.save(
                {"examples": msgspec.msgpack.encode(joiner.examples)},
                offsets={"log": {0: number}},
                created_at_ms=T0,
                directories={"joiner": joiner.save},
            )
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
