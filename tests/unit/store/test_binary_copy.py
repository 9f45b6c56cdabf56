"""Data that numpy writes and reads in the binary format of PostgreSQL's COPY."""

from __future__ import annotations

import struct

from midstreamer.store import binary_copy
from tests.support.store_builders import STEP, a_column, value_at

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def test_a_point_is_four_fields_with_their_lengths() -> None:
    data = binary_copy.points([(7, 3, a_column(3, 4))])
    row = struct.pack(">h", 4)
    row += struct.pack(">ii", 4, 7) + struct.pack(">iq", 8, 3)
    row += struct.pack(">iq", 8, 3 * STEP) + struct.pack(">id", 8, value_at(3))
    assert data == HEADER + row + b"\xff\xff"


def rows(*points: tuple[int, int]) -> bytes:
    """Return COPY data with one row for each point: its run, its time, and a value.

    Each point is given as (number of its run, time). Its value is a quarter of its time.
    """
    data = (struct.pack(">hiiiqid", 3, 4, place, 8, at, 8, at / 4) for place, at in points)
    return HEADER + b"".join(data) + b"\xff\xff"


def test_runs_are_read_back_also_when_one_is_empty() -> None:
    found = binary_copy.runs(rows((0, 5), (0, 6), (2, 1)), 4)
    assert [times.tolist() for times, _ in found] == [[5, 6], [], [1], []]
    assert [values.tolist() for _, values in found] == [[1.25, 1.5], [], [0.25], []]


def test_rows_in_any_order_make_the_same_runs() -> None:
    found = binary_copy.runs(rows((1, 4), (0, 6), (1, 3), (0, 5)), 2)
    assert [times.tolist() for times, _ in found] == [[5, 6], [3, 4]]


def test_no_rows_are_no_points() -> None:
    ((times, values),) = binary_copy.runs(HEADER + b"\xff\xff", 1)
    assert (len(times), len(values)) == (0, 0)
    assert len(binary_copy.runs(b"", 1)[0][0]) == 0
