"""The users of the serving benchmarks: windows of 50 watches, and their next watches.

Everybody has a taste of three centres of the catalogue, so that a user vector lies where
videos are. Users are drawn in blocks from a seed: the same number is the same user in every
process. Users are on the partitions that their ids belong to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from uuid import UUID

import numpy as np
from jaxtyping import Int64

from benchmarks.serving.catalogue import NUM_CENTRES, Catalogue
from contract.process.clock import Clock
from contract.process.rocksdb import RocksMemory
from contract.wire.events import Watch, encode
from contract.wire.keys import partition_of
from models.history import codec as history_codec
from models.history.history import WatchEntry, Window, with_repeats_apart
from streams.state.store import RocksStore

# Shape legend: U = users of a block, T = watches of a window.

NUM_WATCHES = 50
TASTES = 3
_BLOCK = 500
_MEAN_GAP_MS = 6 * 3_600_000
_STRIDE = 7_919
_WRITE_USERS = 2_000
_ID_BYTES = 16


@dataclass(frozen=True)
class ServingAudience:
    """*num_users* users of *catalogue*; their windows end at *newest_ms*."""

    catalogue: Catalogue
    num_users: int
    newest_ms: int

    @staticmethod
    def user_id(number: int) -> str:
        """Return the id of user *number*."""
        return f"u{number:07d}"

    def visitor(self, event: int) -> int:
        """Return whose event number *event* is: everybody comes once before anybody comes twice.

        In no order that a store could make use of.
        """
        stride = _STRIDE if gcd(_STRIDE, self.num_users) == 1 else 1
        return event * stride % self.num_users

    def windows(self, numbers: range) -> Iterator[tuple[str, Window]]:
        """Yield the id and the window of each user in *numbers*, which starts at a full block."""
        assert numbers.start % _BLOCK == 0
        for start in range(numbers.start, numbers.stop, _BLOCK):
            yield from self._block(start, min(_BLOCK, numbers.stop - start))

    def watch(self, run: int, event: int, user: int, *, at_ms: int) -> bytes:
        """Return event number *event* of *run* as it goes on the wire: *user* watched a video."""
        row = self._liked(user, event)
        duration_ms = int(self.catalogue.duration_ms_N[row])
        return encode(
            Watch(
                event_id=str(UUID(int=run << 64 | event)),
                user_id=self.user_id(user),
                video_id=self.catalogue.video_ids[row],
                event_time_ms=at_ms,
                watch_ms=duration_ms * (event % 10 + 1) // 10,
                duration_ms=duration_ms,
            )
        )

    def fill_stores(self, state_dir: Path, *, num_partitions: int, clock: Clock) -> None:
        """Write everybody's window to new stores below *state_dir*, as a worker would leave them.

        The changelog stays empty: a worker that opens them finds nothing newer there.
        """
        memory = RocksMemory.of(64)
        stores = [RocksStore(state_dir / str(n), memory, clock) for n in range(num_partitions)]
        for start in range(0, self.num_users, _WRITE_USERS):
            records: list[dict[str, bytes]] = [{} for _ in stores]
            numbers = range(start, min(start + _WRITE_USERS, self.num_users))
            for user_id, window in self.windows(numbers):
                place = partition_of(user_id.encode(), num_partitions)
                records[place][user_id] = history_codec.encode(window)
            for store, windows in zip(stores, records, strict=True):
                store.write(windows, {})
        for store in stores:
            store.close()

    def _block(self, start: int, count: int) -> Iterator[tuple[str, Window]]:
        rng = np.random.Generator(np.random.PCG64([4, start]))
        row_UT = self._tasteful(rng, start, _BLOCK)
        gap_UT = rng.exponential(_MEAN_GAP_MS, (_BLOCK, NUM_WATCHES)).astype(np.int64) + 1
        at_UT = self.newest_ms - np.cumsum(gap_UT, axis=1)[:, ::-1]
        duration_UT = self.catalogue.duration_ms_N[row_UT]
        watch_UT = (duration_UT * rng.random((_BLOCK, NUM_WATCHES))).astype(np.int64)
        ids = self.catalogue.video_ids
        for user in range(count):
            event_ids = rng.bytes(_ID_BYTES * NUM_WATCHES)
            columns = zip(
                at_UT[user].tolist(),
                [event_ids[at : at + _ID_BYTES] for at in range(0, len(event_ids), _ID_BYTES)],
                [ids[row] for row in row_UT[user].tolist()],
                watch_UT[user].tolist(),
                duration_UT[user].tolist(),
                strict=True,
            )
            watches = tuple(map(WatchEntry._make, columns))
            yield self.user_id(start + user), with_repeats_apart(Window(watches))

    def _tasteful(
        self, rng: np.random.Generator, start: int, count: int
    ) -> Int64[np.ndarray, "U T"]:
        user_U1 = np.arange(start, start + count)[:, None]
        shape = (count, NUM_WATCHES)
        centre_UT = (user_U1 * 31 + 167 * rng.integers(TASTES, size=shape)) % NUM_CENTRES
        depth = self.catalogue.num_videos // NUM_CENTRES
        row_UT: np.ndarray = centre_UT + NUM_CENTRES * rng.integers(depth, size=shape)
        return row_UT

    def _liked(self, user: int, event: int) -> int:
        depth = self.catalogue.num_videos // NUM_CENTRES
        centre = (user * 31 + 167 * (event % TASTES)) % NUM_CENTRES
        return centre + NUM_CENTRES * (event * 13 % depth)
