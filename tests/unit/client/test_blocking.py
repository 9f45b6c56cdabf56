"""The blocking client makes the same calls as the asynchronous one, without an event loop."""

from __future__ import annotations

import pytest

from midstreamer.client.api import AsyncClient
from midstreamer.client.blocking import Client
from midstreamer.client.matcher import AdaptivePatternMatcher
from midstreamer.domain.decision import Direction
from midstreamer.domain.errors import BadInput, Conflict
from midstreamer.domain.series import Tick, window
from midstreamer.domain.specification import Specification
from midstreamer.protocol.frames import Appended, Experiences, Matched, Surveyed
from midstreamer.transport.memory import MemoryNetwork
from tests.support.client_builders import QUICK, Script, a_carrier, a_decision, serve

SPECIFICATION = Specification("sp500", window=8)
VALUES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


class Talk:
    """A blocking client and its scripted coordinator, which runs on the client's event loop."""

    def __init__(self, script: Script) -> None:
        network = MemoryNetwork()
        self.client = Client(AsyncClient(a_carrier(network), ["c1:1"], policy=QUICK))
        self._network, self._script = network, script

    def __enter__(self) -> Client:
        self.client.__enter__()
        self._server = self.client.call(serve(self._network, "c1", self._script))
        return self.client

    def __exit__(self, *error: object) -> None:
        self.client.call(self._server.close())
        self.client.close()


def test_every_call_answers_as_the_asynchronous_one() -> None:
    decision = a_decision()
    script = Script(
        Appended(stored=1, position=3),
        Matched(decisions=(decision,), position=4),
        Matched(decisions=(decision,)),
        Experiences(decisions=(decision,)),
        Surveyed(ticks=1),
    )
    with Talk(script) as client:
        assert client.append([Tick("sp500/AAPL", 1, 1.0)]).stored == 1
        assert client.match("sp500/AAPL", 1, VALUES, SPECIFICATION) == decision
        asked = window(VALUES, series="sp500/AAPL", time=1)
        assert client.match_many([asked], SPECIFICATION) == [decision]
        assert client.lookup([decision.experience_id]).decisions == (decision,)
        assert client.survey().ticks == 1
        assert client.position == 4


def test_errors_come_out_where_the_call_was_made() -> None:
    refusal = Script(Conflict("another value"))
    with Talk(refusal) as client, pytest.raises(Conflict, match="another value"):
        client.append([Tick("sp500/AAPL", 1, 1.0)])


def test_a_closed_client_says_so_and_closes_twice() -> None:
    with Talk(Script(Surveyed())) as client:
        client.survey()
    client.close()
    with pytest.raises(BadInput, match="with Client"):
        client.survey()


def test_the_matcher_gives_a_signal_with_its_evidence() -> None:
    decision = a_decision(direction=Direction.LONG)
    with Talk(Script(Matched(decisions=(decision,)))) as client:
        matcher = AdaptivePatternMatcher(client, SPECIFICATION)
        signal = matcher.match_pattern(VALUES, series="sp500/AAPL", time=1)
    assert signal is not None
    assert (signal.direction, signal.confidence) == (Direction.LONG, 0.6)
    assert (signal.low, signal.change, signal.high) == (-0.02, 0.01, 0.03)
    assert signal.experience_id == decision.experience_id
    assert [match.series for match in signal.matches] == ["sp500/XOM", "sp500/GE"]
    assert matcher.specification == SPECIFICATION


def test_the_matcher_is_silent_and_remembers_why() -> None:
    decision = a_decision()
    with Talk(Script(Matched(decisions=(decision,)))) as client:
        matcher = AdaptivePatternMatcher(client, SPECIFICATION)
        assert matcher.match_pattern(VALUES) is None
        assert matcher.last_decision == decision
        with pytest.raises(BadInput, match="give both, or neither"):
            matcher.match_pattern(VALUES, series="sp500/AAPL")
