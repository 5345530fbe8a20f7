"""One suite for every store of windows: RocksDB's and the plain dict's."""

import pytest

from streams.store import DictStore, RocksMemory, RocksStore, discard, was_closed_cleanly

MEMORY = RocksMemory.of(8)


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

    def test_seals_are_kept_beside_the_windows(self, store):
        """They are neither windows nor offsets, and the last word counts."""
        store.write({"a": b"1"}, {"watch-events": 1}, {bytes(16): 5, b"x" * 16: 6})
        store.write({}, {}, {bytes(16): 7})

        assert store.seals() == {bytes(16): 7, b"x" * 16: 6}
        assert list(store.scan()) == [("a", b"1")]

    def test_a_scan_yields_every_user_in_order_and_no_offset(self, store):
        """States are compared by scanning both."""
        store.write({"b": b"2", "a": b"1", "z": b"3"}, {"watch-events": 7})

        assert list(store.scan()) == [("a", b"1"), ("b", b"2"), ("z", b"3")]


class TestDictStore(StoreConformance):
    @pytest.fixture
    def store(self):
        return DictStore()


class TestRocksStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        store = RocksStore(tmp_path / "0", MEMORY)
        yield store
        store.close(now_ms=0)

    def test_what_was_written_outlives_the_store(self, tmp_path):
        """Windows and offsets are there after closing and opening again."""
        first = RocksStore(tmp_path / "7", MEMORY)
        first.write({"a": b"1"}, {"watch-events": 7})
        first.close(now_ms=5)

        again = RocksStore(tmp_path / "7", MEMORY)
        assert (again.get(["a"]), again.offset("watch-events")) == ([b"1"], 7)
        again.close(now_ms=6)

    def test_compaction_leaves_no_byte_of_what_was_deleted(self, tmp_path):
        """What was erased is gone from the disk, not only from the answers."""
        directory = tmp_path / "7"
        store = RocksStore(directory, MEMORY)
        store.write({"the-erased-user": b"1", "b": b"2"}, {})
        store.close(now_ms=1)
        store = RocksStore(directory, MEMORY)
        store.write({"the-erased-user": None}, {})
        store.compact()
        store.close(now_ms=2)

        files = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
        assert not any(b"the-erased-user" in content for content in files)

    def test_an_open_store_does_not_count_as_closed_cleanly(self, tmp_path):
        """The mark goes when the store opens: a crash leaves none behind."""
        directory = tmp_path / "7"
        RocksStore(directory, MEMORY).close(now_ms=5)
        assert was_closed_cleanly(directory, since_ms=5)

        again = RocksStore(directory, MEMORY)
        assert not was_closed_cleanly(directory, since_ms=5)
        again.close(now_ms=6)

    def test_a_store_closed_long_ago_is_not_trusted(self, tmp_path):
        """The changelog may have dropped tombstones since."""
        RocksStore(tmp_path / "7", MEMORY).close(now_ms=5)

        assert not was_closed_cleanly(tmp_path / "7", since_ms=6)

    def test_a_discarded_store_leaves_nothing(self, tmp_path):
        """The next one starts from the changelog alone."""
        RocksStore(tmp_path / "7", MEMORY).close(now_ms=5)

        discard(tmp_path / "7")

        assert not (tmp_path / "7").exists()
