"""A Failure quotes at most 200 characters of what a peer sent."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from midstreamer.domain.errors import BadInput, RemoteProtocolError
from midstreamer.domain.series import Column, Window
from midstreamer.protocol import codec
from midstreamer.protocol.frames import Append, Match, Request
from tests.support import fleet

LONG = "a" * 1_000_000
WORDS_OF_OURS = 400
"""Maximum length of a Failure's message without the quoted value, in characters."""
POINT, VALUES = bytes(8), bytes(8 * 16)


ASKED: dict[str, Callable[[], Request]] = {
    "series of a column": lambda: Append(columns=(Column(LONG, POINT, POINT),)),
    "universe of a column": lambda: Append(columns=(Column(f"{LONG}/a", POINT, POINT),)),
    "universe of a specification": lambda: Match(
        specification=fleet.a_specification(universe=LONG), windows=()
    ),
    "series of a window": lambda: Match(
        specification=fleet.a_specification(), windows=(Window(LONG, 1, VALUES),)
    ),
    "series of a window that is not finite": lambda: Match(
        specification=fleet.a_specification(), windows=(Window(LONG, 1, b"\xff" * 128),)
    ),
}


@pytest.mark.parametrize("what", ASKED)
async def test_a_megabyte_is_quoted_in_part(what: str) -> None:
    async with fleet.running(agents=("a1",)) as running:
        client = await running.client()
        with pytest.raises(BadInput) as caught:
            await client.ask(ASKED[what](), budget_s=5.0)
    assert len(caught.value.message) <= 200 + WORDS_OF_OURS
    assert caught.value.message.count("a" * 201) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"frame": "Refusal", "code": "x", LONG: 1},
        {"frame": "Append", "level": LONG},
        {"frame": "Append", "columns": [{"series": "a", "times": LONG, "values": LONG}]},
    ],
)
def test_a_frame_that_cannot_be_read_is_quoted_in_part(fields: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        codec.decode(msgspec.msgpack.encode(fields))
    assert len(caught.value.message) <= 200 + WORDS_OF_OURS
