"""Write down the order of what the trainer does, so that a restart does the same again.

What is learned depends on the order in which records of several partitions are taken, on when a
batch that waits is learned, and on when a generation begins. Fetches and timers decide all of
these. So each transition of the training state is appended here before it happens, and what a
restart reads from the newest checkpoint on, it repeats: the state is then, bit for bit, the one of
a process that never ended.

The journal lies beside the checkpoints, in segments. Segment *n* holds what happened after
checkpoint *n* and before the next one, segment 0 what happened before the first. A damaged
checkpoint is passed over for the one before it, and two segments lead from there to the same state.
An entry has a length and a CRC-32; what a killed process left of one ends the journal. An entry
survives the end of the process at once, and the end of the machine once its segment is closed.

It has topics, partitions, offsets and times, and nothing of what the records say.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger()

_PREFIX = "journal-"
_NAME = re.compile(f"{_PREFIX}([0-9]{{12}})")
_FRAME = struct.Struct("<II")
_MAX_ENTRY_BYTES = 1 << 24


class Run(msgspec.Struct, frozen=True, array_like=True):
    """*count* records of one partition in a row, whose offsets are from *first* to *last*."""

    topic: str
    partition: int
    first: int
    last: int
    count: int


class RecordsTaken(msgspec.Struct, frozen=True, array_like=True, tag="took"):
    """The records of *runs* were applied in this order, at *now_ms*, and then the joiner advanced.

    *idle* are the topics and partitions that had no unread record for a while.
    """

    now_ms: int
    runs: list[Run]
    idle: list[tuple[str, int]]


class BatchLearned(msgspec.Struct, frozen=True, array_like=True, tag="learned"):
    """A batch was learned that was not full and had waited long enough."""


class VectorsPublished(msgspec.Struct, frozen=True, array_like=True, tag="published"):
    """Up to *most* vectors of *generation* were acknowledged; noted afterwards, unlike the rest."""

    generation: int
    most: int


class GenerationBegun(msgspec.Struct, frozen=True, array_like=True, tag="froze"):
    """A generation began while another one was in service."""

    generation: int
    in_service: int | None = None


class GenerationDropped(msgspec.Struct, frozen=True, array_like=True, tag="dropped"):
    """The bundle of a generation that had begun is not offered."""

    generation: int


Transition = RecordsTaken | BatchLearned | VectorsPublished | GenerationBegun | GenerationDropped


class _Header(msgspec.Struct, frozen=True, array_like=True, tag="header"):
    """The first entry of a segment; *start* counts all transitions before it."""

    number: int
    start: int


class Journal:
    """The transitions since some checkpoint, in segments in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None
        self._count = 0

    @property
    def is_open(self) -> bool:
        """Whether transitions are written down; not before `resume` or `begin`, nor once full."""
        return self._file is not None

    @property
    def newest(self) -> int:
        """The number of the newest segment, -1 if there is none."""
        return max(self._numbers(), default=-1)

    def resume(self, number: int) -> list[Transition]:
        """Return what happened after checkpoint *number*, and go on writing behind it.

        A segment that does not follow from the one before it is dropped, as is a torn last entry.
        """
        self._close()
        transitions: list[Transition] = []
        last: tuple[Path, int] | None = None
        for segment in sorted(n for n in self._numbers() if n >= number):
            header, found, size = _read(self._path(segment))
            follows = segment == number if last is None else header and header.start == self._count
            if header is None or header.number != segment or not follows:
                log.warning("journal_segment_dropped", number=segment)
                self._path(segment).unlink()
                continue
            transitions += found
            self._count = header.start + len(found)
            last = self._path(segment), size
        if last is None:
            self.begin(number)
        else:
            self._file = os.open(last[0], os.O_WRONLY | os.O_APPEND)
            os.ftruncate(self._file, last[1])
        return transitions

    def begin(self, number: int) -> None:
        """Begin segment *number*: what follows happens after the checkpoint of that number."""
        self._close()
        self._directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._file = os.open(self._path(number), flags, 0o644)
        self._write(_Header(number, self._count))

    def append(self, transition: Transition) -> None:
        """Write *transition* down; it is there even if this process ends now.

        On a full disk the journal ends until the next checkpoint: what is learned goes on, and a
        restart before that checkpoint takes what comes after the end in an order of its own.
        """
        self._count += 1
        if self._file is not None:
            self._write(transition)

    def discard_before(self, number: int) -> None:
        """Delete the segments that only checkpoints older than *number* need."""
        for segment in self._numbers():
            if segment < number:
                self._path(segment).unlink()

    def clear(self) -> None:
        """Delete everything, and write nothing before `begin`."""
        self._close(is_synced=False)
        for segment in self._numbers():
            self._path(segment).unlink()

    def close(self) -> None:
        """Close the file."""
        self._close()

    def _write(self, entry: Transition | _Header) -> None:
        assert self._file is not None
        payload = _ENCODER.encode(entry)
        frame = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            if os.write(self._file, frame) == len(frame):
                return
            reason = "the disk is full"
        except OSError as error:
            reason = str(error)
        log.error("journal_cut_short", reason=reason)
        self._close(is_synced=False)

    def _close(self, *, is_synced: bool = True) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            if is_synced:
                os.fdatasync(file)
        finally:
            os.close(file)

    def _path(self, number: int) -> Path:
        return self._directory / f"{_PREFIX}{number:012d}"

    def _numbers(self) -> list[int]:
        paths = (path for path in self._directory.glob(f"{_PREFIX}*") if path.is_file())
        matches = (_NAME.fullmatch(path.name) for path in paths)
        return [int(match[1]) for match in matches if match is not None]


def _read(path: Path) -> tuple[_Header | None, list[Transition], int]:
    """Return the header and the whole entries of a segment, and how many bytes they take."""
    data = path.read_bytes()
    header: _Header | None = None
    found: list[Transition] = []
    size = 0
    for entry, end in _entries(data):
        if isinstance(entry, _Header):
            header = entry
        else:
            found.append(entry)
        size = end
    if size < len(data):
        log.warning("journal_entry_torn", name=path.name, num_bytes=len(data) - size)
    return header, found, size


def _entries(data: bytes) -> Iterator[tuple[Transition | _Header, int]]:
    position = 0
    while position + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, position)
        end = position + _FRAME.size + length
        payload = data[position + _FRAME.size : end]
        if length > _MAX_ENTRY_BYTES or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        try:
            yield _DECODER.decode(payload), end
        except msgspec.MsgspecError:
            return
        position = end


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Transition | _Header)
