"""The users that the serving benchmarks are made of."""

from pathlib import Path

from benchmarks.serving.audience import NUM_WATCHES, ServingAudience
from benchmarks.serving.catalogue import NUM_CENTRES, Catalogue
from contract.process.rocksdb import RocksMemory
from contract.wire.decoding import decode
from contract.wire.events import Watch
from contract.wire.keys import partition_of
from contract.wire.topics import WATCH_EVENTS
from models.history import codec as history_codec
from models.history.history import EMPTY, WindowPolicy, merge
from streams.state.store import open_store
from tests.support.builders import T0

AUDIENCE = ServingAudience(
    Catalogue(Path("nowhere"), 2 * NUM_CENTRES), num_users=1_000, newest_ms=T0
)


def test_everybody_comes_once_before_anybody_comes_twice():
    """So a micro-batch of any size below the audience holds nobody twice."""
    visitors = [AUDIENCE.visitor(event) for event in range(2_000)]

    assert sorted(visitors[:1_000]) == list(range(1_000))
    assert visitors[:1_000] == visitors[1_000:]


def test_a_user_is_the_same_whoever_asks():
    """The generator and the one who fills the stores are different processes."""
    later = dict(AUDIENCE.windows(range(500, 700)))

    assert dict(AUDIENCE.windows(range(1_000))).items() >= later.items()


def test_windows_are_full_and_those_that_folding_makes():
    """Nothing in them is out of order, too old or there twice."""
    for _, window in AUDIENCE.windows(range(100)):
        assert sum(window.counts) == NUM_WATCHES
        assert merge(EMPTY, window, WindowPolicy()) == window


def test_events_are_of_the_contract_and_newer_than_the_window():
    """A worker takes them all in."""
    value = AUDIENCE.watch(3, 17, 42, at_ms=T0 + 5)

    event = decode(WATCH_EVENTS, Watch, b"u0000042", value)

    assert (event.user_id, event.event_time_ms) == ("u0000042", T0 + 5)
    assert int(event.event_id.replace("-", ""), 16) == 3 << 64 | 17


def test_stores_are_left_as_a_worker_leaves_them(tmp_path):
    """Every user is in the partition that producers name, and the store is opened as it is."""
    AUDIENCE.fill_stores(tmp_path, num_partitions=4, clock=lambda: T0)

    store = open_store(tmp_path / "2", RocksMemory.of(8), clock=lambda: T0, max_idle_ms=1)
    found = {user_id: history_codec.decode(record) for user_id, record in store.scan()}
    store.close()

    windows = AUDIENCE.windows(range(1_000))
    assert found == {user: w for user, w in windows if partition_of(user.encode(), 4) == 2}
