"""Memory that was freed between what is used goes back to the system."""

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from contract.process import memory
from contract.process.memory import give_back_memory, mapped_apart

MANY, SIZE = 2_000, 100_000
"""Of arrays below the size from which glibc maps each by itself."""


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


needs_glibc = pytest.mark.skipif(
    not (Path("/proc/self/statm").exists() and hasattr(ctypes.CDLL(None), "malloc_trim"))
    or mmap.PAGESIZE > SIZE // 20,
    reason="the allocator is not glibc's, or the holes have few whole pages",
)


@needs_glibc
def test_freed_memory_between_used_memory_is_given_back_to_the_system():
    arrays = [bytearray(b"x" * SIZE) for _ in range(MANY)]
    kept = arrays[::2]
    del arrays
    before = resident_bytes()

    give_back_memory()

    assert before - resident_bytes() > MANY // 2 * SIZE * 0.8
    assert all(one[-1] == ord("x") for one in kept)


FREED = """
import mmap
from pathlib import Path
from contract.process.memory import mapped_apart

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

bytearray(16 << 20)
with mapped_apart():
    blocks = [bytearray(b"x" * (1 << 20)) for _ in range(100)]
kept = blocks[::2]
before = resident_bytes()
del blocks
print(before - resident_bytes())
"""
"""In a process of its own, whose heap has no holes that such blocks fit into."""


@needs_glibc
def test_blocks_that_are_mapped_apart_leave_no_holes_between_each_other():
    """The allocator takes such blocks from its heap once larger ones have come and gone."""
    freed = subprocess.run(
        [sys.executable, "-c", FREED], capture_output=True, check=True, text=True
    )

    assert int(freed.stdout) > 40 << 20


@pytest.fixture
def thresholds(monkeypatch):
    """Return what the allocator was told last: from which size on it maps, and trims."""
    told = {}
    monkeypatch.setattr(memory, "_mallopt", told.__setitem__)
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    return told


def test_blocks_are_mapped_apart_until_the_last_of_overlapping_blocks_of_code_ends(thresholds):
    """One thread makes a copy while another writes the last one."""
    first, second = mapped_apart(), mapped_apart()

    with first:
        second.__enter__()
    in_between = thresholds[memory._M_MMAP_THRESHOLD]
    second.__exit__(None, None, None)

    assert in_between < thresholds[memory._M_MMAP_THRESHOLD]


@pytest.mark.parametrize(
    ("given", "mapped_mib", "trimmed_mib"),
    [
        (("", ""), 32, 64),
        (("16777216", "134217728"), 16, 128),
        (("99999999", ""), 32, 64),
        (("16M", "1e9"), 32, 64),
        (("", "2146435072"), 32, 2047),
    ],
)
def test_afterwards_the_allocator_has_its_settings_again(
    thresholds, monkeypatch, given, mapped_mib, trimmed_mib
):
    """Some versions refuse a threshold above 32 MiB, and would go on to map each block."""
    for name, text in zip(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), given, strict=True):
        monkeypatch.setenv(name, text)

    with mapped_apart():
        pass

    assert thresholds[memory._M_MMAP_THRESHOLD] == mapped_mib << 20
    assert thresholds[memory._M_TRIM_THRESHOLD] == trimmed_mib << 20


def test_a_threshold_that_the_allocator_has_no_room_for_is_the_largest(thresholds, monkeypatch):
    """Cut to 32 bits, 4 GiB would be 0, and each batch would give its memory back."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", f"{4 << 30}")

    with mapped_apart():
        pass

    assert thresholds[memory._M_TRIM_THRESHOLD] == 2**31 - 1
