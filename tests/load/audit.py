"""Checks that PostgreSQL holds everything acknowledged: exactly once, with the acknowledged value.

`lost` compares and does no I/O; `stored` reads over the caller's connection. `faults` derives all
stored values again, as `midstreamer db check` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from midstreamer.cli import db_check_command
from midstreamer.domain.decision import Decision
from midstreamer.store import audit
from midstreamer.store.postgres import PostgresStore
from tests.load import client_requests
from tests.load.client_reports import Heard

IDS_PER_QUERY = 5_000


@dataclass
class Stored:
    """Rows of PostgreSQL by key: the list of a key has one entry for each row with this key.

    So a row that is stored twice shows as a list with two entries.
    """

    ticks: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """Values by series and time."""
    decisions: dict[str, list[float]] = field(default_factory=dict)
    """Probabilities by experience id."""


async def stored(connection: Any, heard: Heard) -> Stored:
    """Read the rows of all series and decisions that were acknowledged."""
    found = Stored()
    series = sorted({name for name, _, _ in heard.stored})
    rows = await connection.fetch(
        "SELECT s.name, p.time, p.value FROM points p JOIN series s ON s.id = p.series_id"
        " WHERE s.name = ANY($1)",
        series,
    )
    for name, time, value in rows:
        found.ticks.setdefault((name, time), []).append(value)
    ids = [bytes.fromhex(each) for each in heard.decisions]
    for at in range(0, len(ids), IDS_PER_QUERY):
        rows = await connection.fetch(
            "SELECT experience_id, body FROM decisions WHERE experience_id = ANY($1)",
            ids[at : at + IDS_PER_QUERY],
        )
        for experience_id, body in rows:
            decision = msgspec.msgpack.decode(body, type=Decision)
            found.decisions.setdefault(experience_id.hex(), []).append(decision.probability)
    return found


def lost(heard: Heard, found: Stored) -> list[str]:
    """Return each acknowledged value that PostgreSQL does not hold exactly once and unchanged."""
    return lost_ticks(heard.stored, found.ticks) + lost_decisions(heard.decisions, found.decisions)


def lost_ticks(
    acknowledged: Sequence[tuple[str, int, int]], found: Mapping[tuple[str, int], list[float]]
) -> list[str]:
    """Return the acknowledged ticks that are missing, duplicated or stored with another value."""
    wrong = []
    for series, first, count in acknowledged:
        values = client_requests.values_of(series.partition("/")[2])
        for index in range(first, first + count):
            stored = found.get((series, client_requests.time_at(index)), [])
            if stored != [float(values[index])]:
                wrong.append(f"tick {index} of {series}: sent {values[index]}, stored {stored}")
    return wrong


def lost_decisions(
    acknowledged: Mapping[str, float], found: Mapping[str, list[float]]
) -> list[str]:
    """Return acknowledged decisions that are missing, duplicated or differ in probability."""
    wrong = []
    for experience_id, probability in acknowledged.items():
        stored = found.get(experience_id, [])
        if stored != [probability]:
            wrong.append(f"decision {experience_id}: answered {probability}, stored {stored}")
    return wrong


async def faults(dsn: str) -> list[str]:
    """Derive all values of a store again; return each contradiction that is found."""
    store = PostgresStore(dsn)
    await store.open()
    try:
        async with store.auditing() as reader:
            report = await audit.Audit(reader, db_check_command.rules()).run()
        return [str(each) for each in report.kept]
    finally:
        await store.close()
