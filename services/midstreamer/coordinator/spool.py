"""The spool: writes that were promised before PostgreSQL had them, on a disk of our own.

    segment = record*          spool-00000001, spool-00000002, ...
    record  = u32 length | u32 crc32 of the payload | payload

Records are appended and fsynced before the promise is given; several that wait share one fsync.
A segment is deleted when all its records have been settled.  What remains at a start is played
again: the store recognises what it has by natural keys.  A record that was being written when
the process died was never promised; a length or checksum that does not fit ends its segment.

Plain file work, called by one thread at a time; `coordinator.intake` sees to it and does the
waiting.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from midstreamer.domain.errors import ConfigError, Overloaded, StoreError

_HEAD = struct.Struct(">II")
SEGMENT_BYTES = 8 * 1024 * 1024
RETRY_AFTER_S = 0.5


class Place(NamedTuple):
    """Where a record lies."""

    segment: int
    number: int


class Record(NamedTuple):
    """One spooled write."""

    place: Place
    payload: bytes


class Spool:
    """One folder of segments, of one process at a time."""

    def __init__(
        self, directory: Path, *, bytes_max: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
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

    def start(self) -> list[Record]:
        """Take the folder; return what was left in it, oldest first."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = (self._directory / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = [record for path in self._paths() for record in self._read(path)]
        except OSError as error:
            self.close()
            raise ConfigError(
                f"coordinator.spool_dir = {self._directory}: {error.strerror}; it must be a folder"
                " that this process can write and no other coordinator uses"
            ) from error
        for segment in [segment for segment, records in self._open.items() if not records]:
            self._delete(segment)
        return left

    def append(self, payloads: Sequence[bytes]) -> list[Place]:
        """Write these records and fsync them: they are promised when this returns."""
        wanted = sum(_HEAD.size + len(payload) for payload in payloads)
        held = sum(self._sizes.values())
        if held + wanted > self._bytes_max:
            raise Overloaded(
                f"the spool holds {held:,} B, spool_bytes_max={self._bytes_max:,}",
                retry_after_s=RETRY_AFTER_S,
            )
        try:
            return self._append(payloads)
        except OSError as error:
            self._turn()  # what is after a half-written record would never be read
            raise StoreError(
                f"spool {self._directory}: {error.strerror}", retry_after_s=RETRY_AFTER_S
            ) from error

    def settle(self, place: Place) -> None:
        """A record is stored, or was refused for good: it need not be kept."""
        records = self._open.get(place.segment)
        if records is None:
            return
        records.discard(place.number)
        if not records:
            if place.segment == self._segment:
                self._turn()
            self._delete(place.segment)

    def close(self) -> None:
        """Let go of the folder."""
        self._turn()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- files ---

    def _append(self, payloads: Sequence[bytes]) -> list[Place]:
        file = self._file or self._begin()
        places = []
        for payload in payloads:
            file.write(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
            places.append(Place(self._segment, self._written))
            self._open[self._segment].add(self._written)
            self._written += 1
            self._sizes[self._segment] += _HEAD.size + len(payload)
        file.flush()
        os.fsync(file.fileno())
        if self._sizes[self._segment] >= self._segment_bytes:
            self._turn()
        return places

    def _begin(self) -> BinaryIO:
        self._segment = max([self._segment, *self._open]) + 1
        file = self._path(self._segment).open("xb")
        folder = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(folder)  # else the file's name may be lost with the power
        finally:
            os.close(folder)
        self._open[self._segment], self._sizes[self._segment] = set(), 0
        self._file, self._written = file, 0
        return file

    def _turn(self) -> None:
        """Leave the present segment; the next record begins another."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, path: Path) -> Iterator[Record]:
        data, at, number = path.read_bytes(), 0, 0
        segment = int(path.name.rpartition("-")[2])
        self._open[segment], self._sizes[segment] = set(), len(data)
        while at + _HEAD.size <= len(data):
            length, checksum = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(payload) < length or zlib.crc32(payload) != checksum:
                break
            self._open[segment].add(number)
            yield Record(Place(segment, number), payload)
            at, number = at + _HEAD.size + length, number + 1
        self.unread_bytes += len(data) - at

    def _delete(self, segment: int) -> None:
        del self._open[segment], self._sizes[segment]
        self._path(segment).unlink(missing_ok=True)

    def _path(self, segment: int) -> Path:
        return self._directory / f"spool-{segment:08d}"

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("spool-*"))
