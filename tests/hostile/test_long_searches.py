"""Searches that would take hours end at their deadline; other searches get threads meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from midstreamer.agent.service import AgentService
from midstreamer.domain.errors import DeadlineExceeded
from midstreamer.domain.series import Window
from midstreamer.domain.specification import WINDOW_MAX, Measure
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Peer
from tests.hostile.test_bounds import running
from tests.support.fleet import a_column, a_specification, a_window, append, eventually, match

pytestmark = [pytest.mark.integration, pytest.mark.each_carrier]


async def endless(peer: Peer, budget_s: float) -> None:
    """Request the most expensive comparison, over all windows of four series."""
    specification = a_specification(
        window=WINDOW_MAX, band=WINDOW_MAX, grid=1, measure=Measure.LCSS, epsilon=0.1
    )
    values = np.random.default_rng(1).normal(size=WINDOW_MAX).tobytes()
    asked = Window("", 2**50, values)
    await peer.ask(
        frames.Match(specification=specification, windows=(asked,), record=False), budget_s=budget_s
    )


async def test_a_search_that_takes_hours_keeps_nobody_from_the_agent(tmp_path: Path) -> None:
    async with running(tmp_path) as fleet:
        greedy, other = await fleet.client("greedy"), await fleet.client("other")
        history = a_column(8000)
        await append(other, history)
        await append(other, *(a_column(8000, series=f"walk/{n}", seed=n) for n in range(3)))
        await fleet.settled()
        agent = next(each for each in fleet.services if isinstance(each, AgentService))
        attacks = [asyncio.create_task(endless(greedy, 4.0)) for _ in range(6)]
        await eventually(lambda: agent._places.waiting > 0)
        assert (await match(other, a_specification(), a_window(history, 7999, 16))).decisions
        assert not any(attack.done() for attack in attacks)
        for attack in attacks:
            with pytest.raises(DeadlineExceeded):
                await attack
        await eventually(lambda: not agent._places.taken)
