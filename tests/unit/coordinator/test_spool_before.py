"""A spool of the previous version is replayed; unreadable records are set aside with a reason."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midstreamer.coordinator.intake import Intake
from midstreamer.coordinator.outbox_writer import Writer
from midstreamer.coordinator.spool import REFUSED, Spool
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Write, Written
from tests.support.fleet import eventually
from tests.support.store_builders import a_column, a_decision

RECORDED = Path(__file__).parents[2] / "recorded" / "spool"
"""A segment of three records, written by the previous version."""


async def _played(folder: Path) -> list[Write]:
    """Start a coordinator with this spool folder; return the writes that sync gets from it."""
    writes: list[Write] = []

    async def ask(write: Write, budget_s: float) -> frames.Answer:
        writes.append(write)
        rows = sum(len(column) for column in write.columns) + len(write.decisions)
        return Written(position=1, stored=rows)

    spool, writer = Spool(folder, bytes_max=1 << 20), Writer(ask)
    intake = Intake(writer, spool)
    intake.resume(spool.start())
    tasks = [asyncio.ensure_future(run()) for run in (writer.run, intake.run, intake.replay)]
    try:
        await eventually(lambda: not list(folder.glob("spool-*")))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        spool.close()
    return writes


async def test_a_spool_of_the_version_before_is_played_again_whole(tmp_path: Path) -> None:
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    writes = await _played(tmp_path)
    columns = [column for write in writes for column in write.columns]
    assert columns == [
        a_column(0, 4),
        a_column(0, 3, name="test/B"),
        a_column(4, 6),
        a_column(6, 7),
    ]
    decided = [decision.experience_id for write in writes for decision in write.decisions]
    assert decided == [a_decision(at).experience_id for at in (4, 5)]
    callers = [caller.identity for write in writes for caller in write.callers]
    assert callers == ["client/c1", "client/c2", ""]
    assert not (tmp_path / REFUSED).exists()


@pytest.mark.parametrize("where", ["record", "specification"])
async def test_a_record_with_an_unknown_field_is_set_aside_and_the_next_is_played(
    tmp_path: Path, where: str
) -> None:
    fields = msgspec.to_builtins(a_decision(4), builtin_types=(bytes,))
    newer: dict[str, Any] = {"columns": [], "decisions": [fields], "identity": "client/c1"}
    (newer if where == "record" else fields["specification"])["trim"] = 0.5
    spool = Spool(tmp_path, bytes_max=1 << 20)
    spool.start()
    spool.append(
        [msgspec.msgpack.encode(record) for record in (newer, {"columns": [a_column(0, 1)]})]
    )
    spool.close()
    (write,) = await _played(tmp_path)
    assert write.columns == (a_column(0, 1),)
    (line,) = (tmp_path / REFUSED).read_bytes().splitlines()
    assert "unknown field `trim`" in msgspec.json.decode(line)["reason"]
