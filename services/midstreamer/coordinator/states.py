"""The learning states that a coordinator has needed lately, each the newest there is.

There may be far more streams than fit into memory, and most are of no interest here: a state is
asked for when a request first needs it, kept while it is used, and kept current by the change
feed.  What the feed tells of other streams is passed over, with one exception: of a stream whose
state is being asked for everything is taken, since the answer may be older than what the feed
tells meanwhile.  The newer version counts, wherever it came from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from midstreamer import reasoning
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.protocol.frames import Change, Learned

ENTRY_BYTES = 1024
"""Counted for each stream beside its state: one that has learned nothing takes room as well, and
anybody may ask about new ones without end."""


@dataclass
class _Known:
    """A stream's newest state; ``state`` is None until somebody asks."""

    version: int
    data: bytes
    state: State | None = None

    @property
    def size(self) -> int:
        """Bytes counted for it."""
        return ENTRY_BYTES + len(self.data)


@dataclass
class _Expected:
    """A stream whose state was asked for, and what the feed has told of it since."""

    told: Learned | None = None


class States:
    """A cache of states, bounded in bytes; the last one used always stays."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._expected: dict[str, _Expected] = {}
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes counted for the states kept."""
        return self._bytes

    def clear(self) -> None:
        """Changes were missed: forget everything, and do not believe answers to come."""
        self._known.clear()
        self._expected.clear()
        self._bytes = 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Take what was learned of the streams of interest."""
        for change in changes:
            if not isinstance(change, Learned):
                continue
            known, expected = self._known.get(change.stream), self._expected.get(change.stream)
            if known is not None and change.version > known.version:
                self._keep(change)
            elif expected is not None:
                expected.told = _newer(expected.told, change)

    def expect(self, stream: str) -> _Expected:
        """A stream's state is about to be asked for; what this gives back goes with the answer."""
        return self._expected.setdefault(stream, _Expected())

    def recalled(self, expected: _Expected, answer: Learned) -> None:
        """The answer came; passed over when all was forgotten meanwhile."""
        if self._expected.get(answer.stream) is expected:
            del self._expected[answer.stream]
            self._keep(_newer(expected.told, answer))

    def unexpected(self, stream: str, expected: _Expected) -> None:
        """No answer will come."""
        if self._expected.get(stream) is expected:
            del self._expected[stream]

    def state(self, specification: Specification) -> State | None:
        """The newest state of a specification's stream; None when it has to be asked for."""
        known = self._known.get(specification.stream)
        if known is None:
            return None
        self._known.move_to_end(specification.stream)
        if known.version == 0:
            return reasoning.initial(specification)
        if known.state is None:
            known.state = reasoning.decode(known.data)
        return known.state

    def _keep(self, learned: Learned) -> None:
        known = self._known.get(learned.stream)
        if known is None:
            known = self._known[learned.stream] = _Known(learned.version, learned.state)
        else:
            # In its place: being told of is not being used.
            self._bytes -= known.size
            known.version, known.data, known.state = learned.version, learned.state, None
        self._bytes += known.size
        while self._bytes > self._bytes_max and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= oldest.size


def _newer(told: Learned | None, other: Learned) -> Learned:
    return told if told is not None and told.version > other.version else other
