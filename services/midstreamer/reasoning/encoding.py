"""States to bytes and back, bit for bit: the number of a layout, then the positional fields.

`reasoning.lifting` says how a layout is added.  Arms need none: the width of a state follows from
the decisions it learned (`reasoning.learning`).
"""

from __future__ import annotations

from midstreamer.domain.state import State
from midstreamer.reasoning.lifting import Layouts, Step

STEPS: tuple[Step, ...] = ()
"""From each layout of the state to the next. So far there is one layout."""

_layouts = Layouts(State, STEPS)


def encode(state: State) -> bytes:
    """The state as bytes; equal states give equal bytes."""
    return _layouts.encode(state)


def decode(data: bytes) -> State:
    """The state of such bytes; BadInput when they are something else."""
    return _layouts.decode(data)
