"""One conformance suite over the store in RocksDB and the one in memory."""

import pytest
from structlog.testing import capture_logs

from contract.errors import ContractError, StoreError
from trainer.ranking.join_store import DictJoinStore, RocksJoinStore, end_of


class JoinStoreConformance:
    """Subclass it, and give a `store` fixture."""

    def test_a_key_that_was_never_put_has_no_value(self, store):
        store.put(b"a", b"1")

        assert store.get([b"b", b"a"]) == [None, b"1"]

    def test_the_last_value_counts_and_a_deleted_one_is_gone(self, store):
        store.put(b"a", b"1")
        store.put(b"a", b"2")
        store.put(b"b", b"3")
        store.delete(b"b")
        store.delete(b"never there")

        assert store.get([b"a", b"b"]) == [b"2", None]

    def test_a_scan_is_in_order_from_its_start_to_before_its_end(self, store):
        for key in (b"c", b"a", b"d", b"b", b"b\xff"):
            store.put(key, key)

        assert [key for key, _ in store.scan(b"b", b"d")] == [b"b", b"b\xff", b"c"]

    def test_a_range_is_deleted_from_its_start_to_before_its_end(self, store):
        for key in (b"a", b"b", b"c", b"d"):
            store.put(key, b"")
        store.delete_range(b"b", b"d")
        store.put(b"c", b"new")

        assert list(store.scan(b"", b"\xff")) == [(b"a", b""), (b"c", b"new"), (b"d", b"")]

    def test_loading_goes_back_to_what_was_saved(self, store, tmp_path):
        """Any saved one, however often: what came after each of them is gone."""
        for number in range(3):
            store.put(b"n", b"%d" % number)
            store.put(b"k%d" % number, b"")
            store.save(tmp_path / f"saved-{number}")
        store.put(b"n", b"later")

        for number in (1, 2, 0, 1):
            store.load(tmp_path / f"saved-{number}")
            expected = [b"k%d" % each for each in range(number + 1)] + [b"n"]
            assert [key for key, _ in store.scan(b"", b"\xff")] == expected
            assert store.get([b"n"]) == [b"%d" % number]
            store.put(b"after", b"x")
            store.delete(b"n")

    def test_loading_nothing_leaves_nothing(self, store):
        store.put(b"a", b"1")

        store.load(None)

        assert list(store.scan(b"", b"\xff")) == []

    def test_a_purge_changes_nothing_that_can_be_read(self, store):
        for number in range(100):
            store.put(b"u1%02d" % number, b"x")
            store.put(b"u2%02d" % number, b"x")
        store.delete_range(b"u1", end_of(b"u1"))

        store.purge([b"u1"])

        assert len(list(store.scan(b"", b"\xff"))) == 100


class TestDict(JoinStoreConformance):
    @pytest.fixture
    def store(self):
        return DictJoinStore()


class TestRocks(JoinStoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        store = RocksJoinStore(tmp_path / "working")
        store.load(None)
        yield store
        store.close()

    def test_what_is_saved_are_links_to_the_files_of_the_working_copy(self, store, tmp_path):
        """A checkpoint of gigabytes takes milliseconds and no room."""
        store.put(b"a", b"1")

        store.save(tmp_path / "saved")

        [table] = (tmp_path / "saved").glob("*.sst")
        assert table.stat().st_nlink == 2
        store.load(tmp_path / "saved")
        assert table.stat().st_nlink == 2
        assert store.get([b"a"]) == [b"1"]

    def test_a_second_process_does_not_take_the_working_copy_away(self, store, tmp_path):
        second = RocksJoinStore(tmp_path / "working")
        store.put(b"a", b"1")

        with pytest.raises(ContractError, match="belongs to another process"):
            second.load(None)

        assert store.get([b"a"]) == [b"1"]
        store.close()
        second.load(None)
        second.close()

    def test_a_purge_leaves_no_byte_of_what_was_deleted(self, store, tmp_path):
        secret = bytes(range(33, 127))
        store.put(b"u1", secret)
        store.save(tmp_path / "saved")
        assert self._num_with(tmp_path / "working", secret) == 1
        store.delete(b"u1")

        store.purge([b"u1"])

        assert self._num_with(tmp_path / "working", secret) == 0

    def test_damage_is_an_error_and_the_next_load_begins_with_nothing(self, store, tmp_path):
        """The weights that were learned are worth more than a day of impressions."""
        for number in range(2_000):
            store.put(b"%06d" % number, bytes(100))
        store.save(tmp_path / "saved")
        for table in (tmp_path / "saved").glob("*.sst"):
            data = bytearray(table.read_bytes())
            data[100:400] = bytes(300)
            table.write_bytes(bytes(data))
        store.load(tmp_path / "saved")

        with pytest.raises(StoreError, match="the next start begins with an empty one"):
            list(store.scan(b"", b"\xff"))
        with capture_logs() as logs:
            store.load(tmp_path / "saved")

        assert list(store.scan(b"", b"\xff")) == []
        assert [one["event"] for one in logs] == ["join_store_discarded"]

    def test_a_store_that_cannot_be_opened_is_begun_anew(self, store, tmp_path):
        store.put(b"a", b"1")
        store.save(tmp_path / "saved")
        (tmp_path / "saved" / "CURRENT").write_text("MANIFEST-000099\n")

        with capture_logs() as logs:
            store.load(tmp_path / "saved")

        assert store.get([b"a"]) == [None]
        assert [one["event"] for one in logs] == ["join_store_discarded"]

    @staticmethod
    def _num_with(directory, text):
        return sum(text in path.read_bytes() for path in directory.rglob("*") if path.is_file())
