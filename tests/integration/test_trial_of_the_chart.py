"""The script that `helm test` runs accepts the answers of a fleet, and reports a wrong answer."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from midstreamer import window
from midstreamer.domain.match import Match
from tests.support import fleet

pytestmark = [pytest.mark.integration]

TRIAL: dict[str, Any] = runpy.run_path(
    str(Path(__file__).parents[2] / "charts/midstreamer/files/trial.py")
)


async def the_matches() -> list[Match]:
    """Return a fleet's analogs for the window that the script of `helm test` asks about."""
    series, time, values = TRIAL["asked"]()
    async with fleet.running() as running:
        client = await running.client()
        appended = await fleet.append(client, *TRIAL["history"]())
        asked = window(values, series=series, time=time)
        answer = await fleet.match(
            client, TRIAL["SPECIFICATION"], asked, at_least=appended.position
        )
    (decision,) = answer.decisions
    return list(decision.matches)


async def test_a_fleet_finds_what_the_trial_finds_by_itself() -> None:
    matches = await the_matches()

    assert len({match.series for match in matches}) > 1
    assert TRIAL["differences"](matches) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": 0.5}, "match 3: the fleet has"),
        ({"start": 0}, "match 3: the fleet has"),
        ({"outcome": 0.5}, "match 3: the fleet has"),
    ],
    ids=["distance", "start", "outcome"],
)
def test_another_answer_is_told(change: dict[str, Any], message: str) -> None:
    matches = [Match(one.series, one.start, 0, *one[2:]) for one in TRIAL["expected"]()]
    matches[3] = matches[3]._replace(**change)

    (line,) = TRIAL["differences"](matches)

    assert line.startswith(message)


def test_a_missing_match_is_told() -> None:
    matches = [Match(match.series, match.start, 0, *match[2:]) for match in TRIAL["expected"]()]

    assert TRIAL["differences"](matches[:-1]) == ["the fleet has 11 matches, but 12 are expected"]
