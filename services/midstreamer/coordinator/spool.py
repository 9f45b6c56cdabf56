"""The spool: writes on the local disk that were acknowledged before PostgreSQL stored them.

    segment = record*          spool-00000001, spool-00000002, ...
    record  = u32 length | u32 crc32 of the payload | payload

Records are appended and fsynced before they are acknowledged; records that wait at the same time
share one fsync.  A segment is deleted when all its records are stored or set aside.  The records
left at a start are replayed, which is safe because the store recognises duplicates by natural keys.
Reading a segment stops at the first record whose length or checksum is wrong: the process died
while it wrote that record and never acknowledged it.  Reading also stops at a length of zero,
because a power cut may leave zeros after the last write.

A record that the store refuses for good was acknowledged, so it is not deleted.  It is *set aside*
in the file ``refused``, one JSON object per line with the reason and the payload, for an operator
to inspect and delete.  Records set aside count towards the size limit of the spool.

All methods are blocking file I/O, and one thread at a time may call them; `coordinator.intake` runs
them in a worker thread.
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
"""Size in bytes at which a segment is closed and the next one begins."""
REFUSED = "refused"
"""Name of the file with the records that are set aside."""
RETRY_AFTER_S = 0.5
"""Seconds after which a caller should retry when the spool is full or its disk fails."""


class Place(NamedTuple):
    """Where the spool has a record: the number of the segment, and the number of the record within
    that segment."""

    segment: int
    number: int


class Record(NamedTuple):
    """One spooled write: its place on disk and its encoded content."""

    place: Place
    payload: bytes


class _SetAside(msgspec.Struct, frozen=True):
    """One line of the file `REFUSED`: a record that the store refused, with the reason."""

    segment: int
    number: int
    reason: str
    payload: bytes


class Spool:
    """The segments in one folder, which one process at a time may use."""

    def __init__(
        self, directory: Path, *, bytes_max: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self.bytes_max = bytes_max
        """Maximum number of bytes that the spool may take on disk."""
        self._segment_bytes = segment_bytes
        self._open: dict[int, set[int]] = {}
        """For each segment on disk, the numbers of the records that are not settled yet."""
        self._sizes: dict[int, int] = {}
        self._file: BinaryIO | None = None
        self._segment = 0
        self._written = 0
        """Number of records written so far to the current segment, which gets the next record."""
        self._lock: BinaryIO | None = None
        self.unread_bytes = 0
        """Number of bytes that `start` could not read: in each segment, all bytes from the first
        incomplete or damaged record on."""
        self.refused_bytes = 0
        """Size in bytes of the file with the records that are set aside."""

    def start(self) -> list[Record]:
        """Lock the folder and return the records left in it, oldest first.  Raise ConfigError when
        the folder cannot be used."""
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
        """Write these records and fsync them; they may be acknowledged when this returns.

        Raise Overloaded when the spool is full, and StoreError when the disk fails.
        """
        wanted = sum(_HEAD.size + len(payload) for payload in payloads)
        held = sum(self._sizes.values()) + self.refused_bytes
        if held + wanted > self.bytes_max:
            raise Overloaded(
                f"the spool holds {held:,} B, {self.refused_bytes:,} B of them set aside in"
                f" {self._refused}; no room for {wanted:,} B more,"
                f" coordinator.spool_bytes_max={self.bytes_max:,}: inspect that file, delete it and"
                " restart, or find out why sync is slow",
                retry_after_s=RETRY_AFTER_S,
            )
        try:
            return self._append(payloads)
        except OSError as error:
            self._leave_damaged()
            raise self._trouble(error) from error

    def settle(self, place: Place) -> None:
        """Forget a record that is stored, set aside or no longer wanted by its caller.

        If all records of its segment are forgotten now, delete the segment.  Raise StoreError when
        the segment cannot be deleted.
        """
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
        """Move a record that can never be stored to the file `REFUSED`, so that it is not replayed.
        Raise StoreError when the disk fails."""
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
        """Close the current segment and unlock the folder."""
        with contextlib.suppress(OSError):  # acknowledged records are fsynced, so none is lost
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
        # Count the records only after the fsync: records that failed are not acknowledged.
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
            os.fsync(folder)  # without this a power cut could lose the new file's name
        finally:
            os.close(folder)
        return file

    def _turn(self) -> None:
        """Close the current segment, so that the next record begins a new segment."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _leave_damaged(self) -> None:
        """Close the segment after a failed write, and try to cut off the incomplete record at its
        end.  New records go to a new segment in any case: if the incomplete record stays, reading
        the segment stops at it, so records after it would be lost."""
        with contextlib.suppress(OSError):
            self._turn()  # closing the file writes what is left in its buffer and may fail too
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
