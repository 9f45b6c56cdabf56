"""COPY data built by numpy: what PostgreSQL expects, to the byte."""

from __future__ import annotations

import struct

from midstreamer.store import copying
from tests.support.store import STEP, a_column, value_at

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def test_a_point_is_four_fields_with_their_lengths() -> None:
    data = copying.points([(7, 3, a_column(3, 4))])
    row = struct.pack(">h", 4)
    row += struct.pack(">ii", 4, 7) + struct.pack(">iq", 8, 3)
    row += struct.pack(">iq", 8, 3 * STEP) + struct.pack(">id", 8, value_at(3))
    assert data == HEADER + row + b"\xff\xff"


def test_pairs_are_read_back() -> None:
    rows = b"".join(struct.pack(">hiqid", 2, 8, at, 8, at / 4) for at in range(5))
    times, values = copying.pairs(HEADER + rows + b"\xff\xff")
    assert times.tolist() == [0, 1, 2, 3, 4]
    assert values.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_no_rows_are_no_pairs() -> None:
    times, values = copying.pairs(HEADER + b"\xff\xff")
    assert (len(times), len(values)) == (0, 0)
