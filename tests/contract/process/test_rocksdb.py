"""The memory of RocksDB in one process."""

import numpy as np
import pytest
import rocksdict

from benchmarks.stack.waiting import eventually
from contract.process.rocksdb import RocksMemory, options_within

_MIB = 1 << 20


@pytest.fixture
def memory():
    return RocksMemory.of(8)


@pytest.fixture
def databases(tmp_path, memory):
    opened = [rocksdict.Rdict(str(tmp_path / name), options_within(memory)) for name in ("a", "b")]
    yield opened
    for database in opened:
        database.close()


def put(database, num_mib):
    rng = np.random.default_rng(0)
    for number in range(128 * num_mib):
        database.put(number.to_bytes(4, "big"), rng.bytes(8 << 10))


def test_memtables_are_charged_to_the_cache(databases, memory):
    for database in databases:
        put(database, 1)

    assert memory.write_buffers.get_usage() >= 2 * _MIB
    assert memory.cache.get_usage() >= memory.write_buffers.get_usage()


def test_memtables_that_take_half_of_the_budget_together_go_to_disk(databases, tmp_path):
    """Neither is full by itself."""
    for database in databases:
        put(database, 3)

    assert eventually(lambda: list(tmp_path.rglob("*.sst")))
