"""A window record is canonical, bounded, and damage to it never goes unseen."""

from pathlib import Path

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import NewerFormatError, WindowError
from models.history import codec as history_codec
from models.history.history import (
    EMPTY,
    MAX_SHOWN_VIDEOS,
    ContextEntry,
    ImpressionEntry,
    SearchEntry,
    WatchEntry,
    Window,
    WindowPolicy,
    fold,
    with_repeats_apart,
)

times = st.integers(0, 99_999_999_999_999)
ids = st.binary(min_size=16, max_size=16)
windows = st.builds(
    Window,
    watches=st.lists(
        st.builds(
            WatchEntry,
            times,
            ids,
            st.sampled_from(["v1", "v2", "ü", ""]),
            st.integers(0, 86_400_000),
            st.integers(1, 86_400_000),
        ),
        max_size=5,
    ).map(tuple),
    searches=st.lists(st.builds(SearchEntry, times, ids, st.text(max_size=20)), max_size=3).map(
        tuple
    ),
    context=st.none()
    | st.builds(
        ContextEntry,
        *(times, ids, st.just("DE"), st.just(""), st.just("tv"), st.just("1")),
        *(st.sampled_from(["", "25-34"]), st.sampled_from(["", "f"])),
    ),
    erased_before_ms=times,
    impressions=st.lists(
        st.builds(ImpressionEntry, times, ids, st.binary(max_size=16)), max_size=3
    ).map(tuple),
)


@given(windows)
def test_a_record_decodes_to_its_window(window):
    """What is kept comes back."""
    window = with_repeats_apart(window)  # not in the strategy: beartype draws by lot

    assert history_codec.decode(history_codec.encode(window)) == window


@given(windows)
def test_equal_windows_have_equal_bytes(window):
    """States are compared by hash, so decoding and encoding changes no byte."""
    record = history_codec.encode(with_repeats_apart(window))

    assert history_codec.encode(history_codec.decode(record)) == record


@given(windows, st.data())
def test_a_flipped_bit_is_noticed(window, data):
    """One bit anywhere, version and checksum included."""
    record = bytearray(history_codec.encode(with_repeats_apart(window)))
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << (bit % 8)

    with pytest.raises(WindowError):
        history_codec.decode(bytes(record))


@given(windows, st.data())
def test_a_cut_record_is_noticed(window, data):
    """A torn write, at any byte."""
    record = history_codec.encode(with_repeats_apart(window))
    kept = data.draw(st.integers(0, len(record) - 1))

    with pytest.raises(WindowError):
        history_codec.decode(record[:kept])


def test_a_newer_version_stops_the_reader():
    """What this code cannot read it does not guess at."""
    newer, body = history_codec.VERSION + 1, b"whatever it may be"
    record = bytes([newer]) + history_codec._checksum(newer, body) + body

    with pytest.raises(NewerFormatError, match=f"version {newer}"):
        history_codec.decode(record)


def test_a_version_byte_that_breaks_the_checksum_is_damage():
    """Junk has a first byte, too."""
    record = history_codec.encode(EMPTY)

    with pytest.raises(WindowError, match="checksum") as raised:
        history_codec.decode(bytes([history_codec.VERSION + 1]) + record[1:])
    assert not isinstance(raised.value, NewerFormatError)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_records_of_older_versions_are_read_and_written_anew_as_of_this_version(version):
    """A store and a changelog outlive an upgrade; what they hold stays readable."""
    record = bytes.fromhex((Path(__file__).parent / f"window_v{version}.hex").read_text())

    window = history_codec.decode(record)

    assert window == Window(
        watches=(
            WatchEntry(1_790_000_000_000, bytes(range(16)), "v1", 12_000, 30_000),
            WatchEntry(1_790_000_060_000, bytes(range(16, 32)), "v2", 0, 1),
        ),
        searches=(SearchEntry(1_790_000_030_000, bytes(range(32, 48)), "süße Katzen"),),
        context=ContextEntry(1_790_000_060_000, bytes(range(16, 32)), "DE", "de", "tv", ""),
        erased_before_ms=1_780_000_000_000,
    )
    assert history_codec.encode(window)[0] == history_codec.VERSION


def test_a_video_that_an_older_record_names_often_is_read_as_one_with_a_count():
    """Up to version 4 a video watched three times took three places."""
    record = bytes.fromhex((Path(__file__).parent / "window_v4_repeats.hex").read_text())

    window = history_codec.decode(record)

    assert (window.video_ids, window.counts) == (("v2", "v1"), (1, 3))
    assert [entry.watch_ms for entry in window.repeats] == [12_000, 5_000]
    assert window.impressions[0].points == b"\x01" * 16
    assert fold(window, [], WindowPolicy()) == window


def test_a_repeat_of_a_video_that_is_not_there_is_noticed():
    """A record that another program wrote, with a good checksum."""
    entry = WatchEntry(1, bytes(16), "v1", 1, 1)
    record = history_codec.encode(Window((entry,), repeats=(entry,)))
    columns = msgspec.msgpack.decode(record[9:])
    assert columns[16] == [0]
    columns[16] = [7]
    body = msgspec.msgpack.encode(columns)

    with pytest.raises(WindowError, match="cannot be read"):
        history_codec.decode(record[:1] + xxhash.xxh3_64_digest(record[:1] + body) + body)


def test_the_largest_window_fits_a_record():
    """Every bound of the policy and of the contract reached at once stays below 96 KiB."""
    # 300 watches of 128-byte ids, 28 searches of 256 four-byte characters, 32 pages shown
    late = 99_999_999_999_999
    watches = tuple(
        WatchEntry(late, n.to_bytes(16), "v" * 128, 86_400_000, 86_400_000) for n in range(300)
    )
    searches = tuple(SearchEntry(late, n.to_bytes(16), "\U0001f600" * 256) for n in range(28))
    context = ContextEntry(
        late, bytes(16), "DE", "x" * 16, *["\U0001f600" * 64] * 2, *["\U0001f600" * 32] * 2
    )

    shown = tuple(
        ImpressionEntry(late * (n % 2), n.to_bytes(16), b"\xff" * 8 * MAX_SHOWN_VIDEOS)
        for n in range(32)
    )

    repeats = watches[1:]
    record = history_codec.encode(Window(watches, searches, context, late, shown, repeats))

    assert len(record) <= history_codec.MAX_RECORD_BYTES
