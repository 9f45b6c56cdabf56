"""Encode learning states as bytes and decode them, bit for bit.

The encoding is the number of a layout, followed by the positional fields.
`reasoning.stored_layouts` says how to add a layout. A new arm needs no new layout: the number of
arms in a state follows from the decisions that the state has learned (`reasoning.learning`).
"""

from __future__ import annotations

from midstreamer.domain.state import State
from midstreamer.reasoning.stored_layouts import Layouts, Step

STEPS: tuple[Step, ...] = ()
"""The conversions between layouts of the state: each leads from one layout to the next. There are
none yet, because there is only one layout."""

_layouts = Layouts(State, STEPS)


def encode(state: State) -> bytes:
    """Return the state as bytes; equal states give equal bytes."""
    return _layouts.encode(state)


def decode(data: bytes) -> State:
    """Return the state encoded in ``data``; BadInput when the bytes are not an encoded state."""
    return _layouts.decode(data)
