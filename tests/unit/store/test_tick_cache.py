"""`Blocks` reads stored ticks in blocks: it finds any run, and keeps only a few blocks."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from midstreamer.store.tick_cache import BLOCK_POINTS, POSITION_MAX, Blocks

POINTS = 3 * BLOCK_POINTS + 10
HOLE = 2 * BLOCK_POINTS + 5


class Rows:
    """A fake database with one series without the point HOLE; it answers the query `audit_runs`."""

    def __init__(self) -> None:
        self.reads = 0

    async def fetch(self, name: str, *arguments: Any) -> list[dict[str, Any]]:
        assert name == "audit_runs"
        self.reads += 1
        return [
            row
            for place, (series, start, stop) in enumerate(zip(*arguments, strict=True), 1)
            if (row := _row(place, series, start, min(stop, POINTS)))
        ]


def _row(place: int, series: str, start: int, stop: int) -> dict[str, Any]:
    at = np.array([each for each in range(start, stop) if each != HOLE])
    if series != "u/a" or not at.size:
        return {}
    big = at.astype(">i8").tobytes()
    return {"place": place, "indices": big, "times": big, "values": at.astype(">f8").tobytes()}


def runs(*asked: tuple[str, int, int], kept: int = 8) -> tuple[list[Any], int]:
    rows = Rows()
    blocks = Blocks(rows, kept=kept)
    found = [asyncio.run(blocks.runs([run]))[run] for run in asked]
    return found, rows.reads


def test_a_run_is_found_within_a_block_and_across_several() -> None:
    for start, stop in ((0, 1), (5, 90), (BLOCK_POINTS - 3, BLOCK_POINTS + 3), (0, HOLE)):
        (found,), _ = runs(("u/a", start, stop))
        assert found.times.tolist() == list(range(start, stop))
        assert found.values.tolist() == list(range(start, stop))


def test_a_run_with_a_missing_point_is_not_found() -> None:
    for run in (
        ("u/a", HOLE - 2, HOLE + 2),
        ("u/a", HOLE - 2, POINTS),
        ("u/a", POINTS - 1, POINTS + 1),
        ("u/b", 0, 1),
        ("u/a", -1, 4),
        ("u/a", 4, 4),
        ("u/a", POSITION_MAX, POSITION_MAX + 1),
        ("u/a", 0, 2**63),
    ):
        assert runs(run)[0] == [None]


def test_a_block_is_read_once_while_it_is_kept_and_again_after() -> None:
    asked = [("u/a", 0, 4), ("u/a", BLOCK_POINTS, BLOCK_POINTS + 4), ("u/a", 0, 4)]
    assert runs(*asked, kept=8)[1] == 2
    assert runs(*asked, kept=1)[1] == 3
