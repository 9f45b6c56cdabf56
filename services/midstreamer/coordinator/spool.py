"""The spool: writes that were promised before PostgreSQL had them, on a disk of our own.

    segment = record*          spool-00000001, spool-00000002, ...
    record  = u32 length | u32 crc32 of the payload | payload

Records are appended and fsynced before the promise is given; several that wait share one fsync.
A segment is deleted when all its records have been settled.  What remains at a start is played
again: the store recognises what it has by natural keys.  A record that was being written when
the process died was never promised; a length or checksum that does not fit ends its segment, and
so does a length of zero: zeros are what a power cut may leave behind the last write.

A record that can never be stored is not thrown away, since it was promised: it is set aside in
the file ``refused``, one JSON object a line with the reason and the payload, for somebody to look
at and delete.  What is set aside counts towards the bytes the spool may take.

Plain file work, called by one thread at a time; `coordinator.intake` sees to it and does the
waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from midstreamer.domain.errors import ConfigError, Overloaded, StoreError

_HEAD = struct.Struct(">II")
SEGMENT_BYTES = 8 * 1024 * 1024
REFUSED = "refused"
"""File of the records set aside."""
RETRY_AFTER_S = 0.5


class Place(NamedTuple):
    """Where a record lies."""

    segment: int
    number: int


class Record(NamedTuple):
    """One spooled write."""

    place: Place
    payload: bytes


class _SetAside(msgspec.Struct, frozen=True):
    """A line of the file of refused records."""

    segment: int
    number: int
    reason: str
    payload: bytes


class Spool:
    """One folder of segments, of one process at a time."""

    def __init__(
        self, directory: Path, *, bytes_max: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self.bytes_max = bytes_max
        """Most that it may take on disk."""
        self._segment_bytes = segment_bytes
        self._open: dict[int, set[int]] = {}
        """Of each segment on disk, the records that are not settled."""
        self._sizes: dict[int, int] = {}
        self._file: BinaryIO | None = None
        self._segment = 0
        self._written = 0
        """Records in the present segment."""
        self._lock: BinaryIO | None = None
        self.unread_bytes = 0
        """Found at the start behind a record that was cut short or damaged."""
        self.refused_bytes = 0
        """Of the records set aside."""

    def start(self) -> list[Record]:
        """Take the folder; return what was left in it, oldest first."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = (self._directory / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._refused.exists():
                self.refused_bytes = self._refused.stat().st_size
            left = [record for path in self._paths() for record in self._read(path)]
            for segment in [segment for segment, records in self._open.items() if not records]:
                self._delete(segment)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"coordinator.spool_dir = {self._directory}: {error.strerror}; it must be a folder"
                " that this process can write and no other coordinator uses"
            ) from error
        return left

    def append(self, payloads: Sequence[bytes]) -> list[Place]:
        """Write these records and fsync them: they are promised when this returns."""
        wanted = sum(_HEAD.size + len(payload) for payload in payloads)
        held = sum(self._sizes.values()) + self.refused_bytes
        if held + wanted > self.bytes_max:
            raise Overloaded(
                f"the spool holds {held:,} B, {self.refused_bytes:,} B of them set aside in"
                f" {self._refused}; spool_bytes_max={self.bytes_max:,}",
                retry_after_s=RETRY_AFTER_S,
            )
        try:
            return self._append(payloads)
        except OSError as error:
            self._leave_damaged()
            raise self._trouble(error) from error

    def settle(self, place: Place) -> None:
        """A record is stored: it need not be kept. StoreError when its file cannot be deleted."""
        records = self._open.get(place.segment)
        if records is None:
            return
        records.discard(place.number)
        if not records:
            try:
                if place.segment == self._segment:
                    self._turn()
                self._delete(place.segment)
            except OSError as error:
                raise self._trouble(error) from error

    def set_aside(self, place: Place, payload: bytes, reason: str) -> None:
        """A record was refused for good: keep it apart, and no longer play it again."""
        line = msgspec.json.encode(_SetAside(*place, reason, payload)) + b"\n"
        try:
            with self._refused.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._trouble(error) from error
        self.refused_bytes += len(line)
        self.settle(place)

    def close(self) -> None:
        """Let go of the folder."""
        with contextlib.suppress(OSError):  # all that was promised has been fsynced
            self._turn()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- files ---

    def _append(self, payloads: Sequence[bytes]) -> list[Place]:
        file = self._file or self._begin()
        data = b"".join(
            _HEAD.pack(len(payload), zlib.crc32(payload)) + payload for payload in payloads
        )
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        # Only now do they count: a write that failed has left nothing that could be settled.
        numbers = range(self._written, self._written + len(payloads))
        self._open[self._segment].update(numbers)
        self._written += len(payloads)
        self._sizes[self._segment] += len(data)
        places = [Place(self._segment, number) for number in numbers]
        if self._sizes[self._segment] >= self._segment_bytes:
            self._turn()
        return places

    def _begin(self) -> BinaryIO:
        self._segment = max([self._segment, *self._open]) + 1
        self._open[self._segment], self._sizes[self._segment] = set(), 0
        self._file = file = self._path(self._segment).open("xb")
        self._written = 0
        folder = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(folder)  # else the file's name may be lost with the power
        finally:
            os.close(folder)
        return file

    def _turn(self) -> None:
        """Leave the present segment; the next record begins another."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _leave_damaged(self) -> None:
        """Nothing may follow a half-written record: cut it off, and never write here again."""
        with contextlib.suppress(OSError):
            self._turn()  # it may try to write what is left in its buffer
        with contextlib.suppress(OSError):
            if self._open.get(self._segment):
                os.truncate(self._path(self._segment), self._sizes[self._segment])
            else:
                self._delete(self._segment)

    def _read(self, path: Path) -> Iterator[Record]:
        data, at, number = path.read_bytes(), 0, 0
        segment = int(path.name.rpartition("-")[2])
        self._open[segment], self._sizes[segment] = set(), len(data)
        while at + _HEAD.size <= len(data):
            length, checksum = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if not length or len(payload) < length or zlib.crc32(payload) != checksum:
                break
            self._open[segment].add(number)
            yield Record(Place(segment, number), payload)
            at, number = at + _HEAD.size + length, number + 1
        self.unread_bytes += len(data) - at

    def _delete(self, segment: int) -> None:
        del self._open[segment], self._sizes[segment]
        self._path(segment).unlink(missing_ok=True)

    def _trouble(self, error: OSError) -> StoreError:
        return StoreError(f"spool {self._directory}: {error.strerror}", retry_after_s=RETRY_AFTER_S)

    @property
    def _refused(self) -> Path:
        return self._directory / REFUSED

    def _path(self, segment: int) -> Path:
        return self._directory / f"spool-{segment:08d}"

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("spool-*"))
