"""One suite for every store of windows: RocksDB's and the plain dict's."""

import os
import resource
import subprocess
import sys

import pytest
import rocksdict
from structlog.testing import capture_logs

from contract.errors import ContractError, StoreError
from contract.process.clock import ManualClock
from contract.process.rocksdb import RocksMemory
from streams.state.store import RocksStore, open_store
from tests.streams.state.dict_store import DictStore

MEMORY = RocksMemory.of(8)
MAX_IDLE_MS = 3_000


def opened(directory, *, now_ms=1_000):
    """Return the store in *directory* as a worker opens it."""
    return open_store(directory, MEMORY, clock=ManualClock(now_ms), max_idle_ms=MAX_IDLE_MS)


class StoreConformance:
    """Subclass it, and give a `store` fixture."""

    def test_unknown_users_have_no_record(self, store):
        """Nothing is made up for somebody never seen."""
        assert store.get(["nobody"]) == [None]

    def test_records_come_back_in_the_order_asked_for(self, store):
        """A batch is one question with one ordered answer."""
        store.write({"a": b"1", "b": b"2"}, {})

        assert store.get(["b", "x", "a"]) == [b"2", None, b"1"]

    def test_the_last_write_counts(self, store):
        """A record replaces the one before."""
        store.write({"a": b"old"}, {})
        store.write({"a": b"new"}, {})

        assert store.get(["a"]) == [b"new"]

    def test_offsets_are_kept_by_name(self, store):
        """Topics do not mix, and an unknown one has no offset."""
        store.write({}, {"watch-events": 7, "search-events": 0})

        assert [store.offset(n) for n in ("watch-events", "search-events", "x")] == [7, 0, None]

    def test_a_record_of_none_deletes_the_window(self, store):
        """An erased user has no record, not an empty one."""
        store.write({"a": b"1", "b": b"2"}, {})
        store.write({"a": None, "never-seen": None}, {})

        assert (store.get(["a", "b"]), list(store.scan())) == ([None, b"2"], [("b", b"2")])

    def test_erasure_markers_are_kept_beside_the_windows(self, store):
        """They are neither windows nor offsets, and the last word counts."""
        store.write({"a": b"1"}, {"watch-events": 1}, {bytes(16): 5, b"x" * 16: 6})
        store.write({}, {}, {bytes(16): 7})

        assert store.markers() == {bytes(16): 7, b"x" * 16: 6}
        assert list(store.scan()) == [("a", b"1")]

    def test_a_scan_yields_every_user_in_order_and_no_offset(self, store):
        """States are compared by scanning both."""
        store.write({"b": b"2", "a": b"1", "z": b"3"}, {"watch-events": 7})

        assert list(store.scan()) == [("a", b"1"), ("b", b"2"), ("z", b"3")]
        assert list(store.scan("b")) == [("b", b"2"), ("z", b"3")]
        assert list(store.scan("b\0")) == [("z", b"3")]


class TestDictStore(StoreConformance):
    @pytest.fixture
    def store(self):
        return DictStore()


class TestRocksStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        store = RocksStore(tmp_path / "0", MEMORY)
        yield store
        store.close()

    def test_what_was_written_outlives_the_store(self, tmp_path):
        """Windows and offsets are there after closing and opening again."""
        first = RocksStore(tmp_path / "7", MEMORY)
        first.write({"a": b"1"}, {"watch-events": 7})
        first.close()

        again = RocksStore(tmp_path / "7", MEMORY)
        assert (again.get(["a"]), again.offset("watch-events")) == ([b"1"], 7)
        again.close()

    def test_compaction_leaves_no_byte_of_what_was_deleted(self, tmp_path):
        """What was erased is gone from the disk, not only from the answers."""
        directory = tmp_path / "7"
        store = RocksStore(directory, MEMORY)
        store.write({"the-erased-user": b"1", "b": b"2"}, {})
        store.close()
        store = RocksStore(directory, MEMORY)
        store.write({"the-erased-user": None}, {})
        store.compact()
        store.close()

        files = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
        assert not any(b"the-erased-user" in content for content in files)

    def test_a_killed_process_leaves_a_store_with_everything_it_wrote(self, tmp_path):
        """Windows and offsets together, as in any other write."""
        writes = (
            "import os, pathlib, sys\n"
            "from contract.process.rocksdb import RocksMemory\n"
            "from streams.state.store import RocksStore\n"
            "store = RocksStore(pathlib.Path(sys.argv[1]), RocksMemory.of(8))\n"
            "store.write({'a': b'1'}, {'changelog': 7}, {b'marker': 5})\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", writes, str(tmp_path / "7")], check=False)

        store = opened(tmp_path / "7")
        assert (store.get(["a"]), store.offset("changelog")) == ([b"1"], 7)
        assert store.markers() == {b"marker": 5}
        store.close()

    def test_a_store_left_alone_for_long_is_rebuilt(self, tmp_path):
        """The changelog may have dropped tombstones since."""
        store = opened(tmp_path / "7", now_ms=5)
        store.write({"a": b"1"}, {"changelog": 7})
        store.close()

        kept = opened(tmp_path / "7", now_ms=5 + MAX_IDLE_MS)
        assert kept.get(["a"]) == [b"1"]
        kept.close()

        rebuilt = opened(tmp_path / "7", now_ms=6 + MAX_IDLE_MS)
        assert (rebuilt.get(["a"]), rebuilt.offset("changelog")) == ([None], None)
        rebuilt.close()

    def test_a_store_of_an_older_version_is_kept(self, tmp_path):
        """It does not say when it was used."""
        database = rocksdict.Rdict(str(tmp_path / "7" / "db"), rocksdict.Options(raw_mode=True))
        database.put(b"w:a", b"1")
        database.close()

        store = opened(tmp_path / "7")
        assert store.get(["a"]) == [b"1"]
        store.close()

    def test_a_damaged_store_is_rebuilt_with_one_warning(self, tmp_path):
        """The changelog has what it held."""
        store = opened(tmp_path / "7")
        store.write({"a": b"1"}, {"changelog": 7})
        store.close()
        for path in (tmp_path / "7" / "db").glob("MANIFEST-*"):
            path.write_bytes(b"junk" * 100)

        with capture_logs() as told:
            rebuilt = opened(tmp_path / "7")

        assert rebuilt.offset("changelog") is None
        rebuilt.close()
        assert [line["event"] for line in told] == ["store_discarded"]

    @pytest.mark.parametrize("kind", ["windows", "markers"])
    @pytest.mark.parametrize("way", ["get", "scan"])
    def test_damage_found_while_reading_is_logged_and_the_store_rebuilt(self, tmp_path, kind, way):
        """RocksDB checks a block when it is read, and ends an iterator there without a word."""
        store = opened(tmp_path / "7")
        for start in range(0, 20_000, 500):
            names = [f"{number:016}" for number in range(start, start + 500)]
            store.write(
                dict.fromkeys(names, os.urandom(60)) if kind == "windows" else {},
                {},
                {name.encode(): 5 for name in names} if kind == "markers" else {},
            )
        store.close()
        damage(max((tmp_path / "7" / "db").glob("*.sst"), key=lambda path: path.stat().st_size))

        store = opened(tmp_path / "7")
        with pytest.raises(StoreError, match="rebuilt from the changelog"):
            read_all(store, kind, way)
        store.close()
        with capture_logs() as told:
            rebuilt = opened(tmp_path / "7")

        assert (list(rebuilt.scan()), rebuilt.markers()) == ([], {})
        rebuilt.close()
        assert [line["event"] for line in told] == ["store_discarded"]

    def test_a_store_that_cannot_be_opened_for_another_reason_is_kept(self, tmp_path):
        """Nothing in it is lost: it is opened once the reason is gone."""
        store = opened(tmp_path / "7")
        store.write({"a": b"1"}, {"changelog": 7})
        store.close()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(ContractError, match="Too many open files"):
                opened(tmp_path / "7")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        store = opened(tmp_path / "7")
        assert store.get(["a"]) == [b"1"]
        store.close()


def damage(path):
    """Invert some bytes in a third of a file."""
    content = bytearray(path.read_bytes())
    start = len(content) // 3
    content[start : start + 16] = bytes(byte ^ 0xFF for byte in content[start : start + 16])
    path.write_bytes(content)


def read_all(store, kind, way):
    """Read everything of *kind* in *store*, by one of two ways where there are two."""
    if kind == "markers":
        store.markers()
    elif way == "scan":
        list(store.scan())
    else:
        store.get([f"{number:016}" for number in range(20_000)])
