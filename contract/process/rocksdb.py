"""Bound the memory of the RocksDB instances of a process.

RocksDB's defaults are a 2 GiB cache and 192 MB of memtables for *each* instance.
"""

from dataclasses import dataclass

import rocksdict

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class RocksMemory:
    """The memory that instances share: one cache, to which their memtables are charged."""

    cache: rocksdict.Cache
    write_buffers: rocksdict.WriteBufferManager

    @classmethod
    def of(cls, cache_mb: int) -> "RocksMemory":
        """Return a budget of *cache_mb* MiB, half of which memtables may take."""
        cache = rocksdict.Cache(cache_mb * _MIB)
        buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            cache_mb * _MIB // 2, False, cache
        )
        return cls(cache, buffers)


def options_within(memory: RocksMemory) -> rocksdict.Options:
    """Return the options of an instance whose keys and values are bytes, within *memory*."""
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(memory.cache)
    table.set_cache_index_and_filter_blocks(True)
    table.set_bloom_filter(10, False)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_manager(memory.write_buffers)
    options.set_write_buffer_size(8 * _MIB)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(256)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    return options
